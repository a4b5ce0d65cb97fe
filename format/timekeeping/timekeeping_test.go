package timekeeping

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"
)

func TestParseConfig(t *testing.T) {
	for _, test := range []struct {
		text string
		want []string
	}{
		{"servers = []\n", []string{}},
		{
			`servers = ["192.0.2.1", "192.0.2.1:1123", "2001:db8::1", "[2001:db8::1]:123", "ntp.example.org", "a:1", "time-1.example:65535"]`,
			[]string{"192.0.2.1", "192.0.2.1:1123", "2001:db8::1", "[2001:db8::1]:123", "ntp.example.org", "a:1", "time-1.example:65535"},
		},
	} {
		got, err := ParseConfig([]byte(test.text))
		if diff := cmp.Diff(Config{test.want}, got); err != nil || diff != "" {
			t.Errorf("ParseConfig(%s): %v, -want +got:\n%s", test.text, err, diff)
		}
	}
}

func TestParseConfigRefuses(t *testing.T) {
	const form = "which is neither an address nor a host name, with a port or without"
	for _, test := range []struct{ text, want string }{
		{"", "servers is missing: an empty list says that there are none"},
		{"servers = []\nserver = 1\n", "line 2: unknown key [server]"},
		{`servers = ["a", "a"]`, `servers has "a" twice: one server has one vote`},
		{`servers = [""]`, `servers has "", ` + form},
		{`servers = ["192.0.2.256"]`, `servers has "192.0.2.256", ` + form},
		{`servers = ["a b"]`, `servers has "a b", ` + form},
		{`servers = ["a:0"]`, `servers has "a:0": its port is not 1 to 65535`},
		{`servers = ["a:0123"]`, `servers has "a:0123": its port is not 1 to 65535`},
		{`servers = ["a:65536"]`, `servers has "a:65536": its port is not 1 to 65535`},
		{`servers = ["[192.0.2.1]:123"]`, `servers has "[192.0.2.1]:123", ` + form},
		{`servers = ["[2001:db8::1]"]`, `servers has "[2001:db8::1]": its port is not 1 to 65535`},
		{`servers = [` + strings.Repeat(`"a",`, 17) + `]`, "servers has 17 entries, at most 16"},
	} {
		if _, err := ParseConfig([]byte(test.text)); err == nil || err.Error() != test.want {
			t.Errorf("ParseConfig(%s) = %v, want %s", test.text, err, test.want)
		}
	}
}

func TestParseStamp(t *testing.T) {
	want := Stamp{time.Unix(1795392001, 0).UTC(), time.Unix(1795392000, 0).UTC()}
	got, err := ParseStamp("clock=1795392001\nconfirmed=1795392000\n")
	if err != nil || got != want {
		t.Errorf("ParseStamp = %v, %v, want %v", got, err, want)
	}
	for _, text := range []string{
		"", "clock=1\n", "clock=1\nconfirmed=2\n", "clock=01\nconfirmed=0\n", "clock=-1\nconfirmed=0\n",
		"clock=1\nconfirmed=0", "clock=1\nconfirmed=0\n\n", "confirmed=0\nclock=1\n", "clock=1234567890123\nconfirmed=0\n",
	} {
		if s, err := ParseStamp(text); err == nil {
			t.Errorf("ParseStamp(%q) = %v, want an error", text, s)
		}
	}
}

// TestAddresses compares with the standard library, which package format may
// not import.
func TestAddresses(t *testing.T) {
	for _, s := range []string{
		"", "1.2.3.4", "1.2.3", "1.2.3.4.5", "01.2.3.4", "256.2.3.4", "1.2.3.-4", "1.2.3.4 ", "+1.2.3.4",
		"::", "::1", "1::", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::8", "1::2::3", ":1", "1:", ":::", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8",
		"12345::", "g::", "2001:db8::1", "2001:DB8::1", "1:2:3:4::5:6:7:8", "a", "::1:", ":::1",
	} {
		a, err := netip.ParseAddr(s)
		if want := err == nil && a.Is4(); isIPv4(s) != want {
			t.Errorf("isIPv4(%q) = %t, want %t", s, !want, want)
		}
		if want := err == nil && a.Is6(); isIPv6(s) != want {
			t.Errorf("isIPv6(%q) = %t, want %t", s, !want, want)
		}
	}
}

func FuzzParseStamp(f *testing.F) {
	f.Add("clock=1795392001\nconfirmed=0\n")
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := ParseStamp(text); err == nil && s.String() != text {
			t.Errorf("ParseStamp(%q) prints as %q", text, s)
		}
	})
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`servers = ["192.0.2.1", "[2001:db8::1]:123", "ntp.example.org:4"]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ParseConfig(text)
		if err != nil {
			return
		}
		printed, err := toml.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseConfig(printed)
		if diff := cmp.Diff(c, again); err != nil || diff != "" {
			t.Errorf("ParseConfig(Marshal(%q)): %v, -want +got:\n%s", c, err, diff)
		}
	})
}
