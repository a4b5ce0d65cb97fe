// Package osrelease reads and prints os-release files strictly.
//
// Source: os-release(5) of systemd. Of the shell's quoting only what it needs is
// accepted: a plain word, or a word in double quotes without backslash, dollar
// or backquote. It needs nothing but the standard library.
package osrelease

import (
	"fmt"
	"strings"
)

// Field is one assignment.
type Field struct{ Key, Value string }

// Release is a file, in its order.
type Release []Field

// Get returns the value of key, or "".
func (r Release) Get(key string) string {
	for _, f := range r {
		if f.Key == key {
			return f.Value
		}
	}
	return ""
}

const plain = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-~^+:/"

// String prints the file; values are quoted where they must be.
func (r Release) String() string {
	var b strings.Builder
	for _, f := range r {
		if strings.Trim(f.Value, plain) == "" {
			fmt.Fprintf(&b, "%s=%s\n", f.Key, f.Value)
		} else {
			fmt.Fprintf(&b, "%s=%q\n", f.Key, f.Value)
		}
	}
	return b.String()
}

// Parse reads a file. Empty lines and comments are skipped; a repeated key is
// an error.
func Parse(text string) (Release, error) {
	var r Release
	seen := map[string]bool{}
	for i, line := range strings.Split(text, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || key == "" || strings.Trim(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" || seen[key] {
			return nil, fmt.Errorf("cannot parse os-release: line %d: %q is no new assignment", i+1, line)
		}
		if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
			value = value[1 : n-1]
			for _, c := range []byte(value) {
				if c < ' ' || c > '~' || strings.IndexByte("\"\\$`", c) >= 0 {
					return nil, fmt.Errorf("cannot parse os-release: line %d: character %q", i+1, c)
				}
			}
		} else if strings.Trim(value, plain) != "" {
			return nil, fmt.Errorf("cannot parse os-release: line %d: %q must be quoted", i+1, value)
		}
		seen[key] = true
		r = append(r, Field{key, value})
	}
	return r, nil
}
