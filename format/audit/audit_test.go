package audit

import (
	"strings"
	"testing"
)

const seccomp = `audit(1795471200.123:7): auid=4294967295 uid=901 gid=901 ses=4294967295 pid=88 comm="console" sig=31 arch=c000003e syscall=101`

func TestParse(t *testing.T) {
	want := Record{1326, seccomp}
	whole := want.Print()
	short := append([]byte{byte(len(seccomp)), 0, 0, 0}, whole[4:]...) // as kauditd counts
	for _, b := range [][]byte{whole, short, append(whole[:len(whole):len(whole)], 0)} {
		if got, err := Parse(b); got != want || err != nil {
			t.Errorf("Parse(%q) = %+v, %v, want %+v", b, got, err, want)
		}
	}
	long := append([]byte{}, whole...)
	long[1] = 0xff
	for name, b := range map[string][]byte{
		"empty": nil, "short": whole[:15], "length": long,
		"no stamp": Record{1326, "uid=901"}.Print(),
		"too long": Record{1, "audit(1.000:1): " + strings.Repeat("a", maxText)}.Print(),
		"no text":  Record{1, "audit(1.000:1): \xff"}.Print(),
	} {
		if got, err := Parse(b); err == nil {
			t.Errorf("%s: Parse() = %+v, want an error", name, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Record{1326, seccomp}.Print())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Parse(b)
		if err != nil {
			return
		}
		if again, err := Parse(r.Print()); again != r || err != nil {
			t.Errorf("Parse(Print(%+v)) = %+v, %v", r, again, err)
		}
	})
}
