// Package declaration reads the TOML declaration of a service,
// image/services/NAME.toml. Every field has to be there: a right that is not
// written down is neither granted nor denied by silence. It needs a TOML parser,
// which is why the programs of the machine read the sealed form of package
// service instead.
//
// The format is Cloison's own (docs/formats.md).
package declaration

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"

	"github.com/pelletier/go-toml/v2"

	"cloison/format/service"
)

// Parse reads a declaration; ids has the service's user. Unknown and missing
// keys are errors.
func Parse(text []byte, ids service.IDs) (*service.Service, error) {
	var keys map[string]any
	if err := toml.Unmarshal(text, &keys); err != nil {
		return nil, located(err)
	}
	if err := missing("", keys, reflect.TypeFor[service.Service]()); err != nil {
		return nil, err
	}
	var s service.Service
	if err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(&s); err != nil {
		return nil, located(err)
	}
	id, ok := ids[s.Name]
	if !ok {
		return nil, fmt.Errorf("name = %q has no number in image/services/ids", s.Name)
	}
	s.ID = id
	return &s, s.Check()
}

// missing looks for the fields of a struct that have no key.
func missing(where string, value any, of reflect.Type) error {
	switch of.Kind() {
	case reflect.Struct:
		keys, ok := value.(map[string]any)
		if !ok {
			return fmt.Errorf("%s is not a table", where)
		}
		for i := range of.NumField() {
			field := of.Field(i)
			key := field.Tag.Get("toml")
			if key == "-" {
				continue
			}
			name := key
			if where != "" {
				name = where + "." + key
			}
			value, ok := keys[key]
			if !ok {
				return fmt.Errorf("%s is missing", name)
			}
			if err := missing(name, value, field.Type); err != nil {
				return err
			}
		}
	case reflect.Slice:
		items, ok := value.([]any)
		if !ok {
			return fmt.Errorf("%s is not a list", where)
		}
		for _, item := range items {
			if err := missing(where, item, of.Elem()); err != nil {
				return err
			}
		}
	}
	return nil
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
		return fmt.Errorf("line %d: %w", row, err)
	}
	return err
}
