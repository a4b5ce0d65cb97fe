// Package config reads, prints, compares and describes the machine's
// configuration: one TOML document for each concern. A document may leave keys
// out; then the product's defaults hold, and where the product says nothing those
// of this package. Documents are printed in one form only, so that two that mean
// the same are the same bytes.
//
// It needs a TOML parser. The formats are Cloison's own (docs/formats.md); their
// JSON Schemas are of the draft 2020-12.
package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"cloison/format/nearest"
)

// Document is a document of one concern: one of the structs of this package.
type Document interface {
	// check looks at what one value alone does not show. It names the key.
	check() error
}

// concerns has a row for each document, in the order in which they are applied:
// who may come in comes last, when the rest is as it was asked for.
var concerns = []struct {
	name, about string
	empty       func() Document
}{
	{"system", "the machine itself: its name, and how long sessions and commits wait", func() Document { return &System{} }},
	{"time", "where the time comes from", func() Document { return &Time{} }},
	{"network", "addresses of the product's networks", func() Document { return &Network{} }},
	{"log", "how much of the log is kept, and who gets it", func() Document { return &Log{} }},
	{"access", "who may come in, and as what", func() Document { return &Access{} }},
}

// MaxDocument bounds a document, in bytes: two fit into one message of Varlink.
const MaxDocument = 48 << 10

// Concerns returns the names of all documents, in the order in which they are
// applied.
func Concerns() []string {
	var names []string
	for _, c := range concerns {
		names = append(names, c.name)
	}
	return names
}

// About says in a line what a document is about.
func About(concern string) string {
	if i := row(concern); i >= 0 {
		return concerns[i].about
	}
	return ""
}

func row(concern string) int {
	for i, c := range concerns {
		if c.name == concern {
			return i
		}
	}
	return -1
}

// Default returns the document of a concern with what this package sets where
// nobody says anything.
func Default(concern string) (Document, error) {
	if err := nearest.Check("document", concern, Concerns()); err != nil {
		return nil, err
	}
	d := concerns[row(concern)].empty()
	fill(reflect.ValueOf(d).Elem())
	return d, nil
}

// fill sets the defaults of the keys of a struct.
func fill(v reflect.Value) {
	for i := range v.NumField() {
		f, value := v.Field(i), v.Type().Field(i).Tag.Get("default")
		switch {
		case f.Kind() == reflect.Struct:
			fill(f)
		case value == "":
		case f.Kind() == reflect.String:
			f.SetString(value)
		case f.Kind() == reflect.Int64:
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				panic("internal error: default " + value)
			}
			f.SetInt(n)
		}
	}
}

// key is the name of a field in a document.
func key(f reflect.StructField) string { return f.Tag.Get("toml") }

// join appends a key to a path.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// value checks one value against the tags of its field.
func value(path string, f reflect.StructField, v reflect.Value) error {
	tag := f.Tag
	switch v.Kind() {
	case reflect.String:
		s := v.String()
		if s == "" {
			if tag.Get("need") != "" {
				return &keyError{path, "is missing"}
			}
			if tag.Get("default") != "" {
				return &keyError{path, "is empty"}
			}
			return nil // not set
		}
		return text(path, tag, s)
	case reflect.Int64:
		n := v.Int()
		least, largest := bounds(tag)
		if n == 0 && tag.Get("default") == "" {
			return nil // not set
		}
		if n < least || n > largest {
			return &keyError{path, fmt.Sprintf("= %d is not between %d and %d", n, least, largest)}
		}
	case reflect.Slice:
		return list(path, f, v)
	case reflect.Struct:
		return structure(path, v)
	}
	return nil
}

func text(path string, tag reflect.StructTag, s string) error {
	if words := strings.Fields(tag.Get("words")); len(words) > 0 && !slices.Contains(words, s) {
		near := ""
		if n := nearest.To(s, words); n != "" {
			near = ": did you mean " + n + "?"
		}
		return &keyError{path, fmt.Sprintf("= %q is none of %s%s", s, strings.Join(words, ", "), near)}
	}
	if name := tag.Get("form"); name != "" {
		form := forms[name]
		if !form.pattern.MatchString(s) || form.check != nil && !form.check(s) {
			return &keyError{path, fmt.Sprintf("= %.80q is not %s", s, form.about)}
		}
	}
	return nil
}

func bounds(tag reflect.StructTag) (least, largest int64) {
	least, err := strconv.ParseInt(tag.Get("least"), 10, 64)
	if err == nil {
		largest, err = strconv.ParseInt(tag.Get("largest"), 10, 64)
	}
	if err != nil {
		panic("internal error: a number has no bounds")
	}
	return least, largest
}

// most is how many items a list may have.
func most(tag reflect.StructTag) int {
	n, err := strconv.Atoi(tag.Get("most"))
	if err != nil {
		panic("internal error: a list has no bound")
	}
	return n
}

func list(path string, f reflect.StructField, v reflect.Value) error {
	if n := most(f.Tag); v.Len() > n {
		return &keyError{path, fmt.Sprintf("has %d items, at most %d", v.Len(), n)}
	}
	if v.Len() == 0 && f.Tag.Get("need") != "" {
		return &keyError{path, "is missing"}
	}
	for i := range v.Len() {
		item := v.Index(i)
		at := fmt.Sprintf("%s[%d]", path, i)
		if item.Kind() == reflect.Struct {
			if err := structure(at, item); err != nil {
				return err
			}
			continue
		}
		if item.String() == "" {
			return &keyError{at, "is empty"}
		}
		if err := text(at, f.Tag, item.String()); err != nil {
			return err
		}
		for j := range i {
			if v.Index(j).String() == item.String() {
				return &keyError{path, fmt.Sprintf("has %.80q twice", item.String())}
			}
		}
	}
	return nil
}

func structure(path string, v reflect.Value) error {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if err := value(join(path, key(f)), f, v.Field(i)); err != nil {
			return err
		}
	}
	return nil
}

// keyError is a value that cannot be.
type keyError struct{ path, problem string }

func (e *keyError) Error() string { return e.path + " " + e.problem }

// Check says what is wrong with a document, by its keys.
func Check(d Document) error {
	if err := structure("", reflect.ValueOf(d).Elem()); err != nil {
		return err
	}
	return d.check()
}
