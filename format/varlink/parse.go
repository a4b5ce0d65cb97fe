package varlink

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxDefinition bounds a definition, in bytes.
const maxDefinition = 64 << 10

// ParseInterface reads a definition. Each member has a name of its own, and each
// type that is named is defined.
func ParseInterface(text string) (*Interface, error) {
	p := &parser{rest: text, line: 1}
	i, err := p.definition()
	if err != nil {
		return nil, fmt.Errorf("cannot parse an interface: line %d: %w", p.line, err)
	}
	return i, nil
}

type parser struct {
	rest string
	line int
	doc  []string // comment lines that stand directly before the rest
}

func (p *parser) definition() (*Interface, error) {
	if len(p.rest) > maxDefinition || !utf8.ValidString(p.rest) || strings.ContainsAny(p.rest, "\r\x00") {
		return nil, fmt.Errorf("it is larger than %d bytes, or no text", maxDefinition)
	}
	p.skip()
	i := &Interface{Doc: p.takeDoc()}
	if p.word() != "interface" {
		return nil, errors.New("no interface")
	}
	p.skip()
	if i.Name = p.word(); !isInterfaceName(i.Name) {
		return nil, fmt.Errorf("%q is no name of an interface", i.Name)
	}
	for {
		p.doc = nil
		p.skip()
		if p.rest == "" {
			break
		}
		m := Member{Doc: p.takeDoc(), Keyword: p.word()}
		p.skip()
		if m.Name = p.word(); !isMemberName(m.Name) {
			return nil, fmt.Errorf("%q is no name of a member", m.Name)
		}
		if slices.ContainsFunc(i.Members, func(o Member) bool { return o.Name == m.Name }) {
			return nil, fmt.Errorf("%s is defined twice", m.Name)
		}
		if err := p.member(&m); err != nil {
			return nil, err
		}
		i.Members = append(i.Members, m)
	}
	for _, m := range i.Members {
		for _, t := range []Type{m.In, m.Out} {
			if err := i.defined(t); err != nil {
				return nil, fmt.Errorf("%s: %w", m.Name, err)
			}
		}
	}
	return i, nil
}

func (p *parser) member(m *Member) (err error) {
	if m.In, err = p.braces(0); err != nil {
		return err
	}
	switch m.Keyword {
	case "method":
		if !p.sign("->") {
			return errors.New("no -> behind the parameters")
		}
		if m.Out, err = p.braces(0); err != nil {
			return err
		}
		if m.In.Kind != Struct || m.Out.Kind != Struct {
			return errors.New("parameters have types")
		}
	case "error":
		if m.In.Kind != Struct {
			return errors.New("parameters have types")
		}
	case "type":
	default:
		return fmt.Errorf("%q is neither method, type nor error", m.Keyword)
	}
	return nil
}

// braces reads a struct or an enum.
func (p *parser) braces(depth int) (Type, error) {
	if depth > maxDepth {
		return Type{}, fmt.Errorf("it is nested deeper than %d", maxDepth)
	}
	if !p.sign("(") {
		return Type{}, errors.New("no ( where one has to be")
	}
	t := Type{Kind: Struct}
	if p.sign(")") {
		return t, nil
	}
	var names []string
	for {
		p.skip()
		name := p.word()
		if !isFieldName(name) || slices.Contains(names, name) {
			return Type{}, fmt.Errorf("%q is no name of a field, or stands twice", name)
		}
		names = append(names, name)
		if p.sign(":") {
			of, err := p.typ(depth + 1)
			if err != nil {
				return Type{}, err
			}
			t.Fields = append(t.Fields, Field{name, of})
		}
		if p.sign(",") {
			continue
		}
		if !p.sign(")") {
			return Type{}, errors.New("neither , nor ) behind a field")
		}
		switch len(t.Fields) {
		case len(names):
		case 0:
			t = Type{Kind: Enum, Words: names}
		default:
			return Type{}, errors.New("some fields have no type")
		}
		return t, nil
	}
}

func (p *parser) typ(depth int) (Type, error) {
	if depth > maxDepth {
		return Type{}, fmt.Errorf("it is nested deeper than %d", maxDepth)
	}
	p.skip()
	for _, kind := range []Kind{Maybe, List, Map} {
		if strings.HasPrefix(p.rest, string(kind)) {
			p.rest = p.rest[len(kind):]
			of, err := p.typ(depth + 1)
			if err == nil && kind == Maybe && of.Kind == Maybe {
				err = errors.New("?? is no type")
			}
			return Type{Kind: kind, Of: &of}, err
		}
	}
	if strings.HasPrefix(p.rest, "(") {
		return p.braces(depth)
	}
	switch name := p.word(); {
	case slices.Contains([]Kind{Bool, Int, Float, String, Object}, Kind(name)):
		return Type{Kind: Kind(name)}, nil
	case isMemberName(name):
		return Type{Kind: Defined, Name: name}, nil
	default:
		return Type{}, fmt.Errorf("%q is no type", name)
	}
}

// skip passes white space and comments.
func (p *parser) skip() {
	for p.rest != "" {
		switch p.rest[0] {
		case '\n':
			// An empty line parts a comment from what follows.
			if strings.HasPrefix(strings.TrimLeft(p.rest[1:], " \t"), "\n") {
				p.doc = nil
			}
			p.line++
			p.rest = p.rest[1:]
		case ' ', '\t':
			p.rest = p.rest[1:]
		case '#':
			line, _, _ := strings.Cut(p.rest, "\n")
			p.doc = append(p.doc, strings.Trim(line[1:], " \t"))
			p.rest = p.rest[len(line):]
		default:
			return
		}
	}
}

func (p *parser) takeDoc() string {
	doc := strings.Trim(strings.Join(p.doc, "\n"), "\n")
	p.doc = nil
	return doc
}

// word reads a name or keyword.
func (p *parser) word() string {
	n := 0
	for n < len(p.rest) && (isLetter(p.rest[n]) || isDigit(p.rest[n]) || strings.IndexByte("._-", p.rest[n]) >= 0) {
		// The arrow begins with a hyphen.
		if strings.HasPrefix(p.rest[n:], "->") {
			break
		}
		n++
	}
	word := p.rest[:n]
	p.rest = p.rest[n:]
	return word
}

// sign passes a sign if it is next.
func (p *parser) sign(s string) bool {
	p.skip()
	rest, ok := strings.CutPrefix(p.rest, s)
	if ok {
		p.rest = rest
	}
	return ok
}

// defined looks for the types that t names.
func (i *Interface) defined(t Type) error {
	if t.Kind == Defined {
		if _, ok := i.Find("type", t.Name); !ok {
			return fmt.Errorf("the type %s is not defined", t.Name)
		}
	}
	if t.Of != nil {
		return i.defined(*t.Of)
	}
	for _, f := range t.Fields {
		if err := i.defined(f.Type); err != nil {
			return err
		}
	}
	return nil
}
