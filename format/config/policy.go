package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Policy is what a product says about the configuration of its machines. The
// zero policy delegates nothing.
type Policy struct {
	// Delegate are the keys that the role admin may change: patterns of
	// Change.Delegated. What none of them names is the product's.
	Delegate []string `toml:"delegate"`
	// TwoPersons wants a commit to be confirmed by somebody else.
	TwoPersons bool `toml:"two_persons"`
	// Console lets people log in at the machine's console with a password.
	Console bool `toml:"console"`
	// Defaults are documents, over those of this package.
	Defaults map[string]map[string]any `toml:"defaults"`
}

// Documents are the product's defaults, complete.
func (p Policy) Documents() (Set, error) {
	texts := map[string]string{}
	for concern, keys := range p.Defaults {
		text, err := toml.Marshal(keys)
		if err != nil {
			return nil, fmt.Errorf("cannot read the defaults of %s: %w", concern, err)
		}
		texts[concern] = string(text)
	}
	all, err := ParseSet(texts, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot read the defaults: %w", err)
	}
	return all, nil
}

// Check says what is wrong with a policy.
func (p Policy) Check() error {
	for i, pattern := range p.Delegate {
		if err := CheckPattern(pattern); err != nil {
			return fmt.Errorf("delegate: %w", err)
		}
		for _, other := range p.Delegate[:i] {
			if pattern == other {
				return fmt.Errorf("delegate has %q twice", pattern)
			}
		}
	}
	_, err := p.Documents()
	return err
}

// Print prints a policy as it stands in the image: only what is not as this
// package would have it.
func (p Policy) Print() ([]byte, error) {
	all, err := p.Documents()
	if err != nil {
		return nil, err
	}
	plain, err := ParseSet(nil, nil)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	var items []string
	for _, d := range p.Delegate {
		items = append(items, quote(d))
	}
	fmt.Fprintf(&b, "delegate = [%s]\ntwo_persons = %v\nconsole = %v\n", strings.Join(items, ", "), p.TwoPersons, p.Console)
	table := "\n[documents]\n"
	for _, concern := range Concerns() {
		if text := Difference(all[concern], plain[concern]); len(text) > 0 {
			fmt.Fprintf(&b, "%s%s = %s\n", table, concern, quote(string(text)))
			table = ""
		}
	}
	return []byte(b.String()), nil
}

// ParsePolicy reads a policy of the image, and the product's defaults with it.
func ParsePolicy(text []byte) (Policy, Set, error) {
	var sealed struct {
		Delegate   *[]string         `toml:"delegate"`
		TwoPersons *bool             `toml:"two_persons"`
		Console    *bool             `toml:"console"`
		Documents  map[string]string `toml:"documents"`
	}
	if err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(&sealed); err != nil {
		return Policy{}, nil, fmt.Errorf("cannot read the policy: %w", located(err))
	}
	if sealed.Delegate == nil || sealed.TwoPersons == nil || sealed.Console == nil {
		return Policy{}, nil, errors.New("cannot read the policy: delegate, two_persons or console is missing")
	}
	all, err := ParseSet(sealed.Documents, nil)
	if err != nil {
		return Policy{}, nil, fmt.Errorf("cannot read the policy: %w", err)
	}
	p := Policy{Delegate: *sealed.Delegate, TwoPersons: *sealed.TwoPersons, Console: *sealed.Console}
	return p, all, p.Check()
}
