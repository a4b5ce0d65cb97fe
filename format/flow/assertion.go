package flow

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"cloison/format/service"
)

// Assertion is one sentence about a product that must be true:
//
//	assertion = "never" node "->" node [ "but through" service { "," service } ]
//	          | "only" service { "," service } right
//	          | "no service" right { "and" right }
//	right     = "holds" capability [ "over" node ]
//	          | ( "reaches" | "reads" | "writes" ) node
//	node      = service | "init" | kind ":" name
//	kind      = "socket" | "network" | "interface" | "device" | "path" | "descriptor"
//
// Words are separated by one space. A name may end in "*", which stands for any
// rest. "never" looks at all ways through the graph, the others at what a
// service can do by itself.
type Assertion struct {
	form    string // never, only, no
	from    pattern
	to      pattern
	through []string // services
	who     []string // services
	rights  []right
}

const (
	never   = "never"
	only    = "only"
	nobody  = "no"
	holds   = "holds"
	reaches = "reaches"
	reads   = "reads"
	writes  = "writes"
)

// right is what a service can do by itself.
type right struct {
	verb       string
	capability string
	node       pattern // for holds: over what, or nothing
}

// pattern is a node, or all nodes of a kind whose names begin alike.
type pattern struct {
	kind Kind
	name string
	any  bool // what follows name
}

func (p pattern) matches(n Node) bool {
	return p.kind == n.Kind && (p.name == n.Name || p.any && strings.HasPrefix(n.Name, p.name))
}

func (p pattern) String() string {
	s := Node{p.kind, p.name}.String()
	if p.any {
		s += "*"
	}
	return s
}

// ParseAssertion reads one sentence. It refuses what String would not print.
func ParseAssertion(text string) (Assertion, error) {
	w := &words{rest: strings.Split(text, " ")}
	a := Assertion{form: w.next()}
	switch a.form {
	case never:
		a.from = w.pattern()
		w.must("->")
		a.to = w.pattern()
		if w.is("but") {
			w.must("through")
			a.through = w.services()
		}
	case only:
		a.who = w.services()
		a.rights = []right{w.right()}
	case nobody:
		w.must("service")
		a.rights = []right{w.right()}
		for w.is("and") {
			a.rights = append(a.rights, w.right())
		}
	default:
		w.fail("it begins with %q, not with never, only or no service", a.form)
	}
	if len(w.rest) > 0 {
		w.fail("%q is more than an assertion", strings.Join(w.rest, " "))
	}
	if w.err == nil && a.String() != text {
		w.fail("%q is not as it would be printed: %q", text, a)
	}
	if w.err != nil {
		return Assertion{}, fmt.Errorf("cannot read the assertion %q: %w", text, w.err)
	}
	return a, nil
}

// String prints the sentence.
func (a Assertion) String() string {
	switch a.form {
	case never:
		s := never + " " + a.from.String() + " -> " + a.to.String()
		if len(a.through) > 0 {
			s += " but through " + strings.Join(a.through, ", ")
		}
		return s
	case only:
		return only + " " + strings.Join(a.who, ", ") + " " + a.rights[0].String()
	}
	var rights []string
	for _, r := range a.rights {
		rights = append(rights, r.String())
	}
	return nobody + " service " + strings.Join(rights, " and ")
}

func (r right) String() string {
	if r.verb != holds {
		return r.verb + " " + r.node.String()
	}
	if r.node == (pattern{}) {
		return holds + " " + r.capability
	}
	return holds + " " + r.capability + " over " + r.node.String()
}

// words is what is left of a sentence.
type words struct {
	rest []string
	err  error
}

func (w *words) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
	}
	w.rest = nil
}

func (w *words) next() string {
	if len(w.rest) == 0 {
		w.fail("it ends too early")
		return ""
	}
	word := w.rest[0]
	w.rest = w.rest[1:]
	return word
}

func (w *words) must(want string) {
	if got := w.next(); w.err == nil && got != want {
		w.fail("%q stands where %q has to", got, want)
	}
}

func (w *words) is(word string) bool {
	if len(w.rest) == 0 || w.rest[0] != word {
		return false
	}
	w.rest = w.rest[1:]
	return true
}

func (w *words) services() []string {
	for list := []string(nil); ; {
		name, more := strings.CutSuffix(w.next(), ",")
		if w.err == nil && !isName(name) || slices.Contains(list, name) {
			w.fail("%q is not the name of a service, once", name)
		}
		list = append(list, name)
		if !more || w.err != nil {
			return list
		}
	}
}

func (w *words) pattern() pattern {
	word := w.next()
	kind, name, colon := strings.Cut(word, ":")
	if !colon {
		kind, name = string(Service), word
		if word == string(PID1) {
			return pattern{kind: PID1}
		}
	}
	name, any := strings.CutSuffix(name, "*")
	p := pattern{Kind(kind), name, any}
	switch {
	case w.err != nil:
	case colon && (!slices.Contains(kinds, p.kind) || p.kind == Service || p.kind == PID1):
		w.fail("%q is not a kind of node", kind)
	case !colon && !any && !isName(name):
		w.fail("%q is not a node", word)
	case !colon && any && name != "" && !isName(name):
		w.fail("%q is not a node", word)
	case name == "" && !any, !plain(name):
		w.fail("%q has no name that can be written", word)
	}
	return p
}

func (w *words) right() right {
	r := right{verb: w.next()}
	switch r.verb {
	case holds:
		r.capability = w.next()
		if w.err == nil && !isCapability(r.capability) {
			w.fail("%q is not a capability", r.capability)
		}
		if w.is("over") {
			if r.node = w.pattern(); w.err == nil && r.node.kind != Network {
				w.fail("a capability is held over a network, not over %s", r.node)
			}
		}
	case reaches, reads, writes:
		if r.node = w.pattern(); w.err == nil && r.node.kind == Service {
			w.fail("services reach each other by sockets: write socket:%s/*, or never … -> %s", r.node, r.node)
		}
	default:
		w.fail("%q is not holds, reaches, reads or writes", r.verb)
	}
	return r
}

func isName(s string) bool {
	for i, c := range s {
		if (c < 'a' || c > 'z') && (i == 0 || c != '-' && (c < '0' || c > '9')) {
			return false
		}
	}
	return s != "" && s != string(PID1)
}

func isCapability(s string) bool {
	name, ok := strings.CutPrefix(s, "CAP_")
	return ok && name != "" && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") == ""
}

// plain reports whether a name can stand in a sentence.
func plain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '*' || r == ',' })
}

// BrokenError says that an assertion is not true of a product.
type BrokenError struct {
	Assertion Assertion
	How       string // the way that information takes, or what a service can do
}

func (e *BrokenError) Error() string {
	return fmt.Sprintf("assertion %q is broken: %s", e.Assertion, e.How)
}

// Check judges the sentence. A BrokenError names what breaks it. A sentence about a
// service that the product has not is another error: it would be true of
// anything.
func (a Assertion) Check(g *Graph) error {
	var names []string
	for _, s := range g.Services {
		names = append(names, s.Name)
	}
	for _, name := range slices.Concat(a.who, a.through, a.from.exactly(), a.to.exactly()) {
		if !slices.Contains(names, name) {
			return fmt.Errorf("cannot check %q: there is no service %s", a, name)
		}
	}
	switch a.form {
	case never:
		var through []Node
		for _, name := range a.through {
			through = append(through, Node{Service, name})
		}
		if way := g.Flow(g.all(a.from), g.all(a.to), through); way != nil {
			return &BrokenError{a, arrows(way)}
		}
	case only:
		for _, s := range g.Services {
			if how := g.can(s, a.rights[0]); how != "" && !slices.Contains(a.who, s.Name) {
				return &BrokenError{a, how}
			}
		}
	case nobody:
		for _, s := range g.Services {
			var how []string
			for _, r := range a.rights {
				if h := g.can(s, r); h != "" {
					how = append(how, h)
				}
			}
			if len(how) == len(a.rights) {
				return &BrokenError{a, strings.Join(how, ", and ")}
			}
		}
	default:
		return errors.New("internal error: an assertion that was not parsed")
	}
	return nil
}

// exactly returns the service that the pattern names, if it names one.
func (p pattern) exactly() []string {
	if p.kind == Service && !p.any {
		return []string{p.name}
	}
	return nil
}

// all returns the nodes that a pattern stands for.
func (g *Graph) all(p pattern) []Node {
	var nodes []Node
	for _, n := range g.Nodes {
		if p.matches(n) {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// can says how a service has a right, or "" if it has not.
func (g *Graph) can(s *service.Service, r right) string {
	self := Node{Service, s.Name}
	if r.verb == holds {
		if !slices.ContainsFunc(s.Capabilities, func(c service.Reasoned) bool { return c.Name == r.capability }) {
			return ""
		}
		switch network := (Node{Network, s.Network}); {
		case r.node == (pattern{}):
			return s.Name + " holds " + r.capability
		case s.Network != service.None && r.node.matches(network):
			return s.Name + " holds " + r.capability + " over " + network.words()
		}
		return ""
	}
	for _, n := range g.all(r.node) {
		if r.verb != reads && g.has(self, n) {
			return arrows([]Node{self, n})
		}
		if r.verb != writes && g.has(n, self) {
			return arrows([]Node{n, self})
		}
	}
	return ""
}

// arrows prints a way: "a → socket b/s → b".
func arrows(way []Node) string {
	var steps []string
	for _, n := range way {
		steps = append(steps, n.words())
	}
	return strings.Join(steps, " → ")
}

// words is the node for people.
func (n Node) words() string {
	switch n.Kind {
	case Service:
		return n.Name
	case PID1:
		return "PID 1"
	}
	return string(n.Kind) + " " + n.Name
}
