package reasoned

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for _, test := range []struct {
		in   string
		want []Item
		err  string
	}{
		{in: ""},
		{in: "# only a comment\n\n"},
		{in: "A=y  # needed\n", want: []Item{{"A=y", "needed", 1}}},
		{in: "# list\nA=\"x y\" # two # marks\n", want: []Item{{`A="x y"`, "two # marks", 2}}},
		{in: "A=y\n", err: `list:1: "A=y" has no reason beside it`},
		{in: "A=y #\n", err: `list:1: "A=y" has no reason beside it`},
		{in: "A # a\nB # b\nA # c\n", err: `list:3: "A" stands on line 1 already`},
	} {
		got, err := Parse("list", strings.NewReader(test.in))
		if message := text(err); message != test.err {
			t.Errorf("Parse(%q) fails with %q, want %q", test.in, message, test.err)
		}
		if diff := cmp.Diff(test.want, got); err == nil && diff != "" {
			t.Errorf("Parse(%q), -want +got:\n%s", test.in, diff)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("A=y  # needed\n# c\n\nB # \"x\" # y\n")
	f.Fuzz(func(t *testing.T, in string) {
		items, err := Parse("list", strings.NewReader(in))
		if err != nil {
			return
		}
		var printed strings.Builder
		for _, item := range items {
			fmt.Fprintf(&printed, "%s # %s\n", item.Text, item.Reason)
		}
		again, err := Parse("list", strings.NewReader(printed.String()))
		if err != nil {
			t.Fatalf("Parse(%q), printed from %q: %v", printed.String(), in, err)
		}
		for i := range items {
			items[i].Line, again[i].Line = 0, 0
		}
		if diff := cmp.Diff(items, again); diff != "" {
			t.Errorf("Parse(print(Parse(%q))), -want +got:\n%s", in, diff)
		}
	})
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
