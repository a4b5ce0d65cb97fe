// Package syslog prints records of the log as syslog messages (RFC 5424) in the
// frames of a stream (RFC 6587, section 3.4.1, which RFC 5425 asks for over TLS).
// It needs records.
package syslog

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"cloison/format/logrecord"
)

// Facilities (RFC 5424, section 6.2.1).
const (
	kern     = 0
	daemon   = 3
	syslog   = 5
	authpriv = 10
	audit    = 13
)

// Severities.
const (
	warning = 4
	notice  = 5
	info    = 6
)

// element is the name of our structured data. The number is the one that RFC 5612
// keeps for documentation: we have none of our own.
const element = "cloison@32473"

// byteOrderMark says that a message is UTF-8 (section 6.4).
const byteOrderMark = "\xef\xbb\xbf"

// Frame prints a record of the machine called host as one frame.
func Frame(r logrecord.Record, host string) []byte {
	m := message(r, host)
	return append(append(strconv.AppendInt(nil, int64(len(m)), 10), ' '), m...)
}

func message(r logrecord.Record, host string) []byte {
	facility, severity, text := daemon, info, r.Message
	switch {
	case r.Action():
		facility, severity = authpriv, notice
		if r.Result != "ok" {
			severity = warning
		}
	case r.Source == "kernel":
		facility = kern
		// The level of the kernel's log is the severity.
		if len(text) > 3 && text[0] == '<' && text[2] == '>' && text[1] >= '0' && text[1] <= '7' {
			severity, text = int(text[1]-'0'), strings.TrimPrefix(text[3:], " ")
		}
	case r.Source == "audit":
		facility, severity = audit, notice
	case r.Source == "log":
		facility, severity = syslog, notice
	}
	name := strings.TrimPrefix(r.Source, "service/")
	b := append([]byte{'<'}, strconv.Itoa(facility*8+severity)...)
	b = append(b, ">1 "...)
	b = r.Time.UTC().AppendFormat(b, logrecord.Stamp)
	b = append(b, ' ')
	b = append(b, word(host, 255)...)
	b = append(b, ' ')
	b = append(b, word(name, 48)...)
	b = append(b, " - - ["+element...)
	for _, p := range []struct{ name, value string }{
		{"sequence", strconv.FormatUint(r.Sequence, 10)},
		{"boot", r.Boot},
		{"who", r.Who},
		{"role", r.Role},
		{"from", r.From},
		{"verb", r.Verb},
		{"change", r.Change},
		{"result", r.Result},
	} {
		if p.value != "" {
			b = append(b, ' ')
			b = append(b, p.name...)
			b = append(b, `="`...)
			b = value(b, p.value)
			b = append(b, '"')
		}
	}
	b = append(b, ']')
	if text == "" {
		return b
	}
	b = append(b, ' ')
	text = logrecord.Escape(text)
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			b = append(b, byteOrderMark...)
			break
		}
	}
	return append(b, text...)
}

// word is a field of the header: printable ASCII, or "-" where there is nothing.
func word(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '_'
		}
		return r
	}, s)
	if s == "" {
		return "-"
	}
	return s[:min(len(s), most)]
}

// value appends the value of a parameter (section 6.3.3): three signs have a
// backslash before them, and what is not printable is \xNN.
func value(b []byte, s string) []byte {
	for _, c := range []byte(logrecord.Escape(s)) {
		if c == '"' || c == ']' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, c)
	}
	return b
}
