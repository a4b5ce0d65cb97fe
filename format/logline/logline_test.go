package logline

import (
	"strings"
	"testing"
	"time"
)

func TestPrint(t *testing.T) {
	when := time.Date(2026, 11, 23, 22, 4, 5, 6000, time.UTC)
	for _, c := range []struct{ text, want string }{
		{"plain, and größer", "plain, and größer"},
		{"a\nb\r\x00\x1b[31m", `a\x0ab\x0d\x00\x1b[31m`},
		{`back\slash`, `back\\slash`},
		{"\xff\u202e", `\xff\xe2\x80\xae`},
		{"", ""},
		{strings.Repeat("a", MaxText-1) + "é", strings.Repeat("a", MaxText-1)},
	} {
		l := Line{when, "service/console", c.text}
		want := "2026-11-23T22:04:05.000006Z service/console " + c.want + "\n"
		if got := l.Print(); got != want {
			t.Errorf("Print(%q) = %q, want %q", c.text, got, want)
		}
		again, err := Parse(want)
		if err != nil || !again.Time.Equal(when) || again.From != l.From || !strings.HasPrefix(c.text, again.Text) {
			t.Errorf("Parse(%q) = %+v, %v", want, again, err)
		}
	}
	for _, wrong := range []string{
		"", "\n", "2026-11-23T22:04:05.000006Z kernel x", "2026-11-23T22:04:05.00006Z kernel x\n", "2026-11-23T22:04:05.000006Z init x\n",
		"2026-11-23T22:04:05.000006Z service/ x\n", "2026-11-23T22:04:05.000006Z kernel\n", "2026-11-23T22:04:05.000006Z kernel \\x41\n",
		"2026-11-23T22:04:05.000006Z kernel a\nb\n", "2026-11-23T22:04:05.000006Z kernel \\\n", "2026-13-23T22:04:05.000006Z kernel x\n",
	} {
		if got, err := Parse(wrong); err == nil {
			t.Errorf("Parse(%q) = %+v, want an error", wrong, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("2026-11-23T22:04:05.000006Z service/console a\\x0ab\\\\\n")
	f.Fuzz(func(t *testing.T, s string) {
		if l, err := Parse(s); err == nil && l.Print() != s {
			t.Errorf("Print(Parse(%q)) = %q", s, l.Print())
		}
	})
}

func FuzzPrint(f *testing.F) {
	f.Add("a\x00b\\xff\u202e")
	f.Fuzz(func(t *testing.T, text string) {
		l := Line{time.Unix(0, 0), "kernel", text}
		printed := l.Print()
		if strings.Count(printed, "\n") != 1 {
			t.Errorf("Print(%q) = %q, want one line", text, printed)
		}
		if again, err := Parse(printed); err != nil || !strings.HasPrefix(text, again.Text) {
			t.Errorf("Parse(%q) = %+v, %v", printed, again, err)
		}
	})
}
