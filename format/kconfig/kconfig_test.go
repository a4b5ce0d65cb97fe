package kconfig

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func parse(t *testing.T, name, text string) []Option {
	t.Helper()
	options, err := Parse(name, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return options
}

func TestParse(t *testing.T) {
	want := []Option{
		{"SMP", "y", "f:2"}, {"NR_CPUS", "64", "f:3"}, {"LSM", `"a,b"`, "f:4"}, {"64BIT", "n", "f:5"}, {"PANIC_TIMEOUT", "-1", "f:6"},
	}
	got := parse(t, "f", "# c\nSMP=y # r\nNR_CPUS=64 # r\nLSM=\"a,b\" # r\n64BIT=n # r\nPANIC_TIMEOUT=-1 # r\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Parse, -want +got:\n%s", diff)
	}
	for _, bad := range []string{"SMP", "SMP=yes", "smp=y", "CONFIG_X =y", `X="a`, "X=", "=y"} {
		if _, err := Parse("f", strings.NewReader(bad+" # r\n")); err == nil || !strings.HasPrefix(err.Error(), "f:1: ") {
			t.Errorf("Parse(%q) = %v, want an error at f:1", bad, err)
		}
	}
}

func TestJoin(t *testing.T) {
	_, err := Join(parse(t, "f", "A=y # r\n"), parse(t, "g", "B=y # r\nA=y # r\n"))
	if want := "g:2: A stands in f:1 already"; err == nil || err.Error() != want {
		t.Errorf("Join = %v, want %s", err, want)
	}
}

func TestLost(t *testing.T) {
	options := parse(t, "f", "A=y # r\nB=n # r\nC=y # r\nD=n # r\nE=n # r\nF=y # r\nG=\"x\" # r\n")
	known := map[string]bool{}
	Symbols([]byte("config A\n\tbool\nconfig B\nmenuconfig C\nconfig D\n  config F\nconfig G\n# config E\n"), known)
	got, err := Lost(options, strings.NewReader("CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_D=y\nCONFIG_F=m\nCONFIG_G=\"x\"\n"), known)
	want := []string{
		"f:3: C=y became n",
		"f:4: D=n became y",
		"f:5: E does not exist in this kernel",
		"f:6: F=y became m",
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("Lost: %v, -want +got:\n%s", err, diff)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("A=y # r\nB=n # r\nC=\"s\" # r\nD=0x10 # r\n")
	f.Fuzz(func(t *testing.T, in string) {
		options, err := Parse("f", strings.NewReader(in))
		if err != nil {
			return
		}
		known := map[string]bool{}
		for _, option := range options {
			known[option.Name] = true
		}
		if _, err := Join(options); err != nil {
			return
		}
		if lost, err := Lost(options, strings.NewReader(string(Print(options))), known); err != nil || len(lost) > 0 {
			t.Errorf("Lost(%q, Print of it) = %q, %v", in, lost, err)
		}
	})
}
