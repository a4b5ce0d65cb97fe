package config

import (
	"fmt"
	"path"
	"reflect"
	"strings"
)

// Change is one value that differs between two documents.
type Change struct {
	Concern string `json:"concern"`
	// Key is where it stands. An item of a list of tables is meant by its name,
	// and by its number where several are called the same: key[alice].role,
	// key[alice#2].role.
	Key string `json:"key"`
	// Before and After are values as TOML has them; "" where there is none.
	Before string `json:"before"`
	After  string `json:"after"`
}

func (c Change) String() string {
	at := c.Concern + "." + c.Key
	switch {
	case c.Before == "":
		return fmt.Sprintf("+ %s = %s", at, c.After)
	case c.After == "":
		return fmt.Sprintf("- %s = %s", at, c.Before)
	}
	return fmt.Sprintf("~ %s: %s -> %s", at, c.Before, c.After)
}

// Diff returns what changes from one document of a concern to another, key by
// key. Secrets are told apart and not shown.
func Diff(concern string, from, to Document) []Change {
	before, after := flat(from), flat(to)
	var changes []Change
	add := func(key string) {
		a, b := before.values[key], after.values[key]
		if a.text == b.text {
			return
		}
		if a.secret || b.secret {
			a.text, b.text = a.hidden("(secret)"), b.hidden("(another secret)")
		}
		changes = append(changes, Change{concern, key, a.text, b.text})
	}
	for _, key := range before.order {
		add(key)
	}
	for _, key := range after.order {
		if _, ok := before.values[key]; !ok {
			add(key)
		}
	}
	return changes
}

// plain is a document as a list of keys and values.
type plain struct {
	order  []string
	values map[string]leaf
}

type leaf struct {
	text   string
	secret bool
}

func (l leaf) hidden(as string) string {
	if l.text == "" {
		return ""
	}
	return as
}

func flat(d Document) plain {
	p := plain{values: map[string]leaf{}}
	p.add("", reflect.ValueOf(d).Elem())
	return p
}

func (p *plain) add(at string, v reflect.Value) {
	for i := range v.NumField() {
		f, field := v.Field(i), v.Type().Field(i)
		here := join(at, key(field))
		switch {
		case f.Kind() == reflect.Struct:
			p.add(here, f)
		case isTable(f.Type()):
			count := map[string]int{}
			for i := range f.Len() {
				name := f.Index(i).FieldByName("Name").String()
				if count[name]++; count[name] > 1 {
					name = fmt.Sprintf("%s#%d", name, count[name])
				}
				p.add(fmt.Sprintf("%s[%s]", here, name), f.Index(i))
			}
		case !empty(f):
			p.order = append(p.order, here)
			p.values[here] = leaf{literal(f), field.Tag.Get("secret") != ""}
		}
	}
}

// Delegated reports whether a change lies within what a product delegates: a list
// of patterns CONCERN.KEY, in which a star stands for any part of a path between
// two dots, and at its end for all that follows. Names of items are left out:
// access.key.role.
func (c Change) Delegated(patterns []string) bool {
	at := c.Concern + "." + withoutNames(c.Key)
	for _, p := range patterns {
		if above, ok := strings.CutSuffix(p, ".*"); ok && strings.HasPrefix(at, above+".") {
			return true
		}
		if ok, err := path.Match(strings.ReplaceAll(p, ".", "/"), strings.ReplaceAll(at, ".", "/")); ok && err == nil {
			return true
		}
	}
	return false
}

// withoutNames takes the names of items out of a key. A name has no bracket.
func withoutNames(key string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(key, "[") {
		if _, rest, ok := strings.Cut(part, "]"); ok {
			part = rest
		}
		b.WriteString(part)
	}
	return b.String()
}

// CheckPattern says whether a pattern of Delegated can mean anything.
func CheckPattern(pattern string) error {
	concern, _, ok := strings.Cut(pattern, ".")
	if i := row(concern); ok && i >= 0 {
		for _, key := range paths("", reflect.TypeOf(concerns[i].empty()).Elem()) {
			if (Change{Concern: concern, Key: key}).Delegated([]string{pattern}) {
				return nil
			}
		}
	}
	return fmt.Errorf("%q is no key of a document, and no pattern of some", pattern)
}

// paths are all keys that values can have.
func paths(at string, kind reflect.Type) []string {
	var all []string
	for i := range kind.NumField() {
		f := kind.Field(i)
		here := join(at, key(f))
		switch {
		case f.Type.Kind() == reflect.Struct:
			all = append(all, paths(here, f.Type)...)
		case isTable(f.Type):
			all = append(all, paths(here, f.Type.Elem())...)
		default:
			all = append(all, here)
		}
	}
	return all
}
