package filelist

import (
	"slices"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
		ok   bool
	}{
		{"", nil, true},
		{"a\n", []string{"a"}, true},
		{"lib64/ld.so\nusr/sbin/x\n", []string{"lib64/ld.so", "usr/sbin/x"}, true},
		{"a", nil, false},
		{"a\n\n", nil, false},
		{"b\na\n", nil, false},
		{"a\na\n", nil, false},
		{"/a\n", nil, false},
		{"a/../b\n", nil, false},
		{"a b\n", nil, false},
		{".\n", nil, false},
		{"a\r\n", nil, false},
	} {
		got, err := Parse(c.text)
		if (err == nil) != c.ok || !slices.Equal(got, c.want) {
			t.Errorf("Parse(%q) = %q, %v, want %q, ok %t", c.text, got, err, c.want, c.ok)
		}
	}
}

func TestPrint(t *testing.T) {
	got, err := Print([]string{"usr/sbin/x", "lib64/ld.so"})
	if want := "lib64/ld.so\nusr/sbin/x\n"; got != want || err != nil {
		t.Errorf("Print() = %q, %v, want %q", got, err, want)
	}
	if _, err := Print([]string{"a", "a"}); err == nil {
		t.Error("Print() accepts a path twice")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("lib64/ld.so\nusr/sbin/x\n")
	f.Add("a\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		paths, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Print(paths)
		if err != nil || again != text {
			t.Errorf("Print(Parse(%q)) = %q, %v", text, again, err)
		}
	})
}
