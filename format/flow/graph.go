// Package flow computes what can flow where between the services of a product,
// and judges the product's assertions about it. The graph comes from the
// declarations alone: what they do not say, the launcher does not allow. It
// needs nothing but the standard library.
//
// The language of assertions is Cloison's own (docs/formats.md). Graphs are
// printed as JSON, as DOT (the graphviz language) and as SVG 1.1.
package flow

import (
	"cmp"
	"slices"
	"strings"

	"cloison/format/network"
	"cloison/format/service"
)

// Kind is what a node of the graph is.
type Kind string

// Kinds of nodes. All but services and PID 1 are things that they share.
const (
	Service    Kind = "service"
	PID1       Kind = "init"
	Socket     Kind = "socket"     // SERVICE/NAME
	Network    Kind = "network"    // a network namespace
	Interface  Kind = "interface"  // NETWORK/NAME: what lies behind is not ours
	Device     Kind = "device"     // a device node
	Path       Kind = "path"       // a file or folder that outlives a service
	Descriptor Kind = "descriptor" // what PID 1 opens for services
)

// kinds in the order in which they are shown.
var kinds = []Kind{Service, PID1, Socket, Descriptor, Network, Interface, Device, Path}

// Node is one thing that information can be in.
type Node struct {
	Kind Kind
	Name string
}

// String is how assertions write the node: a service by its name alone, PID 1
// as "init", everything else as KIND:NAME.
func (n Node) String() string {
	switch n.Kind {
	case Service:
		return n.Name
	case PID1:
		return string(PID1)
	}
	return string(n.Kind) + ":" + n.Name
}

func compare(a, b Node) int {
	return cmp.Or(cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind)), strings.Compare(a.Name, b.Name))
}

// Edge is one step that information can take.
type Edge struct{ From, To Node }

// Graph is what can flow where.
type Graph struct {
	Services []*service.Service // in the order of their names
	Nodes    []Node             // in order
	Edges    []Edge             // in order, each once
}

// given are the descriptors of PID 1 that a declaration can ask for, by what
// they let through. One that is not here is taken to let everything through.
var given = map[string]struct {
	in, out, init bool
	as            string // the name of the node, where it is not its own
}{
	"kmsg":    {in: true, init: true}, // PID 1 writes to the kernel's log as well
	"audit":   {in: true},
	"outputs": {in: true}, // what services print
	// Who asks for a session is joined with whoever is in it. What PID 1 adds is one
	// of a few sentences, and a key that it has drawn by lot.
	"sessions":    {in: true, out: true},
	"channel":     {in: true, out: true, as: "sessions"},
	"control":     {in: true, out: true, as: "sessions"},
	"session":     {in: true, as: "sessions"}, // the ticket
	"session-key": {in: true},
}

// outputs is the node that all services with stdio = "log" write to.
var outputs = Node{Descriptor, "outputs"}

// New makes the graph of services, which have to fit together, and of the networks
// that they are in.
//
// Not in it, for it cannot be told from declarations: what the kernel shows to
// everybody, such as the time and the load. PID 1 hears from each service that it
// is ready or alive, two fixed words: that is no flow.
func New(services []*service.Service, networks ...network.Network) (*Graph, error) {
	if err := service.CheckTogether(services); err != nil {
		return nil, err
	}
	g := &Graph{Services: slices.SortedFunc(slices.Values(services), func(a, b *service.Service) int { return strings.Compare(a.Name, b.Name) })}
	types := map[string]string{}
	for _, s := range g.Services {
		for _, p := range s.Provides {
			types[s.Name+"/"+p.Name] = p.Type
		}
	}
	b := &builder{}
	for _, s := range g.Services {
		self := Node{Service, s.Name}
		b.nodes = append(b.nodes, self)
		b.shared(s, self)
		for i := range s.Provides {
			socket := Node{Socket, s.Name + "/" + s.Provides[i].Name}
			b.edge(socket, self, s.Provides[i].Type != service.Datagram)
		}
		for _, name := range s.Uses {
			// Nothing comes back from a datagram socket: its user has no address.
			b.edge(self, Node{Socket, name}, types[name] != service.Datagram)
		}
	}
	for _, n := range networks {
		node := Node{Network, n.Name}
		b.nodes = append(b.nodes, node)
		for _, i := range n.Interfaces {
			b.edge(node, Node{Interface, n.Name + "/" + i.Name}, true)
		}
	}
	b.nest()
	slices.SortFunc(b.nodes, compare)
	slices.SortFunc(b.edges, func(x, y Edge) int { return cmp.Or(compare(x.From, y.From), compare(x.To, y.To)) })
	g.Nodes, g.Edges = slices.Compact(b.nodes), slices.Compact(b.edges)
	return g, nil
}

type builder struct {
	nodes []Node
	edges []Edge
}

func (b *builder) edge(from, to Node, both bool) {
	b.nodes = append(b.nodes, from, to)
	b.edges = append(b.edges, Edge{from, to})
	if both {
		b.edges = append(b.edges, Edge{to, from})
	}
}

// shared adds everything but sockets that a service has in common with others.
func (b *builder) shared(s *service.Service, self Node) {
	if s.Stdio == service.Log {
		b.edge(self, outputs, false)
	} else {
		b.edge(self, Node{Device, "/dev/console"}, true)
	}
	for _, name := range s.Given {
		node, init := Node{Descriptor, name}, Node{PID1, ""}
		what, known := given[name]
		if !known {
			b.edge(self, node, true)
			b.edge(node, init, true)
			continue
		}
		if what.as != "" {
			node.Name = what.as
		}
		if what.in {
			b.edge(node, self, what.out)
		}
		if what.init {
			b.edge(init, node, false)
		}
	}
	if s.Network != service.None {
		b.edge(self, Node{Network, s.Network}, true)
	}
	for _, d := range s.Devices {
		// Who reads asks for it, and some devices tell others: only reading a
		// device that answers nobody in particular would be one way, and no
		// declaration says that of a device.
		b.edge(Node{Device, d.Path}, self, d.Access == service.Write || len(d.Ioctls) > 0)
	}
	for _, p := range s.State {
		b.edge(self, Node{Path, service.StatePath(s.Name, p)}, true)
	}
	for _, c := range s.Config {
		b.edge(Node{Path, c.Source}, self, false)
	}
	for _, p := range s.Sys {
		b.edge(Node{Path, p}, self, false)
	}
}

// nest joins paths of which one lies in the other.
func (b *builder) nest() {
	var paths []Node
	for _, n := range b.nodes {
		if n.Kind == Path {
			paths = append(paths, n)
		}
	}
	slices.SortFunc(paths, compare)
	paths = slices.Compact(paths)
	for _, outer := range paths {
		for _, inner := range paths {
			if strings.HasPrefix(inner.Name, outer.Name+"/") {
				b.edge(inner, outer, true)
			}
		}
	}
}

// has reports whether the graph has an edge.
func (g *Graph) has(from, to Node) bool {
	_, found := slices.BinarySearchFunc(g.Edges, Edge{from, to}, func(x, y Edge) int {
		return cmp.Or(compare(x.From, y.From), compare(x.To, y.To))
	})
	return found
}

// Flow returns a shortest way that information can take from one of the nodes in
// from to another one in to, which does not touch those in without; nil if there
// is none.
func (g *Graph) Flow(from, to, without []Node) []Node {
	next := map[Node][]Node{}
	for _, e := range g.Edges {
		if !slices.Contains(without, e.From) && !slices.Contains(without, e.To) {
			next[e.From] = append(next[e.From], e.To)
		}
	}
	var shortest []Node
	for _, start := range from {
		way := search(next, start, to)
		if way != nil && (shortest == nil || len(way) < len(shortest)) {
			shortest = way
		}
	}
	return shortest
}

// search looks from one node, the nearest first.
func search(next map[Node][]Node, start Node, to []Node) []Node {
	before := map[Node]Node{start: start}
	for queue := []Node{start}; len(queue) > 0; queue = queue[1:] {
		for _, n := range next[queue[0]] {
			if _, seen := before[n]; seen {
				continue
			}
			before[n] = queue[0]
			queue = append(queue, n)
			if !slices.Contains(to, n) {
				continue
			}
			way := []Node{n}
			for n != start {
				n = before[n]
				way = append(way, n)
			}
			slices.Reverse(way)
			return way
		}
	}
	return nil
}
