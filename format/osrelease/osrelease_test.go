package osrelease

import (
	"reflect"
	"testing"
)

func TestParse(t *testing.T) {
	for _, test := range []struct {
		in   string
		want Release
		ok   bool
	}{
		{"ID=cloison\n# why\n\nPRETTY_NAME=\"Cloison 0.1.0\"\n", Release{{"ID", "cloison"}, {"PRETTY_NAME", "Cloison 0.1.0"}}, true},
		{"ID=\n", Release{{"ID", ""}}, true},
		{"ID=a b\n", nil, false},
		{"ID=\"$(x)\"\n", nil, false},
		{"ID=\"a\n", nil, false},
		{"ID=a\nID=b\n", nil, false},
		{"id=a\n", nil, false},
		{"=a\n", nil, false},
		{"ID\n", nil, false},
	} {
		got, err := Parse(test.in)
		if !reflect.DeepEqual(got, test.want) || (err == nil) != test.ok {
			t.Errorf("Parse(%q) = %q, %v, want %q, ok %t", test.in, got, err, test.want, test.ok)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("ID=cloison\nNAME=\"A b\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse(text)
		if err != nil {
			return
		}
		if again, err := Parse(r.String()); err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("Parse(%q) = %q, %v, want %q", r.String(), again, err, r)
		}
	})
}
