package config

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestAddresses compares with the standard library, which package format may not
// import.
func TestAddresses(t *testing.T) {
	match := func(name, s string) bool {
		f := forms[name]
		return f.pattern.MatchString(s) && (f.check == nil || f.check(s))
	}
	for _, s := range []string{
		"", "1.2.3.4", "1.2.3", "1.2.3.4.5", "01.2.3.4", "256.2.3.4", "1.2.3.-4", "1.2.3.4 ", "+1.2.3.4",
		"::", "::1", "1::", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::8", "1::2::3", ":1", "1:", ":::", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8",
		"12345::", "g::", "2001:db8::1", "1:2:3:4::5:6:7:8", "a", "::1:", ":::1", "fe80::1%eth0", "::1.2.3.4",
	} {
		a, err := netip.ParseAddr(s)
		want := err == nil && (a.Is4() || a.Is6() && a.Zone() == "" && !strings.Contains(s, "."))
		if match("address", s) != want {
			t.Errorf("%q is an address: %t, want %t", s, !want, want)
		}
		for _, length := range []string{"0", "24", "32", "33", "128", "129", "01", "-1", ""} {
			text := s + "/" + length
			_, err := netip.ParsePrefix(text)
			if match("prefix", text) != (want && err == nil) {
				t.Errorf("%q is a prefix: %t, and netip says %v", text, match("prefix", text), err)
			}
		}
	}
	for s, want := range map[string]bool{
		"192.0.2.1:1123": true, "2001:db8::1": true, "[2001:db8::1]:123": true, "ntp.example.org": true, "a:1": true, "time-1.example:65535": true,
		"192.0.2.256": false, "a b": false, "a:0": false, "a:0123": false, "a:65536": false, "[192.0.2.1]:123": false, "[2001:db8::1]": false,
		strings.Repeat("a.", 127) + "a": false,
	} {
		if match("server", s) != want {
			t.Errorf("%q is a server: %t, want %t", s, !want, want)
		}
	}
}

func TestUnits(t *testing.T) {
	for s, want := range map[string]time.Duration{"": 0, "1s": time.Second, "90m": 90 * time.Minute, "24h": day, "365d": 365 * day, "99999999d": -1, "5": -1, "xs": -1} {
		if got := Duration(s); got != want {
			t.Errorf("Duration(%q) = %v, want %v", s, got, want)
		}
	}
	for s, want := range map[string]int64{"": 0, "16 MiB": 16 << 20, "1 GiB": 1 << 30, "2048 KiB": 2 << 20, "5": 0, "x MiB": 0} {
		if got := Size(s); got != want {
			t.Errorf("Size(%q) = %d, want %d", s, got, want)
		}
	}
}
