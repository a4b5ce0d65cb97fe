package varlink

import (
	"fmt"
	"strings"
)

// Kind of a type.
type Kind string

// Kinds. The first five are written as they are called.
const (
	Bool    Kind = "bool"
	Int     Kind = "int"
	Float   Kind = "float"
	String  Kind = "string"
	Object  Kind = "object" // any JSON
	Enum    Kind = "enum"   // (a, b)
	Struct  Kind = "struct" // (a: int, b: string)
	List    Kind = "[]"
	Map     Kind = "[string]"
	Maybe   Kind = "?"
	Defined Kind = "defined" // by its name
)

// Type is the type of a value.
type Type struct {
	Kind   Kind
	Name   string  // of Defined
	Of     *Type   // of List, Map and Maybe
	Fields []Field // of Struct
	Words  []string
}

// Field is one field of a Struct.
type Field struct {
	Name string
	Type Type
}

// Member is a method, a type or an error of an interface.
type Member struct {
	Keyword string // "method", "type" or "error"
	Name    string
	Doc     string // comment before it, without the signs
	In, Out Type   // of a method; In alone for a type and an error
}

// Interface is one definition.
type Interface struct {
	Name    string
	Doc     string
	Members []Member
}

// Find returns the member with a keyword and name.
func (i *Interface) Find(keyword, name string) (Member, bool) {
	for _, m := range i.Members {
		if m.Keyword == keyword && m.Name == name {
			return m, true
		}
	}
	return Member{}, false
}

// Methods returns the names of the methods, in their order.
func (i *Interface) Methods() []string {
	var names []string
	for _, m := range i.Members {
		if m.Keyword == "method" {
			names = append(names, m.Name)
		}
	}
	return names
}

// String prints the definition in one form.
func (i *Interface) String() string {
	var b strings.Builder
	comment(&b, i.Doc)
	fmt.Fprintf(&b, "interface %s\n", i.Name)
	for _, m := range i.Members {
		b.WriteByte('\n')
		comment(&b, m.Doc)
		fmt.Fprintf(&b, "%s %s%s", m.Keyword, m.Name, space(m.Keyword))
		b.WriteString(m.In.String())
		if m.Keyword == "method" {
			b.WriteString(" -> " + m.Out.String())
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func space(keyword string) string {
	if keyword == "method" {
		return ""
	}
	return " "
}

func comment(b *strings.Builder, doc string) {
	if doc == "" {
		return
	}
	for line := range strings.SplitSeq(doc, "\n") {
		b.WriteString(strings.TrimRight("# "+line, " ") + "\n")
	}
}

func (t Type) String() string {
	switch t.Kind {
	case Enum:
		return "(" + strings.Join(t.Words, ", ") + ")"
	case Struct:
		fields := make([]string, len(t.Fields))
		for i, f := range t.Fields {
			fields[i] = f.Name + ": " + f.Type.String()
		}
		return "(" + strings.Join(fields, ", ") + ")"
	case List, Map, Maybe:
		return string(t.Kind) + t.Of.String()
	case Defined:
		return t.Name
	}
	return string(t.Kind)
}

// SplitName splits INTERFACE.MEMBER.
func SplitName(s string) (of, member string, ok bool) {
	dot := strings.LastIndexByte(s, '.')
	if dot < 0 {
		return "", "", false
	}
	of, member = s[:dot], s[dot+1:]
	return of, member, isInterfaceName(of) && isMemberName(member)
}

// maxName bounds the name of an interface, in bytes.
const maxName = 255

// isInterfaceName: parts of letters, digits and inner hyphens, at least two, the
// first beginning with a letter.
func isInterfaceName(s string) bool {
	parts := strings.Split(s, ".")
	if len(parts) < 2 || len(s) > maxName || !isLetter(s[0]) {
		return false
	}
	for _, p := range parts {
		if p == "" || p[0] == '-' || p[len(p)-1] == '-' {
			return false
		}
		for i := range len(p) {
			if !isLetter(p[i]) && !isDigit(p[i]) && p[i] != '-' {
				return false
			}
		}
	}
	return true
}

func isMemberName(s string) bool {
	if s == "" || len(s) > maxName || s[0] < 'A' || s[0] > 'Z' {
		return false
	}
	for i := range len(s) {
		if !isLetter(s[i]) && !isDigit(s[i]) {
			return false
		}
	}
	return true
}

// isFieldName: letters, digits and single inner underscores.
func isFieldName(s string) bool {
	if s == "" || len(s) > maxName || !isLetter(s[0]) || s[len(s)-1] == '_' || strings.Contains(s, "__") {
		return false
	}
	for i := range len(s) {
		if !isLetter(s[i]) && !isDigit(s[i]) && s[i] != '_' {
			return false
		}
	}
	return true
}

func isLetter(c byte) bool { return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
