package packagelist

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	zero = strings.Repeat("0", 64)
	one  = strings.Repeat("1", 64)
)

func TestParse(t *testing.T) {
	for _, test := range []struct {
		in   string
		want []Package
		err  string
	}{
		{in: ""},
		{in: "a 1 all " + zero + "\nb 1:2-3 amd64 " + one + "\n", want: []Package{{"a", "1", "all", zero}, {"b", "1:2-3", "amd64", one}}},
		{in: "# comment\na 1 all " + zero + "\n", want: []Package{{"a", "1", "all", zero}}},
		{in: "a 1 all\n", err: "line 1 is not NAME VERSION ARCHITECTURE SHA256"},
		{in: "a  1 " + zero + "\n", err: "line 1 is not NAME VERSION ARCHITECTURE SHA256"},
		{in: "a 1 all 00\n", err: `line 1: "00" is not a SHA-256 in lower-case hex`},
		{in: "b 1 all " + zero + "\na 1 all " + zero + "\n", err: "line 2: a is out of order"},
		{in: "a 1 all " + zero + "\na 2 all " + zero + "\n", err: "line 2: a is out of order"},
	} {
		got, err := Parse([]byte(test.in))
		message := ""
		if err != nil {
			message = err.Error()
		}
		if message != test.err {
			t.Errorf("Parse(%q) fails with %q, want %q", test.in, message, test.err)
		}
		if diff := cmp.Diff(test.want, got); err == nil && diff != "" {
			t.Errorf("Parse(%q), -want +got:\n%s", test.in, diff)
		}
	}
}

func TestDifference(t *testing.T) {
	locked := []Package{{"a", "1", "all", zero}, {"b", "1", "all", zero}, {"c", "1", "all", zero}, {"d", "1", "all", zero}}
	suite := []Package{{"a", "1", "all", zero}, {"b", "2", "all", one}, {"c", "1", "all", one}, {"e", "1", "all", zero}}
	want := []string{
		"b 1 is locked, the suite has 2",
		"c 1 is locked with another SHA-256 than the suite has",
		"d 1 is locked, the suite has none",
		"e 1 is not locked",
	}
	if diff := cmp.Diff(want, Difference(locked, suite)); diff != "" {
		t.Errorf("Difference, -want +got:\n%s", diff)
	}
	if got := Difference(locked, locked); len(got) != 0 {
		t.Errorf("Difference(x, x) = %q, want none", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("a 1 all " + zero + "\nb 1:2-3 amd64 " + one + "\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		list, err := Parse(in)
		if err != nil || bytes.Contains(in, []byte("#")) {
			return
		}
		again, err := Parse(Print(list))
		if diff := cmp.Diff(list, again); err != nil || diff != "" {
			t.Errorf("Parse(Print(Parse(%q))): %v, -want +got:\n%s", in, err, diff)
		}
	})
}
