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

func TestForged(t *testing.T) {
	for _, test := range []struct {
		text   string
		device string
		sector uint64
		ok     bool
	}{
		{"device-mapper: crypt: dm-2: INTEGRITY AEAD ERROR, sector 262144", "dm-2", 262144, true},
		{"trusted_key: device-mapper: crypt: dm-2: INTEGRITY AEAD ERROR, sector 0", "dm-2", 0, true},
		{"user: device-mapper: crypt: dm-2: INTEGRITY AEAD ERROR, sector 0", "", 0, false},
		{"device-mapper: crypt: dm-2: INTEGRITY AEAD ERROR, sector x", "", 0, false},
		{"device-mapper: crypt: ../x: INTEGRITY AEAD ERROR, sector 1", "", 0, false},
		{"device-mapper: verity: dm-2: corrupted", "", 0, false},
	} {
		device, sector, ok := Record{Text: test.text}.Forged()
		if device != test.device || sector != test.sector || ok != test.ok {
			t.Errorf("Forged(%q) = %q, %d, %t, want %q, %d, %t", test.text, device, sector, ok, test.device, test.sector, test.ok)
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
