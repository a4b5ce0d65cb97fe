package profile

import (
	"encoding/hex"
	"testing"

	"cloison/format/osrelease"
)

func TestParse(t *testing.T) {
	for _, p := range All {
		if got, err := Parse([]byte(p.String())); got != p || err != nil {
			t.Errorf("Parse(%q) = %v, %v, want %v", p, got, err, p)
		}
	}
	for _, text := range []string{"", "ID=main", "ID=main\n\n", "ID=Main\n", "ID=main\nTITLE=recovery\n", "TITLE=recovery\nID=recovery\n", "ID=recovery\n"} {
		if p, err := Parse([]byte(text)); err == nil || p != Recovery {
			t.Errorf("Parse(%q) = %v, %v, want an error", text, p, err)
		}
	}
}

func TestOSRelease(t *testing.T) {
	of := osrelease.Release{{Key: "ID", Value: "cloison"}, {Key: "IMAGE_ID", Value: "cloison-gateway"}}
	for p, want := range map[Profile]string{
		Main:     "ID=cloison\nIMAGE_ID=cloison-gateway\n",
		Recovery: "ID=cloison\nIMAGE_ID=cloison-gateway-recovery\n",
	} {
		if got := p.OSRelease(of).String(); got != want {
			t.Errorf("OSRelease of %q = %q, want %q", p, got, want)
		}
	}
}

// TestPCR12: the value of the recovery profile is what a machine has shown.
func TestPCR12(t *testing.T) {
	for p, want := range map[Profile]string{
		Main:     "0000000000000000000000000000000000000000000000000000000000000000",
		Recovery: "43748966918e643dd9cafae7d08280f008126588ff7a6faedc9c38b745a71d66",
	} {
		if got := p.PCR12(); hex.EncodeToString(got[:]) != want {
			t.Errorf("PCR12 of %q = %x, want %s", p, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, p := range All {
		f.Add([]byte(p.String()))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if p, err := Parse(text); err == nil && p.String() != string(text) {
			t.Fatalf("Parse(%q) prints %q", text, p)
		}
	})
}
