package console

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// supervisor answers each word with a text of its own, and ends the
// conversation at a word that ends the machine.
type supervisor struct {
	words []string
	queue []string
}

func (s *supervisor) Write(b []byte) (int, error) {
	word := string(b)
	s.words = append(s.words, word)
	if word == "begin" || word == "status" {
		s.queue = append(s.queue, "<"+word+">\n")
	}
	return len(b), nil
}

func (s *supervisor) Read(b []byte) (int, error) {
	if len(s.queue) == 0 {
		return 0, io.EOF
	}
	n := copy(b, s.queue[0])
	s.queue = s.queue[1:]
	return n, nil
}

func TestRun(t *testing.T) {
	for _, test := range []struct {
		in, out, words string
		fails          bool
	}{
		{in: "", words: "begin"},
		{in: "\n  \n", out: Prompt + Prompt, words: "begin"},
		{in: "help\n", out: help + Prompt, words: "begin"},
		{in: " status \n", out: "<status>\n" + Prompt, words: "begin status"},
		{in: "log\n", out: "one\ntwo\n" + Prompt, words: "begin"},
		{in: "sh\n", out: "unknown command \"sh\": type help for what can be done here\n" + Prompt, words: "begin"},
		{in: "begin\n", out: "unknown command \"begin\": type help for what can be done here\n" + Prompt, words: "begin"},
		{in: "\x1b[A\n", out: "unknown command \"\\x1b[A\": type help for what can be done here\n" + Prompt, words: "begin"},
		{in: "reboot\nstatus\n", words: "begin reboot", fails: true},
		{in: "poweroff\n", words: "begin poweroff", fails: true},
		{in: strings.Repeat("x", 70000) + "\n", words: "begin", fails: true},
	} {
		var out strings.Builder
		s := &supervisor{}
		told := 0
		c := Console{strings.NewReader(test.in), &out, s, func() ([]string, error) { return []string{"one", "two"}, nil }}
		err := c.Run(func() error { told++; return nil })
		if told != 1 {
			t.Errorf("Run(%.20q) was ready %d times", test.in, told)
		}
		want := "\n<begin>\n\nType help for what can be done here.\n" + Prompt + test.out
		if out.String() != want || strings.Join(s.words, " ") != test.words || (err != nil) != test.fails {
			t.Errorf("Run(%.20q) = %q, asked %q, %v, want %q, %q, fails %t", test.in, out.String(), s.words, err, want, test.words, test.fails)
		}
	}
	if err := (Console{strings.NewReader(""), io.Discard, deaf{}, nil}).Run(func() error { return nil }); err == nil {
		t.Error("Run without a supervisor = nil")
	}
	var out strings.Builder
	c := Console{strings.NewReader("log\n"), &out, &supervisor{}, func() ([]string, error) { return nil, errors.New("no log") }}
	if err := c.Run(func() error { return nil }); err != nil || !strings.Contains(out.String(), "no log\n"+Prompt) {
		t.Errorf("Run without a log = %v, said %q", err, out.String())
	}
}

type deaf struct{}

func (deaf) Write([]byte) (int, error) { return 0, errors.New("nobody there") }
func (deaf) Read([]byte) (int, error)  { return 0, io.EOF }
