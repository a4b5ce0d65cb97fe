package config

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"cloison/format/hint"
	"cloison/format/nearest"
)

// Parse reads a document of a concern over another, which says what holds where
// the text leaves a key out; without one that is Default. A list that the text
// has stands for the whole list. Unknown keys and values that cannot be are
// errors with their line.
func Parse(concern string, text []byte, over Document) (Document, error) {
	base, err := Default(concern)
	if err != nil {
		return nil, err
	}
	if over != nil {
		if reflect.TypeOf(over) != reflect.TypeOf(base) {
			return nil, fmt.Errorf("internal error: %T is not the document %s", over, concern)
		}
		base = clone(over)
	}
	if err := read(text, base); err != nil {
		outer := fmt.Errorf("%s: %w", concern, err)
		if advice := hint.Of(err); advice != "" {
			return nil, hint.Wrap(outer, "%s", advice)
		}
		return nil, outer
	}
	return base, nil
}

// As reads a document of a known type over its Default.
func As[D any, P interface {
	*D
	Document
}](text []byte) (D, error) {
	var zero D
	for _, c := range concerns {
		if reflect.TypeOf(c.empty()) != reflect.TypeFor[P]() {
			continue
		}
		d, err := Parse(c.name, text, nil)
		if err != nil {
			return zero, err
		}
		return *d.(P), nil
	}
	return zero, fmt.Errorf("internal error: %T is no document", zero)
}

// read reads text over base.
func read(text []byte, base Document) error {
	if len(text) > MaxDocument || !utf8.Valid(text) {
		return fmt.Errorf("it is larger than %d bytes, or not UTF-8", MaxDocument)
	}
	var keys map[string]any
	if err := toml.Unmarshal(text, &keys); err != nil {
		return located(err)
	}
	kind := reflect.TypeOf(base).Elem()
	at := lines(text)
	if err := known("", keys, kind, at); err != nil {
		return err
	}
	fresh := reflect.New(kind)
	if err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(fresh.Interface()); err != nil {
		return located(err)
	}
	overlay(reflect.ValueOf(base).Elem(), fresh.Elem(), keys)
	err := Check(base)
	var wrong *keyError
	if errors.As(err, &wrong) {
		return at.say(wrong.path, err)
	}
	return err
}

// known sees that each key is one of a struct's, level by level, so that the
// nearest one can be named.
func known(path string, keys map[string]any, kind reflect.Type, at positions) error {
	names := names(kind)
	for _, name := range sorted(keys) {
		if err := nearest.Check("key", name, names); err != nil {
			return at.say(join(path, name), err)
		}
		f, _ := field(kind, name)
		inner := join(path, name)
		switch of := f.Type; {
		case of.Kind() == reflect.Struct:
			table, ok := keys[name].(map[string]any)
			if !ok {
				return at.say(inner, fmt.Errorf("%s is not a table", inner))
			}
			if err := known(inner, table, of, at); err != nil {
				return err
			}
		case of.Kind() == reflect.Slice && of.Elem().Kind() == reflect.Struct:
			items, ok := keys[name].([]any)
			if !ok {
				return at.say(inner, fmt.Errorf("%s is not a list of tables: write [[%s]]", inner, inner))
			}
			for i, item := range items {
				table, ok := item.(map[string]any)
				if !ok {
					return at.say(inner, fmt.Errorf("%s is not a list of tables: write [[%s]]", inner, inner))
				}
				if err := known(fmt.Sprintf("%s[%d]", inner, i), table, of.Elem(), at); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func names(kind reflect.Type) []string {
	var all []string
	for i := range kind.NumField() {
		all = append(all, key(kind.Field(i)))
	}
	return all
}

func field(kind reflect.Type, name string) (reflect.StructField, bool) {
	for i := range kind.NumField() {
		if f := kind.Field(i); key(f) == name {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// overlay copies the keys that are there.
func overlay(to, from reflect.Value, keys map[string]any) {
	for i := range to.NumField() {
		name := key(to.Type().Field(i))
		there, ok := keys[name]
		if !ok {
			continue
		}
		if table, ok := there.(map[string]any); ok && to.Field(i).Kind() == reflect.Struct {
			overlay(to.Field(i), from.Field(i), table)
			continue
		}
		to.Field(i).Set(from.Field(i))
	}
}

// clone copies a document with all that is in it.
func clone(d Document) Document {
	v := reflect.New(reflect.TypeOf(d).Elem())
	deep(v.Elem(), reflect.ValueOf(d).Elem())
	c, _ := v.Interface().(Document)
	return c
}

func deep(to, from reflect.Value) {
	switch from.Kind() {
	case reflect.Struct:
		for i := range from.NumField() {
			deep(to.Field(i), from.Field(i))
		}
	case reflect.Slice:
		if from.IsNil() {
			return
		}
		to.Set(reflect.MakeSlice(from.Type(), from.Len(), from.Len()))
		for i := range from.Len() {
			deep(to.Index(i), from.Index(i))
		}
	default:
		to.Set(from)
	}
}

func located(err error) error {
	var strict *toml.StrictMissingError
	var decode *toml.DecodeError
	switch {
	case errors.As(err, &strict):
		row, _ := strict.Errors[0].Position()
		return fmt.Errorf("line %d: unknown key %v", row, strict.Errors[0].Key())
	case errors.As(err, &decode):
		row, _ := decode.Position()
		what := strings.TrimPrefix(err.Error(), "toml: ")
		return fmt.Errorf("line %d: %s", row, what)
	}
	return err
}

// positions has the line of each key, by its path.
type positions map[string]int

// say puts the line of a path before an error, or that of what it lies in.
func (p positions) say(path string, err error) error {
	for at := path; ; {
		if line, ok := p[at]; ok {
			outer := fmt.Errorf("line %d: %w", line, err)
			if advice := hint.Of(err); advice != "" {
				return hint.Wrap(outer, "%s", advice)
			}
			return outer
		}
		i := strings.LastIndexAny(at, ".[")
		if i < 0 {
			return err
		}
		at = at[:i]
	}
}

// lines finds the line of each key of a text that has been parsed before.
func lines(text []byte) positions {
	all, counts, table := positions{}, map[string]int{}, ""
	var p unstable.Parser
	p.Reset(text)
	for p.NextExpression() {
		e := p.Expression()
		path, line := "", 0
		if e.Kind == unstable.KeyValue {
			path = table
		}
		for it := e.Key(); it.Next(); {
			n := it.Node()
			path = join(path, string(n.Data))
			line = p.Shape(n.Raw).Start.Line
			// A list of tables is meant by its last one.
			if n := counts[path]; n > 0 && !(e.Kind == unstable.ArrayTable && it.IsLast()) {
				path = fmt.Sprintf("%s[%d]", path, n-1)
			}
		}
		switch e.Kind {
		case unstable.ArrayTable:
			n := counts[path]
			counts[path]++
			path = fmt.Sprintf("%s[%d]", path, n)
			table = path
		case unstable.Table:
			table = path
		}
		if _, ok := all[path]; !ok {
			all[path] = line
		}
	}
	return all
}
