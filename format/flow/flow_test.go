package flow

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"cloison/format/network"
	"cloison/format/service"
)

var update = flag.Bool("update", false, "write the golden pictures")

// sample has each kind of node, one-way sockets, shared paths and a circle.
func sample() []*service.Service {
	socket := func(name, kind string, allow ...string) service.Socket {
		return service.Socket{Name: name, Type: kind, Mode: 0o660, Allow: allow}
	}
	held := func(names ...string) (c []service.Reasoned) {
		for _, n := range names {
			c = append(c, service.Reasoned{Name: n, Why: "it has to"})
		}
		return c
	}
	return []*service.Service{
		{
			Name: "sender", ID: 901, Stdio: service.Log, Network: service.None,
			Uses: []string{"diode/up"}, State: []string{"/var/spool"},
			Config: []service.Config{{Source: "/state/configuration/mail", Path: "/etc/mail"}},
		},
		{
			Name: "diode", ID: 902, Stdio: service.Log, Network: service.None,
			Provides: []service.Socket{socket("up", service.Datagram, "sender")}, Uses: []string{"store/in"},
		},
		{Name: "store", ID: 903, Stdio: service.Log, Network: service.None, Provides: []service.Socket{socket("in", service.Stream, "diode", "net")}},
		{
			Name: "net", ID: 904, Stdio: service.Log, Network: "outer", Capabilities: held("CAP_NET_ADMIN"), Uses: []string{"store/in"},
			Devices: []service.Device{{Path: "/dev/net/tun", Access: service.Write}},
		},
		{Name: "console", ID: 905, Stdio: service.Console, Network: service.None, Given: []string{"supervisor"}},
		{
			Name: "logd", ID: 906, Stdio: service.Log, Network: service.None, Given: []string{"kmsg", "outputs"},
			Devices: []service.Device{{Path: "/dev/rtc0", Access: service.Read}},
			Config:  []service.Config{{Source: "/state/configuration", Path: "/etc/all"}},
			Sys:     []string{"/sys/class/rtc"},
		},
		{Name: "clock", ID: 907, Stdio: service.Log, Network: "inner", Capabilities: held("CAP_SYS_TIME", "CAP_NET_ADMIN")},
	}
}

func graph(t interface{ Fatal(...any) }, services []*service.Service) *Graph {
	g, err := New(services)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestCheck(t *testing.T) {
	g := graph(t, sample())
	for _, test := range []struct{ assertion, broken string }{
		{"never store -> sender", ""}, // nothing comes back through the datagram socket
		{"never sender -> store", "sender → socket diode/up → diode → socket store/in → store"},
		{"never sender -> store but through diode", ""},
		{"never sender -> network:outer", "sender → socket diode/up → diode → socket store/in → net → network outer"},
		{"never network:outer -> sender", ""},
		{"never network:* -> store", "network outer → net → socket store/in → store"},
		{"never store -> console", ""},
		{"never console -> logd", "console → descriptor supervisor → PID 1 → descriptor kmsg → logd"},
		{"never console -> logd but through console", ""},
		{"never * -> init", "console → descriptor supervisor → PID 1"},
		{"never logd -> *", ""},
		{"never path:/state/configuration/mail -> logd", "path /state/configuration/mail → path /state/configuration → logd"},
		{"never d* -> s*", "diode → socket store/in → store"},
		{"only clock, net holds CAP_NET_ADMIN", ""},
		{"only net holds CAP_NET_ADMIN", "clock holds CAP_NET_ADMIN"},
		{"only net holds CAP_NET_ADMIN over network:outer", ""},
		{"only clock holds CAP_NET_ADMIN over network:outer", "net holds CAP_NET_ADMIN over network outer"},
		{"only sender holds CAP_NET_ADMIN over network:*", "clock holds CAP_NET_ADMIN over network inner"},
		{"only logd reads descriptor:outputs", ""},
		{"only logd writes descriptor:outputs", "clock → descriptor outputs"},
		{"only sender writes path:/state/*", ""},
		{"only net reads device:*", "device /dev/console → console"},
		{"only net, console writes device:*", ""},
		{"only diode, store, net reaches socket:store/in", ""},
		{"only diode, store reaches socket:store/in", "net → socket store/in"},
		{"no service reaches network:* and writes device:/dev/net/*", "net → network outer, and net → device /dev/net/tun"},
		{"no service reaches network:* and writes path:*", ""},
		{"no service holds CAP_SYS_TIME and reaches network:outer", ""},
		{"no service holds CAP_SYS_ADMIN", ""},
		{"no service reaches network:inner", "clock → network inner"},
	} {
		a, err := ParseAssertion(test.assertion)
		if err != nil {
			t.Errorf("ParseAssertion(%q) = %v", test.assertion, err)
			continue
		}
		err = a.Check(g)
		var broken *BrokenError
		if test.broken == "" && err != nil || test.broken != "" && (!errors.As(err, &broken) || broken.How != test.broken) {
			t.Errorf("%q: %v, want %s", test.assertion, err, test.broken)
		}
	}
	// True of anything: an error, and not one that says what breaks it.
	for _, text := range []string{"never senders -> store", "never sender -> stores", "never sender -> store but through diodes", "only nobody holds CAP_NET_ADMIN"} {
		a, err := ParseAssertion(text)
		if err != nil {
			t.Errorf("ParseAssertion(%q) = %v", text, err)
		} else if err := a.Check(g); err == nil || errors.As(err, new(*BrokenError)) {
			t.Errorf("%q: %v, want another error", text, err)
		}
	}
}

func TestParseAssertionRefuses(t *testing.T) {
	for _, text := range []string{
		"", "always a -> b", "never a", "never a b", "never a -> b c", "never a  -> b", " never a -> b", "never a -> b ", "never a → b",
		"never A -> b", "never a -> b but c", "never a -> b but through", "never a -> b but through b,c", "never a -> b but through c*",
		"never service:a -> b", "never init: -> b", "never network: -> b", "never net:x -> b", "never device:/dev/*x -> b", "never path:* but through a",
		"only", "only a", "only a holds", "only a holds NET", "only a holds CAP_X over b", "only a holds CAP_X over device:/dev/x", "only a, a holds CAP_X",
		"only a reaches b", "only a reads CAP_X", "only init holds CAP_X", "only a holds CAP_X and holds CAP_Y", "only * holds CAP_X",
		"no one holds CAP_X", "no service", "no service holds CAP_X and", "no service holds CAP_X or holds CAP_Y", "no service holds cap_x",
	} {
		if a, err := ParseAssertion(text); err == nil {
			t.Errorf("ParseAssertion(%q) = %v, want an error", text, a)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	services := sample()
	services[0].Uses = append(services[0].Uses, "store/in")
	const want = "service sender uses store/in, which does not allow it"
	if _, err := New(services); err == nil || err.Error() != want {
		t.Errorf("New = %v, want %s", err, want)
	}
}

// random draws services that share sockets, networks and paths.
func random(t *rapid.T) []*service.Service {
	names := []string{"a", "b", "c", "d", "e", "f", "g", "h"}[:rapid.IntRange(1, 8).Draw(t, "services")]
	var services []*service.Service
	for i, name := range names {
		s := &service.Service{Name: name, ID: uint32(901 + i), Stdio: rapid.SampledFrom([]string{service.Log, service.Console}).Draw(t, "stdio")}
		s.Network = rapid.SampledFrom([]string{service.None, service.None, "outer", "inner"}).Draw(t, "network")
		s.Given = rapid.SampledFrom([][]string{nil, nil, {"kmsg"}, {"outputs"}, {"supervisor"}}).Draw(t, "given")
		s.Provides = []service.Socket{{Name: "s", Type: rapid.SampledFrom([]string{service.Stream, service.Datagram}).Draw(t, "type")}}
		for _, other := range names {
			if other != name && rapid.IntRange(0, 5).Draw(t, "uses") == 0 {
				s.Uses = append(s.Uses, other+"/s")
			}
		}
		if rapid.Bool().Draw(t, "configured") {
			s.Config = []service.Config{{Source: rapid.SampledFrom([]string{"/state/configuration", "/state/configuration/x"}).Draw(t, "source")}}
		}
		services = append(services, s)
	}
	for _, s := range services {
		for _, other := range services {
			if slices.Contains(other.Uses, s.Name+"/s") {
				s.Provides[0].Allow = append(s.Provides[0].Allow, other.Name)
			}
		}
	}
	return services
}

// reachable closes a graph by brute force: Warshall's algorithm.
func reachable(g *Graph, without []Node) map[Edge]bool {
	r := map[Edge]bool{}
	for _, e := range g.Edges {
		if !slices.Contains(without, e.From) && !slices.Contains(without, e.To) {
			r[e] = true
		}
	}
	for _, via := range g.Nodes {
		for _, from := range g.Nodes {
			for _, to := range g.Nodes {
				if r[Edge{from, via}] && r[Edge{via, to}] {
					r[Edge{from, to}] = true
				}
			}
		}
	}
	return r
}

func TestFlow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := graph(t, random(t))
		without := rapid.SliceOfNDistinct(rapid.SampledFrom(g.Nodes), 0, 2, rapid.ID[Node]).Draw(t, "without")
		r := reachable(g, without)
		for _, from := range g.Nodes {
			for _, to := range g.Nodes {
				if from == to {
					continue
				}
				way := g.Flow([]Node{from}, []Node{to}, without)
				if (way != nil) != r[Edge{from, to}] {
					t.Fatalf("Flow(%v, %v, %v) = %v, brute force says %t", from, to, without, way, r[Edge{from, to}])
				}
				if way == nil {
					continue
				}
				if way[0] != from || way[len(way)-1] != to {
					t.Errorf("Flow(%v, %v) = %v: it begins or ends elsewhere", from, to, way)
				}
				for i := range way[1:] {
					if !g.has(way[i], way[i+1]) || slices.Contains(without, way[i]) {
						t.Errorf("Flow(%v, %v) = %v: no step %d", from, to, way, i)
					}
				}
			}
		}
		from := rapid.SliceOfNDistinct(rapid.SampledFrom(g.Nodes), 1, 3, rapid.ID[Node]).Draw(t, "from")
		to := rapid.SliceOfNDistinct(rapid.SampledFrom(g.Nodes), 1, 3, rapid.ID[Node]).Draw(t, "to")
		want := false
		for _, f := range from {
			for _, t := range to {
				want = want || f != t && r[Edge{f, t}]
			}
		}
		if way := g.Flow(from, to, without); (way != nil) != want {
			t.Errorf("Flow(%v, %v, %v) = %v, brute force says %t", from, to, without, way, want)
		}
	})
}

func verdicts() []Verdict {
	return []Verdict{
		{"never store -> sender", "what goes up does not come down", ""},
		{"no service reaches network:inner", "nobody needs it", "clock → network inner"},
	}
}

func TestPictures(t *testing.T) {
	g := graph(t, sample())
	text, err := g.JSON("Sample", verdicts())
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]string{
		"sample.svg": g.SVG("Sample <&>"), "sample.dot": g.DOT(`Sample "quoted"`), "sample.json": string(text), "sample.txt": g.Table(verdicts()),
		"empty.svg": graph(t, nil).SVG("Nothing"), "empty.txt": graph(t, nil).Table(nil),
	} {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-update writes it), -want +got:\n%s", name, diff)
		}
	}
}

// TestLayout holds for any graph: nothing overlaps, all lines go from left to
// right through all columns between, and the same graph gives the same picture.
func TestLayout(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		services := random(t)
		g := graph(t, services)
		columns, lines := layout(g)
		shown := map[Node]bool{}
		for rank, column := range columns {
			for i, p := range column {
				if p.rank != rank {
					t.Errorf("a place of rank %d stands in column %d", p.rank, rank)
				}
				if p.node != nil {
					shown[*p.node] = true
				}
				if i > 0 && p.y-p.height/2 < column[i-1].y+column[i-1].height/2+rowGap-1 {
					t.Errorf("two places of column %d overlap: %v, %v", rank, column[i-1], p)
				}
				if rank > 0 && len(columns[rank-1]) > 0 && p.x-p.width/2 < columns[rank-1][0].x {
					t.Errorf("columns %d and %d overlap", rank-1, rank)
				}
			}
		}
		if len(shown) != len(g.Nodes) {
			t.Errorf("%d of %d nodes are shown", len(shown), len(g.Nodes))
		}
		drawnEdges := map[Edge]bool{}
		for _, l := range lines {
			drawnEdges[l.Edge] = true
			if l.both {
				drawnEdges[Edge{l.To, l.From}] = true
			}
			left, right := l.ends()
			if *l.through[0].node != left || *l.through[len(l.through)-1].node != right {
				t.Errorf("line %v ends elsewhere", l.Edge)
			}
			for i, p := range l.through[1:] {
				if p.rank != l.through[i].rank+1 {
					t.Errorf("line %v jumps from column %d to %d", l.Edge, l.through[i].rank, p.rank)
				}
			}
		}
		for _, e := range g.Edges {
			if !drawnEdges[e] {
				t.Errorf("%v is not drawn", e)
			}
		}
		if len(drawnEdges) != len(g.Edges) {
			t.Errorf("%d flows are drawn, there are %d", len(drawnEdges), len(g.Edges))
		}
		if err := wellFormed(g.SVG("a <title> & \"more\"")); err != nil {
			t.Errorf("the SVG is no XML: %v", err)
		}
		slices.Reverse(services)
		if again := graph(t, services); again.SVG("x") != g.SVG("x") {
			t.Error("the order of the services changes the picture")
		}
	})
}

// wellFormed reads XML to its end.
func wellFormed(text string) error {
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func FuzzParseAssertion(f *testing.F) {
	for _, text := range []string{
		"never a -> network:* but through b, c", "only a, b holds CAP_NET_ADMIN over network:outer",
		"no service reaches init and writes device:/dev/vd* and reads path:/state/x", "never * -> descriptor:kmsg",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseAssertion(text)
		if err == nil && a.String() != text {
			t.Errorf("ParseAssertion(%q) prints as %q", text, a)
		}
	})
}

// TestSessions: who asks for a session is joined with whoever is in it, and not with
// all that talk to PID 1.
func TestSessions(t *testing.T) {
	services := []*service.Service{
		{Name: "sshd", ID: 901, Stdio: service.Log, Network: "outer", Given: []string{"sessions"}},
		{Name: "role-admin", ID: 902, Stdio: service.Log, Network: service.None, Given: []string{"session", "channel", "control"}},
		{Name: "configd", ID: 903, Stdio: service.Log, Network: service.None, Given: []string{"session-key"}},
		{Name: "console", ID: 904, Stdio: service.Console, Network: service.None, Given: []string{"supervisor"}},
	}
	g, err := New(services, network.Network{Name: "outer", Interfaces: []network.Interface{{Name: "wan0"}}})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"never role-admin -> network:outer":                 false,
		"never role-admin -> interface:outer/*":             false,
		"never interface:outer/* -> role-admin":             false,
		"never sshd -> configd":                             true,
		"never console -> network:*":                        true,
		"never console -> configd":                          true,
		"no service reaches interface:*":                    true,
		"only sshd reaches network:outer":                   true,
		"only sshd, role-admin reaches descriptor:sessions": true,
	} {
		a, err := ParseAssertion(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Check(g); (err == nil) != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}
