package network

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cloison/format/dhcp"
)

var (
	card   = dhcp.Hardware{2, 0, 0, 0, 0, 1}
	server = dhcp.IPv4{10, 0, 2, 2}
	ours   = dhcp.IPv4{10, 0, 2, 15}
	begin  = time.Unix(1_800_000_000, 0)
)

// talk is a client, and the time.
type talk struct {
	t *testing.T
	*client
	now time.Time
}

func newTalk(t *testing.T) *talk {
	n := uint32(0)
	c := &client{hardware: card, hostname: "gw", random: func() uint32 { n += 1000; return n }}
	k := &talk{t, c, begin}
	if o := c.start(begin); !o.wake.Equal(begin) || o.send != nil {
		t.Fatalf("start = %+v", o)
	}
	return k
}

// wait goes on to the time that was asked for.
func (k *talk) wait() order {
	k.now = k.deadline
	return k.late(k.now)
}

func (k *talk) hear(change func(*dhcp.Answer)) order {
	a := dhcp.Answer{Type: dhcp.ACK, ID: k.id, Hardware: card, Address: ours, Server: server, Lease: 3600, Bits: 24, Routers: []dhcp.IPv4{server}}
	if change != nil {
		change(&a)
	}
	return k.heard(k.now, a, a.Server)
}

func (k *talk) is(p phase) {
	k.t.Helper()
	if k.phase != p {
		k.t.Fatalf("phase %s, want %s", k.phase, p)
	}
}

// asks checks what a question says.
func (k *talk) asks(o order, want dhcp.Question, to dhcp.IPv4) {
	k.t.Helper()
	if o.send == nil {
		k.t.Fatalf("nothing is sent: %+v", o)
	}
	want.ID, want.Hardware, want.Hostname, want.Seconds = k.id, card, "gw", o.send.Seconds
	if diff := cmp.Diff(want, *o.send); diff != "" || o.to != to {
		k.t.Fatalf("asks %v, want %v; -want +got:\n%s", o.to, to, diff)
	}
}

func offered(a *dhcp.Answer) { a.Type = dhcp.Offer }

// bind goes the short way to a lease.
func (k *talk) bind() lease {
	k.t.Helper()
	k.asks(k.wait(), dhcp.Question{Type: dhcp.Discover}, dhcp.IPv4{})
	k.asks(k.hear(offered), dhcp.Question{Type: dhcp.Request, Wanted: ours, Server: server}, dhcp.IPv4{})
	o := k.hear(nil)
	if o.have == nil {
		k.t.Fatalf("after the ACK: %+v", o)
	}
	k.is(bound)
	return *o.have
}

func TestBind(t *testing.T) {
	k := newTalk(t)
	l := k.bind()
	if l.Address != ours || l.renew.Sub(k.now) != 30*time.Minute || l.rebind.Sub(k.now) != 3150*time.Second || l.end.Sub(k.now) != time.Hour {
		t.Errorf("lease %+v from %v", l, k.now)
	}
}

// TestKeep: half of the time it asks its server, later all of them, and gives the
// address up when the lease ends.
func TestKeep(t *testing.T) {
	k := newTalk(t)
	first := k.bind()
	k.asks(k.wait(), dhcp.Question{Type: dhcp.Request, Client: ours}, server)
	k.is(renewing)
	if o := k.hear(nil); o.have == nil || !o.have.end.After(first.end) {
		t.Fatalf("after a renewal: %+v", o)
	}
	k.is(bound)
	asked := map[phase]int{}
	for {
		o := k.wait()
		asked[k.phase]++
		if o.lose != "" {
			k.asks(o, dhcp.Question{Type: dhcp.Discover}, dhcp.IPv4{})
			break
		}
		if k.phase == rebinding {
			k.asks(o, dhcp.Question{Type: dhcp.Request, Client: ours}, dhcp.IPv4{})
		}
		if k.now.After(first.end.Add(time.Hour)) {
			t.Fatal("the lease does not end")
		}
	}
	k.is(selecting)
	if asked[renewing] < 3 || asked[renewing] > 10 || asked[rebinding] < 2 || asked[rebinding] > 5 {
		t.Errorf("asked %v times", asked)
	}
}

func TestRebind(t *testing.T) {
	k := newTalk(t)
	k.bind()
	for k.phase != rebinding {
		k.wait()
	}
	// Another server answers for the same address.
	if o := k.hear(func(a *dhcp.Answer) { a.Server = dhcp.IPv4{10, 0, 2, 3} }); o.have == nil || o.have.Server != (dhcp.IPv4{10, 0, 2, 3}) {
		t.Fatalf("after a rebinding: %+v", o)
	}
	k.is(bound)
}

// TestRefused: a server that says no is not asked again at once, and takes an
// address back.
func TestRefused(t *testing.T) {
	k := newTalk(t)
	k.wait()
	k.hear(offered)
	if o := k.hear(func(a *dhcp.Answer) { *a = dhcp.Answer{Type: dhcp.NAK, ID: a.ID, Hardware: a.Hardware, Server: server} }); o.lose != "" || o.wake.Sub(k.now) != refused {
		t.Errorf("after a NAK: %+v", o)
	}
	k.is(initial)
	k.bind()
	k.wait()
	o := k.hear(func(a *dhcp.Answer) { a.Address = dhcp.IPv4{10, 0, 2, 16} })
	if !strings.Contains(o.lose, "10.0.2.2 has taken it back") {
		t.Errorf("after an ACK for another address: %+v", o)
	}
	k.is(initial)
}

// TestNotAsked: what nobody asked for changes nothing.
func TestNotAsked(t *testing.T) {
	for name, change := range map[string]func(a *dhcp.Answer){
		"another exchange":          func(a *dhcp.Answer) { a.ID++ },
		"another interface":         func(a *dhcp.Answer) { a.Hardware[5]++ },
		"an offer that is too late": func(a *dhcp.Answer) { a.Type = dhcp.Offer },
		"another server":            func(a *dhcp.Answer) { a.Server = dhcp.IPv4{10, 0, 2, 66} },
	} {
		k := newTalk(t)
		k.wait()
		k.hear(offered)
		was := *k.client
		if o := k.hear(change); o.have != nil || o.send != nil || o.lose != "" || k.phase != requesting || !k.deadline.Equal(was.deadline) {
			t.Errorf("%s: %+v", name, o)
		}
		k.hear(nil)
		k.is(bound)
		// A NAK that nobody waits for takes no address away.
		if o := k.hear(func(a *dhcp.Answer) { a.Type = dhcp.NAK }); o.lose != "" || k.phase != bound {
			t.Errorf("a NAK in between: %+v", o)
		}
		k.wait()
		if o := k.hear(func(a *dhcp.Answer) { a.Type, a.Server = dhcp.NAK, dhcp.IPv4{10, 0, 2, 66} }); o.lose != "" || k.phase != renewing {
			t.Errorf("a NAK of another server: %+v", o)
		}
	}
	k := newTalk(t)
	k.wait()
	if o := k.hear(func(a *dhcp.Answer) { a.Type, a.Lease = dhcp.Offer, 119 }); o.send != nil || k.phase != selecting {
		t.Errorf("an offer for two minutes less a second: %+v", o)
	}
}

// TestPatience: without an answer it asks less and less often; a server that
// offers and does not hand out is left.
func TestPatience(t *testing.T) {
	k := newTalk(t)
	var waits []time.Duration
	for range 8 {
		o := k.wait()
		waits = append(waits, o.wake.Sub(k.now))
	}
	for i, want := range []time.Duration{4, 8, 16, 32, 64, 64, 64, 64} {
		if off := waits[i] - want*time.Second; off < -time.Second || off >= time.Second {
			t.Errorf("waits %v, want 4 s to 64 s, each a second more or less", waits)
		}
	}
	k.hear(offered)
	for range requests - 1 {
		k.asks(k.wait(), dhcp.Question{Type: dhcp.Request, Wanted: ours, Server: server}, dhcp.IPv4{})
	}
	k.asks(k.wait(), dhcp.Question{Type: dhcp.Discover}, dhcp.IPv4{})
	k.is(selecting)
}

func TestInfinite(t *testing.T) {
	k := newTalk(t)
	k.wait()
	k.hear(offered)
	o := k.hear(func(a *dhcp.Answer) { a.Lease = dhcp.Infinite })
	if o.have == nil || !o.have.end.IsZero() || o.wake.Sub(k.now) < 300*24*time.Hour {
		t.Errorf("a lease without an end: %+v", o)
	}
	if o := k.wait(); o.send != nil || o.lose != "" || o.wake.Sub(k.now) != never {
		t.Errorf("after a year: %+v", o)
	}
}
