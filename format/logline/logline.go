// Package logline prints and parses one line of the log: when, from whom, what.
// It needs text. The form is Cloison's own (docs/formats.md): nothing that a
// service writes can look like another's line, or like two.
package logline

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxText is the longest text of a line, in bytes before it is escaped.
const MaxText = 1024

// stamp is UTC, with microseconds, of one width.
const stamp = "2006-01-02T15:04:05.000000Z"

// Line is one line of the log.
type Line struct {
	Time time.Time // to the microsecond
	From string    // "kernel", "audit" or "service/NAME"
	Text string
}

// Print prints it, with the line feed at its end. A text that is too long is
// cut; bytes that are no printable UTF-8 are escaped.
func (l Line) Print() string {
	text := l.Text
	if len(text) > MaxText {
		n := MaxText
		for n > MaxText-utf8.UTFMax && !utf8.RuneStart(text[n]) {
			n--
		}
		text = text[:n]
	}
	return l.Time.UTC().Format(stamp) + " " + l.From + " " + escape(text) + "\n"
}

func escape(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == '\\':
			b.WriteString(`\\`)
		case r == utf8.RuneError && n == 1, !printable(r):
			for i := range n {
				fmt.Fprintf(&b, `\x%02x`, s[i])
			}
		default:
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// printable: no control character, and nothing that turns the direction of
// writing or hides.
func printable(r rune) bool {
	switch {
	case r < ' ', r >= 0x7f && r < 0xa0, r == 0xad, r >= 0x200b && r <= 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2060 && r <= 0x206f, r == 0xfeff, r >= 0xe0000:
		return false
	}
	return true
}

// Parse reads what Print has printed, and nothing else.
func Parse(line string) (Line, error) {
	text, ended := strings.CutSuffix(line, "\n")
	when, rest, ok1 := strings.Cut(text, " ")
	from, text, ok2 := strings.Cut(rest, " ")
	if !ended || !ok1 || !ok2 {
		return Line{}, errors.New("cannot parse a line of the log: it is not time, sender and text")
	}
	t, err := time.Parse(stamp, when)
	if err != nil {
		return Line{}, errors.New("cannot parse a line of the log: its time is none")
	}
	if !isSender(from) {
		return Line{}, fmt.Errorf("cannot parse a line of the log: nobody is called %q", from)
	}
	l := Line{t, from, unescape(text)}
	if l.Print() != line {
		return Line{}, errors.New("cannot parse a line of the log: it would not be printed like that")
	}
	return l, nil
}

func isSender(s string) bool {
	name, service := strings.CutPrefix(s, "service/")
	if !service {
		return s == "kernel" || s == "audit"
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return name != ""
}

func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		var c byte
		switch {
		case strings.HasPrefix(s[i:], `\\`):
			b.WriteByte('\\')
			i++
		case strings.HasPrefix(s[i:], `\x`) && len(s) >= i+4:
			if _, err := fmt.Sscanf(s[i+2:i+4], "%02x", &c); err != nil {
				return ""
			}
			b.WriteByte(c)
			i += 3
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}
