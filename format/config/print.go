package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// Print prints a document in its one form: every key that has a value, in the
// order of this package. Parse of it over Default gives the document.
func Print(d Document) []byte { return printed(d, nil, true) }

// Difference prints what of a document is not as in another one. Parse of it over
// the other gives the document.
func Difference(d, from Document) []byte { return printed(d, from, false) }

// Complete prints a document for a person: every key that has a value, and those
// that have none where the other has one. Parse of it over the other gives the
// document.
func Complete(d, from Document) []byte { return printed(d, from, true) }

func printed(d, from Document, all bool) []byte {
	p := printer{all: all}
	var other reflect.Value
	if from != nil {
		other = reflect.ValueOf(from).Elem()
	}
	return []byte(strings.TrimPrefix(p.table("", reflect.ValueOf(d).Elem(), other), "\n"))
}

type printer struct{ all bool }

// wanted reports whether a value is printed.
func (p printer) wanted(v, other reflect.Value) bool {
	if !other.IsValid() {
		return !empty(v)
	}
	return !same(v, other) || p.all && !empty(v)
}

// table prints the values of a struct, then its tables: TOML wants that order. A
// list of tables without one is a value, too.
func (p printer) table(path string, v, other reflect.Value) string {
	var values, tables strings.Builder
	for i := range v.NumField() {
		name, f := key(v.Type().Field(i)), v.Field(i)
		var o reflect.Value
		if other.IsValid() {
			o = other.Field(i)
		}
		at := join(path, name)
		switch {
		case f.Kind() == reflect.Struct:
			if inner := p.table(at, f, o); inner != "" {
				fmt.Fprintf(&tables, "\n[%s]\n%s", at, inner)
			}
		case !p.wanted(f, o):
		case isTable(f.Type()) && f.Len() > 0:
			for i := range f.Len() {
				fmt.Fprintf(&tables, "\n[[%s]]\n%s", at, p.table(at, f.Index(i), reflect.Value{}))
			}
		default:
			fmt.Fprintf(&values, "%s = %s\n", name, literal(f))
		}
	}
	return values.String() + tables.String()
}

func isTable(t reflect.Type) bool {
	return t.Kind() == reflect.Struct || t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct
}

func empty(v reflect.Value) bool {
	return v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0
}

// same compares values; no list is the same as an empty one.
func same(a, b reflect.Value) bool {
	if a.Kind() == reflect.Slice && a.Len() == 0 && b.Len() == 0 {
		return true
	}
	if a.Kind() == reflect.Slice || a.Kind() == reflect.Struct {
		return literal(a) == literal(b)
	}
	return a.Interface() == b.Interface()
}

// literal prints a value as TOML has it on one line.
func literal(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case reflect.Int64:
		return strconv.FormatInt(v.Int(), 10)
	case reflect.Slice:
		items := make([]string, v.Len())
		for i := range items {
			items[i] = literal(v.Index(i))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case reflect.Struct:
		var items []string
		for i := range v.NumField() {
			if f := v.Field(i); !empty(f) {
				items = append(items, key(v.Type().Field(i))+" = "+literal(f))
			}
		}
		return "{ " + strings.Join(items, ", ") + " }"
	}
	return quote(v.String())
}

// quote prints a basic string of TOML: what is not printable is escaped.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
