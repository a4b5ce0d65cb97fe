package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"cloison/format/nearest"
)

// Schema returns the JSON Schema of a document, as a person or an editor wants
// it. What it refuses, Parse refuses; Parse also sees what stands in two places.
func Schema(concern string) ([]byte, error) {
	if err := nearest.Check("document", concern, Concerns()); err != nil {
		return nil, err
	}
	c := concerns[row(concern)]
	s := object(reflect.TypeOf(c.empty()).Elem())
	s.Schema, s.Title, s.Description = "https://json-schema.org/draft/2020-12/schema", concern, c.about
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("cannot print the schema of %s: %w", concern, err)
	}
	return append(b, '\n'), nil
}

// schema is one of JSON Schema, in the order in which it is read.
type schema struct {
	Schema      string         `json:"$schema,omitempty"`
	Title       string         `json:"title,omitempty"`
	Description string         `json:"description,omitempty"`
	Type        string         `json:"type"`
	Enum        []string       `json:"enum,omitempty"`
	Pattern     string         `json:"pattern,omitempty"`
	Comment     string         `json:"$comment,omitempty"`
	Default     any            `json:"default,omitempty"`
	Minimum     *int64         `json:"minimum,omitempty"`
	Maximum     *int64         `json:"maximum,omitempty"`
	MinItems    int            `json:"minItems,omitempty"`
	MaxItems    int            `json:"maxItems,omitempty"`
	UniqueItems bool           `json:"uniqueItems,omitempty"`
	Items       *schema        `json:"items,omitempty"`
	Properties  map[string]any `json:"properties,omitempty"`
	Required    []string       `json:"required,omitempty"`
	Additional  *bool          `json:"additionalProperties,omitempty"`
}

func object(kind reflect.Type) *schema {
	no := false
	s := &schema{Type: "object", Properties: map[string]any{}, Additional: &no}
	for i := range kind.NumField() {
		f := kind.Field(i)
		s.Properties[key(f)] = property(f)
		if f.Tag.Get("need") != "" {
			s.Required = append(s.Required, key(f))
		}
	}
	return s
}

func property(f reflect.StructField) *schema {
	s := &schema{}
	switch f.Type.Kind() {
	case reflect.Struct:
		s = object(f.Type)
	case reflect.Slice:
		s.Type, s.MaxItems = "array", most(f.Tag)
		if f.Tag.Get("need") != "" {
			s.MinItems = 1
		}
		if f.Type.Elem().Kind() == reflect.Struct {
			s.Items = object(f.Type.Elem())
		} else {
			s.Items, s.UniqueItems = texts(f.Tag), true
		}
	case reflect.Int64:
		least, largest := bounds(f.Tag)
		s.Type, s.Minimum, s.Maximum = "integer", &least, &largest
		if d := f.Tag.Get("default"); d != "" {
			s.Default = json.Number(d)
		} else {
			least = 0 // not set
		}
	case reflect.Bool:
		s.Type = "boolean"
	default:
		s = texts(f.Tag)
		if d := f.Tag.Get("default"); d != "" {
			s.Default = d
		} else if s.Pattern != "" && f.Tag.Get("need") == "" {
			s.Pattern = "^$|" + s.Pattern // not set
		}
	}
	s.Description = f.Tag.Get("about")
	return s
}

func texts(tag reflect.StructTag) *schema {
	s := &schema{Type: "string", Enum: strings.Fields(tag.Get("words"))}
	if name := tag.Get("form"); name != "" {
		s.Pattern, s.Comment = forms[name].pattern.String(), forms[name].about
	}
	return s
}
