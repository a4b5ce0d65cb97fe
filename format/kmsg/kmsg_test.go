package kmsg

import (
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for _, test := range []struct {
		in        string
		want      Record
		corrected bool
		ok        bool
	}{
		{
			in:        "4,401,1234567,-;device-mapper: verity-fec: 254:2: FEC 20480: corrected 4096 errors\n SUBSYSTEM=block\n",
			want:      Record{4, 401, 1234567 * time.Microsecond, "device-mapper: verity-fec: 254:2: FEC 20480: corrected 4096 errors"},
			corrected: true, ok: true,
		},
		{in: "30,2,3,-,caller=T1;user: hello", want: Record{6, 2, 3 * time.Microsecond, "user: hello"}, ok: true},
		{in: "4,1,1,-;user: device-mapper: verity-fec: x: corrected 1", want: Record{4, 1, time.Microsecond, "user: device-mapper: verity-fec: x: corrected 1"}, ok: true},
		{in: "4,1,1;text"},
		{in: "x,1,1,-;text"},
		{in: ""},
	} {
		got, err := Parse(test.in)
		if got != test.want || got.Corrected() != test.corrected || (err == nil) != test.ok {
			t.Errorf("Parse(%q) = %+v, %v, want %+v, corrected %t, ok %t", test.in, got, err, test.want, test.corrected, test.ok)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("4,401,1234567,-;device-mapper: verity-fec: 254:2: FEC 20480: corrected 4096 errors\n")
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := Parse(s); err == nil && (r.Level < 0 || r.Level > 7) {
			t.Fatalf("Parse(%q) = level %d", s, r.Level)
		}
	})
}
