package flow

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"cloison/format/service"
)

// document is the graph as JSON.
type document struct {
	Title      string     `json:"title"`
	Services   []facts    `json:"services"`
	Nodes      []jsonNode `json:"nodes"`
	Flows      []jsonFlow `json:"flows"`
	Assertions []Verdict  `json:"assertions"`
}

type facts struct {
	Name         string   `json:"name"`
	About        string   `json:"about"`
	User         uint32   `json:"user"`
	Network      string   `json:"network"`
	Capabilities []string `json:"capabilities"`
}

type jsonNode struct {
	ID   string `json:"id"`
	Kind Kind   `json:"kind"`
}

type jsonFlow struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Verdict is what became of one assertion.
type Verdict struct {
	Assertion string `json:"assertion"`
	Why       string `json:"why"`
	Broken    string `json:"broken,omitempty"` // the path or service that breaks it
}

// JSON prints the graph for programs.
func (g *Graph) JSON(title string, verdicts []Verdict) ([]byte, error) {
	d := document{Title: title, Services: []facts{}, Nodes: []jsonNode{}, Flows: []jsonFlow{}, Assertions: append([]Verdict{}, verdicts...)}
	for _, s := range g.Services {
		d.Services = append(d.Services, facts{s.Name, s.About, s.ID, s.Network, append([]string{}, capabilities(s)...)})
	}
	for _, n := range g.Nodes {
		d.Nodes = append(d.Nodes, jsonNode{n.String(), n.Kind})
	}
	for _, e := range g.Edges {
		d.Flows = append(d.Flows, jsonFlow{e.From.String(), e.To.String()})
	}
	text, err := json.MarshalIndent(d, "", "  ")
	return append(text, '\n'), err
}

func capabilities(s *service.Service) []string {
	var names []string
	for _, c := range s.Capabilities {
		names = append(names, c.Name)
	}
	return names
}

// shapes of the nodes in DOT, so that the kinds differ without colours.
var shapes = map[Kind]string{
	Service: "box", PID1: "box", Socket: "oval", Descriptor: "oval", Network: "hexagon", Interface: "diamond", Device: "component", Path: "folder",
}

// DOT prints the graph in the language of graphviz.
func (g *Graph) DOT(title string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "digraph flows {\n\tlabel=%s\n\trankdir=LR\n", strconv.Quote(title))
	for _, n := range g.Nodes {
		style := ""
		if n.Kind == Service || n.Kind == PID1 {
			style = " style=bold"
		}
		fmt.Fprintf(&b, "\t%s [label=%s shape=%s%s]\n", strconv.Quote(n.String()), strconv.Quote(strings.Join(g.label(n), "\n")), shapes[n.Kind], style)
	}
	for _, l := range g.lines() {
		both := ""
		if l.both {
			both = " [dir=both]"
		}
		fmt.Fprintf(&b, "\t%s -> %s%s\n", strconv.Quote(l.From.String()), strconv.Quote(l.To.String()), both)
	}
	b.WriteString("}\n")
	return b.String()
}

// label is what a picture writes into a node: its name, then what it is.
func (g *Graph) label(n Node) []string {
	switch n.Kind {
	case PID1:
		return []string{n.words()}
	case Service:
		for _, s := range g.Services {
			if s.Name == n.Name {
				return append([]string{n.Name, fmt.Sprintf("user %d", s.ID)}, capabilities(s)...)
			}
		}
	}
	return []string{n.Name, string(n.Kind)}
}

// line is a flow, or two that are each other's way back.
type line struct {
	Edge
	both bool
}

// lines joins flows that go both ways. They are drawn from the one who has the
// thing to the thing: from users to sockets to those who provide them.
func (g *Graph) lines() []line {
	var lines []line
	for _, e := range g.Edges {
		back := g.has(e.To, e.From)
		if !back || g.forward(e) {
			lines = append(lines, line{e, back})
		}
	}
	return lines
}

// forward chooses one of two directions.
func (g *Graph) forward(e Edge) bool {
	switch {
	case e.From.Kind == Socket:
		return strings.HasPrefix(e.From.Name, e.To.Name+"/")
	case e.To.Kind == Socket:
		return !strings.HasPrefix(e.To.Name, e.From.Name+"/")
	case e.From.Kind == Path && e.To.Kind == Path:
		return len(e.From.Name) > len(e.To.Name)
	}
	return e.From.Kind == Service || e.To.Kind == PID1
}

// Table prints the graph for people.
func (g *Graph) Table(verdicts []Verdict) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "SERVICE\tUSER\tNETWORK\tCAPABILITIES\tDEVICES\tPROVIDES\tUSES\tKEEPS")
	for _, s := range g.Services {
		var devices, provides, keeps []string
		for _, d := range s.Devices {
			devices = append(devices, d.Path)
		}
		for _, p := range s.Provides {
			provides = append(provides, p.Name)
		}
		for _, p := range s.State {
			keeps = append(keeps, service.StatePath(s.Name, p))
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Name, s.ID, s.Network,
			dash(capabilities(s)), dash(devices), dash(provides), dash(s.Uses), dash(keeps))
	}
	fmt.Fprintln(w, "\nFROM\t\tTO")
	for _, l := range g.lines() {
		arrow := "→"
		if l.both {
			arrow = "↔"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", l.From.words(), arrow, l.To.words())
	}
	if len(verdicts) > 0 {
		fmt.Fprintln(w, "\nASSERTION\t\tWHY")
	}
	for _, v := range verdicts {
		word := "holds"
		if v.Broken != "" {
			word = "BROKEN"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", v.Assertion, word, v.Why)
		if v.Broken != "" {
			fmt.Fprintf(w, "\t\tby %s\n", v.Broken)
		}
	}
	w.Flush() // into memory
	lines := slices.Collect(strings.Lines(b.String()))
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " \n") + "\n"
	}
	return strings.Join(lines, "")
}

func dash(list []string) string {
	if len(list) == 0 {
		return "-"
	}
	return strings.Join(list, " ")
}
