package service

import (
	"reflect"
	"testing"
)

func TestNames(t *testing.T) {
	for _, c := range []struct {
		count, list string
		want        []string
	}{
		{"2", "notify:log", []string{"notify", "log"}},
		{"0", "", nil},
	} {
		if got, err := names(c.count, c.list); !reflect.DeepEqual(got, c.want) || err != nil {
			t.Errorf("names(%q, %q) = %q, %v, want %q", c.count, c.list, got, err, c.want)
		}
	}
	for _, c := range [][2]string{{"", ""}, {"1", ""}, {"1", "a:b"}, {"x", "a"}, {"-1", ""}} {
		if got, err := names(c[0], c[1]); err == nil {
			t.Errorf("names(%q, %q) = %q, want an error", c[0], c[1], got)
		}
	}
}

func TestPeers(t *testing.T) {
	want := map[uint32]string{901: "console", 903: "timed"}
	if got, err := peers("console=901,timed=903"); !reflect.DeepEqual(got, want) || err != nil {
		t.Errorf("peers() = %v, %v, want %v", got, err, want)
	}
	for _, wrong := range []string{"console", "console=", "=901", "console=0", "console=901,", "a=901,b=901", "a=-1"} {
		if got, err := peers(wrong); err == nil {
			t.Errorf("peers(%q) = %v, want an error", wrong, got)
		}
	}
}
