// Package logrecord prints and parses one record of the log: when, from whom,
// what. It needs text. The form is Cloison's own (docs/formats.md): one line of
// JSON, printed in one form only, because its hash is a leaf of the log's tree
// (cloison/format/logtree). Nothing that a service writes can look like another's
// record, or like two.
package logrecord

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// Bounds of a record's texts, in bytes of UTF-8.
const (
	MaxMessage = 1024
	MaxChange  = 8192
	maxWord    = 256
	// MaxLine is longer than any printed record: each byte can become \uNNNN.
	MaxLine = 6*(MaxMessage+MaxChange+6*maxWord) + 512
)

// Stamp is UTC, with microseconds, of one width.
const Stamp = "2006-01-02T15:04:05.000000Z"

// Record is one entry of the log. The fields from Who to Result are of a
// privileged action, and empty in all other records; whoever executed the action
// wrote it, and is the Source.
type Record struct {
	Time     time.Time `json:"time"` // to the microsecond; the clock may have been set in between
	Boot     string    `json:"boot"` // the kernel's boot ID: 32 hexadecimal digits
	Sequence uint64    `json:"sequence"`
	Source   string    `json:"source"` // "kernel", "audit", "log" (the log itself) or "service/NAME"

	Who    string `json:"who,omitempty"`    // the proven identity
	Role   string `json:"role,omitempty"`   // in which it acted
	From   string `json:"from,omitempty"`   // from where: an address, or "console"
	Verb   string `json:"verb,omitempty"`   // what was asked for; an action has one
	Change string `json:"change,omitempty"` // what would be different
	Result string `json:"result,omitempty"` // "ok", or why not

	Message string `json:"message"`
}

// Action reports whether the record is of a privileged action.
func (r Record) Action() bool { return r.Verb != "" }

// field is a text of a record with its name and bound.
type field struct {
	name string
	text *string
	most int
}

func (r *Record) action() [6]field {
	return [...]field{
		{"who", &r.Who, maxWord},
		{"role", &r.Role, maxWord},
		{"from", &r.From, maxWord},
		{"verb", &r.Verb, maxWord},
		{"change", &r.Change, MaxChange},
		{"result", &r.Result, maxWord},
	}
}

// Clean makes a record's texts from what somebody sent: bytes that are no UTF-8
// become \xNN, and what is too long is cut.
func (r *Record) Clean() {
	for _, f := range r.action() {
		*f.text = clean(*f.text, f.most)
	}
	r.Message = clean(r.Message, MaxMessage)
}

func clean(s string, most int) string {
	if !utf8.ValidString(s) {
		var b strings.Builder
		for len(s) > 0 {
			r, n := utf8.DecodeRuneInString(s)
			if r == utf8.RuneError && n == 1 {
				fmt.Fprintf(&b, `\x%02x`, s[0])
			} else {
				b.WriteString(s[:n])
			}
			s = s[n:]
		}
		s = b.String()
	}
	if len(s) > most {
		for most > 0 && !utf8.RuneStart(s[most]) {
			most--
		}
		s = s[:most]
	}
	return s
}

// check says what is wrong with a record.
func (r *Record) check() error {
	if y := r.Time.UTC().Year(); y < 0 || y > 9999 || r.Time.Nanosecond()%1000 != 0 {
		return errors.New("its time is not one of microseconds")
	}
	if b, err := hex.DecodeString(r.Boot); err != nil || len(b) != 16 || strings.ToLower(r.Boot) != r.Boot {
		return errors.New("its boot is not 32 hexadecimal digits")
	}
	if r.Sequence > 1<<53 {
		return errors.New("its sequence is larger than 2^53")
	}
	if !IsSource(r.Source) {
		return fmt.Errorf("nobody is called %q", r.Source)
	}
	for _, f := range r.action() {
		if len(*f.text) > f.most || !utf8.ValidString(*f.text) {
			return fmt.Errorf("its %s is longer than %d bytes, or no text", f.name, f.most)
		}
		if r.Verb == "" && *f.text != "" {
			return fmt.Errorf("it has a %s and no verb", f.name)
		}
	}
	if len(r.Message) > MaxMessage || !utf8.ValidString(r.Message) {
		return fmt.Errorf("its message is longer than %d bytes, or no text", MaxMessage)
	}
	return nil
}

// IsSource reports whether records can come from somebody of that name.
func IsSource(s string) bool {
	name, service := strings.CutPrefix(s, "service/")
	if !service {
		return s == "kernel" || s == "audit" || s == "log"
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return name != "" && len(name) <= maxWord
}

// Append appends the record to b as its line, without the line feed.
func (r Record) Append(b []byte) ([]byte, error) {
	if err := r.check(); err != nil {
		return b, fmt.Errorf("cannot print a record: %w", err)
	}
	return r.print(b), nil
}

func (r *Record) print(b []byte) []byte {
	b = append(b, `{"time":"`...)
	b = r.Time.UTC().AppendFormat(b, Stamp)
	b = append(b, `","boot":"`...)
	b = append(b, r.Boot...)
	b = append(b, `","sequence":`...)
	b = strconv.AppendUint(b, r.Sequence, 10)
	b = append(b, `,"source":"`...)
	b = append(b, r.Source...)
	b = append(b, '"')
	if r.Verb != "" {
		for _, f := range r.action() {
			if *f.text != "" {
				b = append(b, ',', '"')
				b = append(b, f.name...)
				b = append(b, '"', ':')
				b = quote(b, *f.text)
			}
		}
	}
	b = append(b, `,"message":`...)
	b = quote(b, r.Message)
	return append(b, '}')
}

const digits = "0123456789abcdef"

// quote appends a JSON string (RFC 8259, section 7). What is not printable is
// escaped, so that a file can be looked at in a terminal.
func quote(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
			i++
			continue
		case c >= ' ' && c < 0x7f:
			b = append(b, c)
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case printable(r):
			b = append(b, s[i:i+n]...)
		case r < 0x10000:
			b = unicodeEscape(b, r)
		default:
			high, low := utf16.EncodeRune(r)
			b = unicodeEscape(unicodeEscape(b, high), low)
		}
		i += n
	}
	return append(b, '"')
}

func unicodeEscape(b []byte, r rune) []byte {
	return append(b, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
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

// Parse reads a line that Append has printed, and nothing else.
func Parse(line string) (Record, error) {
	r, err := parseRecord(line)
	if err != nil {
		return Record{}, fmt.Errorf("cannot parse a record: %w", err)
	}
	return r, nil
}

func parseRecord(line string) (r Record, err error) {
	if len(line) > MaxLine {
		return r, fmt.Errorf("it is longer than %d bytes", MaxLine)
	}
	s := scanner{rest: line, ok: true}
	s.take(`{"time":"`)
	when := s.until('"')
	s.take(`,"boot":"`)
	r.Boot = s.until('"')
	s.take(`,"sequence":`)
	number := s.until(',')
	s.take(`"source":"`)
	r.Source = s.until('"')
	for _, f := range r.action() {
		if s.has(`,"`) && s.has(f.name) && s.has(`":`) {
			*f.text = s.text()
		} else {
			s.back()
		}
		s.mark()
	}
	s.take(`,"message":`)
	r.Message = s.text()
	s.take("}")
	if !s.ok || s.rest != "" {
		return r, errors.New("it has not the form of one")
	}
	if r.Time, err = time.Parse(Stamp, when); err != nil {
		return r, errors.New("its time is none")
	}
	if r.Sequence, err = strconv.ParseUint(number, 10, 64); err != nil {
		return r, errors.New("its sequence is none")
	}
	if err := r.check(); err != nil {
		return r, err
	}
	// One record has one form: its hash depends on it.
	if string(r.print(make([]byte, 0, len(line)))) != line {
		return r, errors.New("it would not be printed like that")
	}
	return r, nil
}

// scanner reads the form of a record from left to right. ok is false once
// something was not there.
type scanner struct {
	rest, marked string
	ok           bool
}

func (s *scanner) take(word string) {
	if !s.has(word) {
		s.ok = false
	}
	s.mark()
}

func (s *scanner) mark() { s.marked = s.rest }
func (s *scanner) back() { s.rest = s.marked }

// has takes a word that is there.
func (s *scanner) has(word string) bool {
	rest, ok := strings.CutPrefix(s.rest, word)
	if ok {
		s.rest = rest
	}
	return ok
}

// until takes what is before a sign, and the sign.
func (s *scanner) until(sign byte) string {
	i := strings.IndexByte(s.rest, sign)
	if i < 0 {
		s.ok = false
		return ""
	}
	text := s.rest[:i]
	s.rest = s.rest[i+1:]
	s.mark()
	return text
}

// text takes a JSON string. What a printer would not have escaped is found by
// printing it again.
func (s *scanner) text() string {
	if !s.has(`"`) {
		s.ok = false
		return ""
	}
	// Most texts need no second look.
	if i := strings.IndexAny(s.rest, `"\`); i >= 0 && s.rest[i] == '"' {
		text := s.rest[:i]
		s.rest = s.rest[i+1:]
		return text
	}
	var b []byte
	for s.rest != "" {
		c := s.rest[0]
		s.rest = s.rest[1:]
		switch {
		case c == '"':
			return string(b)
		case c != '\\':
			b = append(b, c)
		case s.has(`"`):
			b = append(b, '"')
		case s.has(`\`):
			b = append(b, '\\')
		default:
			r := s.unicode()
			if utf16.IsSurrogate(r) && s.has(`\`) {
				r = utf16.DecodeRune(r, s.unicode())
			}
			b = utf8.AppendRune(b, r)
		}
	}
	s.ok = false
	return ""
}

// unicode takes uNNNN.
func (s *scanner) unicode() rune {
	if len(s.rest) < 5 || s.rest[0] != 'u' {
		s.ok = false
		return 0
	}
	n, err := strconv.ParseUint(s.rest[1:5], 16, 16)
	if err != nil {
		s.ok = false
	}
	s.rest = s.rest[5:]
	return rune(n)
}

// String is the record for a person: when, who, what. It is one line, and
// nothing in it can look like another's.
func (r Record) String() string {
	var b strings.Builder
	b.WriteString(r.Time.UTC().Format(Stamp))
	b.WriteString(" " + r.Source)
	if r.Action() {
		for _, f := range r.action() {
			if *f.text != "" {
				b.WriteString(" " + f.name + "=" + string(quote(nil, *f.text)))
			}
		}
	}
	if r.Message != "" {
		b.WriteString(" " + Escape(r.Message))
	}
	return b.String()
}

// Escape writes what is not printable as \xNN, and a backslash twice.
func Escape(s string) string {
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
