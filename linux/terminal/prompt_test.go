package terminal

import (
	"io"
	"strings"
	"testing"
)

// keys are typed; what is shown is kept.
type keys struct {
	io.Reader
	shown strings.Builder
}

func (k *keys) Write(b []byte) (int, error) { return k.shown.Write(b) }

func TestEdit(t *testing.T) {
	for _, test := range []struct {
		typed       string
		secret      bool
		line, shown string
		end         error
		rest        string
	}{
		{typed: "yes\r", line: "yes", shown: "yes\r\n"},
		{typed: "yes\n", line: "yes", shown: "yes\r\n"},
		{typed: "a-b\r", secret: true, line: "a-b", shown: "***\r\n"},
		{typed: "ab\x7fc\b\r", secret: true, line: "a", shown: "**\b \b*\b \b\r\n"},
		{typed: "\x7f\r", line: "", shown: "\a\r\n"},
		{typed: "no\x15yes\r", line: "yes", shown: "no\b \b\b \byes\r\n"},
		{typed: "no\x03\r", line: "", shown: "no\b \b\b \b\r\n"},
		{typed: "\x1b[A\r", line: "[A", shown: "\a[A\r\n"},
		{typed: "\xc3\xa9\x00\t\r", line: "", shown: "\a\a\a\a\r\n"},
		{typed: strings.Repeat("x", maxLine+2) + "\r", line: strings.Repeat("x", maxLine), shown: strings.Repeat("x", maxLine) + "\a\a\r\n"},
		{typed: "one\rtwo\r", line: "one", shown: "one\r\n", rest: "two\r"},
		{typed: "cut", end: io.EOF, shown: "cut"},
	} {
		k := &keys{Reader: strings.NewReader(test.typed)}
		line, err := edit(k, test.secret)
		if line != test.line || err != test.end || k.shown.String() != test.shown {
			t.Errorf("edit(%q) = %q, %v, shows %q, want %q, %v, %q", test.typed, line, err, k.shown.String(), test.line, test.end, test.shown)
		}
		if rest, _ := io.ReadAll(k.Reader); string(rest) != test.rest && test.end == nil {
			t.Errorf("edit(%q) leaves %q, want %q", test.typed, rest, test.rest)
		}
	}
}

func TestIsPrinting(t *testing.T) {
	for stat, want := range map[string]bool{
		"31 (pr/ttyS0) R 2 0 0 0 -1 2129984 0":   true,
		"31 (pr/ttyS0) S 2 0 0 0 -1 2129984 0":   false,
		"31 (pr/ttyS0) R 1 0 0 0 -1 2129984 0":   false, // a process that calls itself so
		"31 (kworker/0:1) R 2 0 0 0 -1 69238880": false,
		"31 (pr/) x) D 2 0":                      true,
		"31 (pr/ttyS0":                           false,
		"31 (pr/ttyS0) R":                        false,
		"":                                       false,
	} {
		if got := isPrinting(stat); got != want {
			t.Errorf("isPrinting(%q) = %t, want %t", stat, got, want)
		}
	}
}
