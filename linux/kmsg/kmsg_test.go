package kmsg

import (
	"strings"
	"testing"
)

type sink struct{ strings.Builder }

func (*sink) Close() error { return nil }

func TestPrintf(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"cloison: ready", "<12>cloison: ready\n"},
		{"a\n<0>b\x1b[2J", "<12>a <0>b [2J\n"}, // one record, whatever is in it
		{strings.Repeat("x", 2000), "<12>" + strings.Repeat("x", maxLine-3) + "…\n"},
	} {
		s := &sink{}
		if err := (&Log{s}).Printf(Warning, "%s", test.in); err != nil || s.String() != test.want {
			t.Errorf("Printf(%.20q) = %q, %v, want %q", test.in, s.String(), err, test.want)
		}
	}
}
