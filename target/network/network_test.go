package network

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"cloison/format/dhcp"
	"cloison/format/rtnetlink"
)

// kernel keeps addresses and routes as the kernel does.
type kernel struct {
	mu        sync.Mutex
	up        map[uint32]bool
	mtu       []string
	addresses []rtnetlink.Address
	routes    []rtnetlink.Route
	refuse    func(request []byte) bool
}

var links = []rtnetlink.Link{
	{Index: 1, Name: "lo", Loopback: true, Up: true},
	{Index: 2, Name: "wan0", Hardware: card[:], MTU: 1500},
	{Index: 3, Name: "lan0", Hardware: []byte{2, 0, 0, 0, 0, 2}, MTU: 1500},
}

// as reads a request as if it were an answer.
func as(request []byte, kind uint16) (a rtnetlink.Answer) {
	b := bytes.Clone(request)
	binary.LittleEndian.PutUint16(b[4:], kind)
	binary.LittleEndian.PutUint16(b[6:], 0)
	if err := a.Read(b, binary.LittleEndian.Uint32(b[8:])); err != nil {
		panic(err)
	}
	return a
}

func (k *kernel) Do(request []byte) (rtnetlink.Answer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.refuse != nil && k.refuse(request) {
		return rtnetlink.Answer{}, syscall.EINVAL
	}
	switch kind := binary.LittleEndian.Uint16(request[4:]); kind {
	case 18:
		return rtnetlink.Answer{Links: links}, nil
	case 22:
		return rtnetlink.Answer{Addresses: slices.Clone(k.addresses)}, nil
	case 26:
		return rtnetlink.Answer{Routes: slices.Clone(k.routes)}, nil
	case 19:
		index := binary.LittleEndian.Uint32(request[20:])
		if len(request) > 32 {
			k.mtu = append(k.mtu, fmt.Sprintf("%d=%d", index, binary.LittleEndian.Uint32(request[36:])))
		} else {
			k.up[index] = binary.LittleEndian.Uint32(request[24:]) == 1
		}
	case 20, 21:
		a := as(request, 20).Addresses[0]
		k.addresses = slices.DeleteFunc(k.addresses, func(b rtnetlink.Address) bool { return b.IP == a.IP && b.Link == a.Link })
		if kind == 20 {
			k.addresses = append(k.addresses, a)
		}
	case 24, 25:
		r := as(request, 24).Routes[0]
		k.routes = slices.DeleteFunc(k.routes, func(b rtnetlink.Route) bool { return b.To == r.To && b.Bits == r.Bits && b.Metric == r.Metric })
		if kind == 24 {
			k.routes = append(k.routes, r)
		}
	default:
		return rtnetlink.Answer{}, syscall.EOPNOTSUPP
	}
	return rtnetlink.Answer{Done: true}, nil
}

// wire is a link with a server at its other end.
type wire struct {
	server func(question []byte) []dhcp.Answer
	in     chan []byte
	closed chan struct{}
}

func (w *wire) Send(b []byte, to [4]byte, port uint16) error {
	if port != dhcp.ServerPort || to != [4]byte{255, 255, 255, 255} && to != server {
		return fmt.Errorf("sent to %v:%d", to, port)
	}
	for _, a := range w.server(b) {
		a.ID = binary.BigEndian.Uint32(b[4:])
		w.in <- a.Print()
	}
	return nil
}

func (w *wire) Receive(b []byte) (int, [4]byte, uint16, error) {
	select {
	case m := <-w.in:
		return copy(b, m), server, dhcp.ServerPort, nil
	case <-w.closed:
		return 0, [4]byte{}, 0, os.ErrClosed
	}
}

func (w *wire) Close() error { close(w.closed); return nil }

type world struct {
	*Service
	*kernel
	said []string
}

func newWorld(t *testing.T, answer func(question []byte) []dhcp.Answer) *world {
	t.Helper()
	w := &world{kernel: &kernel{up: map[uint32]bool{}}}
	s, err := New(Options{
		Kernel: w.kernel, Hostname: "gw",
		Listen: func(string) (Wire, error) {
			return &wire{server: answer, in: make(chan []byte, 10), closed: make(chan struct{})}, nil
		},
		Say: func(line string) { w.kernel.mu.Lock(); w.said = append(w.said, line); w.kernel.mu.Unlock() },
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Service = s
	return w
}

// has checks addresses and default routes.
func (w *world) has(t *testing.T, addresses, routes string) {
	t.Helper()
	w.kernel.mu.Lock()
	defer w.kernel.mu.Unlock()
	var a, r []string
	for _, x := range w.kernel.addresses {
		a = append(a, fmt.Sprintf("%d:%v/%d for %d", x.Link, dhcp.IPv4(x.IP), x.Bits, x.Valid))
	}
	for _, x := range w.routes {
		r = append(r, fmt.Sprintf("%d:%v from %v metric %d", x.Link, dhcp.IPv4(x.Gateway), dhcp.IPv4(x.Source), x.Metric))
	}
	if got := strings.Join(a, ", "); got != addresses {
		t.Errorf("addresses %q, want %q", got, addresses)
	}
	if got := strings.Join(r, ", "); got != routes {
		t.Errorf("routes %q, want %q", got, routes)
	}
}

func fixedInterface() Interface {
	return Interface{Name: "wan0", Method: Static, Addresses: []Prefix{{rtnetlink.IPv4{192, 0, 2, 7}, 24}}, Gateway: rtnetlink.IPv4{192, 0, 2, 1}, MTU: 1400}
}

func TestStatic(t *testing.T) {
	w := newWorld(t, nil)
	if err := w.Apply([]Interface{fixedInterface()}); err != nil {
		t.Fatal(err)
	}
	const forever = " for 4294967295"
	w.has(t, "2:192.0.2.7/24"+forever, "2:192.0.2.1 from 192.0.2.7 metric 102")
	if !w.up[2] || w.up[3] || !slices.Contains(w.mtu, "2=1400") {
		t.Errorf("up %v, mtu %v", w.up, w.mtu)
	}
	// What changes, changes; the rest is not touched.
	other := fixedInterface()
	other.Addresses = []Prefix{{rtnetlink.IPv4{192, 0, 2, 8}, 24}}
	if err := w.Apply([]Interface{other, {Name: "lan0", Method: Static, Addresses: []Prefix{{rtnetlink.IPv4{10, 0, 0, 1}, 8}}}}); err != nil {
		t.Fatal(err)
	}
	got := []rtnetlink.Address{}
	got = append(got, w.kernel.addresses...)
	slices.SortFunc(got, func(a, b rtnetlink.Address) int { return int(a.Link) - int(b.Link) })
	want := []rtnetlink.Address{{Link: 2, IP: rtnetlink.IPv4{192, 0, 2, 8}, Bits: 24, Valid: rtnetlink.Forever}, {Link: 3, IP: rtnetlink.IPv4{10, 0, 0, 1}, Bits: 8, Valid: rtnetlink.Forever}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("addresses, -want +got:\n%s", diff)
	}
	if err := w.Apply(nil); err != nil {
		t.Fatal(err)
	}
	w.has(t, "", "")
	if w.up[2] || w.up[3] || w.mtu[len(w.mtu)-1][1:] != "=1500" {
		t.Errorf("with nothing asked for: up %v, mtu %v", w.up, w.mtu)
	}
}

// TestTakenBack: what cannot be done as a whole leaves what was.
func TestTakenBack(t *testing.T) {
	w := newWorld(t, nil)
	if err := w.Apply([]Interface{fixedInterface()}); err != nil {
		t.Fatal(err)
	}
	if err := w.Apply([]Interface{{Name: "wan1", Method: DHCP}}); err == nil || err.Error() != "there is no interface wan1 in this network" {
		t.Errorf("Apply of an interface that is not there = %v", err)
	}
	bad := fixedInterface()
	bad.Gateway = rtnetlink.IPv4{198, 51, 100, 1}
	w.refuse = func(request []byte) bool { return bytes.Contains(request, bad.Gateway[:]) }
	if err := w.Apply([]Interface{bad}); err == nil || !strings.Contains(err.Error(), "cannot set up wan0: gateway 198.51.100.1: invalid argument") {
		t.Errorf("Apply of a gateway that the kernel refuses = %v", err)
	}
	w.has(t, "2:192.0.2.7/24 for 4294967295", "2:192.0.2.1 from 192.0.2.7 metric 102")
}

// TestLease: an address from a server comes, is kept as long as the server renews
// it, and goes when it does not.
func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := false
		w := newWorld(t, func(q []byte) []dhcp.Answer {
			if silent {
				return nil
			}
			a := dhcp.Answer{Type: dhcp.ACK, Hardware: card, Address: ours, Server: server, Lease: 3600, Bits: 24, Routers: []dhcp.IPv4{server}}
			if q[242] == byte(dhcp.Discover) {
				a.Type = dhcp.Offer
			}
			stranger := a
			stranger.Hardware[5]++
			return []dhcp.Answer{stranger, a}
		})
		if err := w.Apply([]Interface{{Name: "wan0", Method: DHCP}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.has(t, "2:10.0.2.15/24 for 3601", "2:10.0.2.2 from 10.0.2.15 metric 102")
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		w.has(t, "2:10.0.2.15/24 for 3601", "2:10.0.2.2 from 10.0.2.15 metric 102")
		silent = true
		time.Sleep(time.Hour)
		synctest.Wait()
		// Only the route that lets answers in is left.
		w.has(t, "", "2:0.0.0.0 from 0.0.0.0 metric 1073741824")
		if last := w.said[len(w.said)-1]; last != "wan0: has no address any more: its lease has ended, and no server has renewed it" {
			t.Errorf("said %q", last)
		}
		silent = false
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		w.has(t, "2:10.0.2.15/24 for 3601", "2:10.0.2.2 from 10.0.2.15 metric 102")
		// An interface that is not to ask any more has nothing of it left.
		if err := w.Apply(nil); err != nil {
			t.Fatal(err)
		}
		w.has(t, "", "")
		w.Close()
	})
}
