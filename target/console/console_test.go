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
	if word == "ready" || word == "status" {
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
		{in: "", words: "ready"},
		{in: "\n  \n", out: Prompt + Prompt, words: "ready"},
		{in: "help\n", out: help + Prompt, words: "ready"},
		{in: " status \n", out: "<status>\n" + Prompt, words: "ready status"},
		{in: "sh\n", out: "unknown command \"sh\": type help for what can be done here\n" + Prompt, words: "ready"},
		{in: "ready\n", out: "unknown command \"ready\": type help for what can be done here\n" + Prompt, words: "ready"},
		{in: "\x1b[A\n", out: "unknown command \"\\x1b[A\": type help for what can be done here\n" + Prompt, words: "ready"},
		{in: "reboot\nstatus\n", words: "ready reboot", fails: true},
		{in: "poweroff\n", words: "ready poweroff", fails: true},
		{in: strings.Repeat("x", 70000) + "\n", words: "ready", fails: true},
	} {
		var out strings.Builder
		s := &supervisor{}
		err := Run(strings.NewReader(test.in), &out, s)
		want := "\n<ready>\n\nType help for what can be done here.\n" + Prompt + test.out
		if out.String() != want || strings.Join(s.words, " ") != test.words || (err != nil) != test.fails {
			t.Errorf("Run(%.20q) = %q, asked %q, %v, want %q, %q, fails %t", test.in, out.String(), s.words, err, want, test.words, test.fails)
		}
	}
	if err := Run(strings.NewReader(""), io.Discard, deaf{}); err == nil {
		t.Error("Run without a supervisor = nil")
	}
}

type deaf struct{}

func (deaf) Write([]byte) (int, error) { return 0, errors.New("nobody there") }
func (deaf) Read([]byte) (int, error)  { return 0, io.EOF }
