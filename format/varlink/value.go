package varlink

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
)

// Check tells which field of the parameters is not of its type, by its name from
// the outside in ("a.b"), or "". No parameters are an empty object. A field that
// the type does not have is wrong, and so is one that is missing and not a Maybe.
func (i *Interface) Check(t Type, parameters json.RawMessage) (field string) {
	if len(parameters) == 0 {
		parameters = json.RawMessage("{}")
	}
	if sane(parameters) != nil {
		return "parameters"
	}
	d := json.NewDecoder(bytes.NewReader(parameters))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return "parameters"
	}
	return i.check(t, v, "", 0)
}

func (i *Interface) check(t Type, v any, at string, depth int) (wrong string) {
	if at == "" {
		wrong = "parameters"
	} else {
		wrong = at
	}
	if depth > 4*maxDepth { // a type that names itself
		return wrong
	}
	ok := false
	switch t.Kind {
	case Bool:
		_, ok = v.(bool)
	case Int:
		n, number := v.(json.Number)
		_, err := strconv.ParseInt(string(n), 10, 64)
		ok = number && err == nil
	case Float:
		_, ok = v.(json.Number)
	case String:
		_, ok = v.(string)
	case Object:
		ok = v != nil
	case Enum:
		s, text := v.(string)
		ok = text && slices.Contains(t.Words, s)
	case Maybe:
		if v == nil {
			return ""
		}
		return i.check(*t.Of, v, at, depth+1)
	case Defined:
		m, found := i.Find("type", t.Name)
		if !found {
			return wrong
		}
		return i.check(m.In, v, at, depth+1)
	case List:
		items, list := v.([]any)
		if !list {
			return wrong
		}
		for n, item := range items {
			if w := i.check(*t.Of, item, fmt.Sprintf("%s[%d]", at, n), depth+1); w != "" {
				return w
			}
		}
		return ""
	case Map:
		items, object := v.(map[string]any)
		if !object {
			return wrong
		}
		for _, item := range items {
			if w := i.check(*t.Of, item, wrong, depth+1); w != "" {
				return w
			}
		}
		return ""
	case Struct:
		object, isObject := v.(map[string]any)
		if !isObject {
			return wrong
		}
		return i.fields(t, object, at, depth)
	}
	if ok {
		return ""
	}
	return wrong
}

func (i *Interface) fields(t Type, object map[string]any, at string, depth int) (wrong string) {
	inside := func(name string) string {
		if at == "" {
			return name
		}
		return at + "." + name
	}
	known := map[string]bool{}
	for _, f := range t.Fields {
		known[f.Name] = true
		v, there := object[f.Name]
		if !there && f.Type.Kind == Maybe {
			continue
		}
		if !there {
			return inside(f.Name)
		}
		if w := i.check(f.Type, v, inside(f.Name), depth+1); w != "" {
			return w
		}
	}
	var unknown []string
	for name := range object {
		if !known[name] {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		return inside(slices.Min(unknown))
	}
	return ""
}
