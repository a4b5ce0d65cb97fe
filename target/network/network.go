// Package network is the network service: it gives the interfaces of its network
// namespace the addresses and routes that the configuration asks for, fixed ones or
// those of a DHCP server. It needs CAP_NET_ADMIN there, and to talk to DHCP servers
// CAP_NET_BIND_SERVICE; it has no use for raw sockets.
//
// Everything that comes in over the network is parsed by package dhcp.
package network

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"cloison/format/dhcp"
	"cloison/format/rtnetlink"
)

// Kernel is asked about the network namespace, and told to change it.
type Kernel interface {
	Do(request []byte) (rtnetlink.Answer, error)
}

// Wire is the way to the DHCP servers of one interface.
type Wire interface {
	Send(b []byte, to [4]byte, port uint16) error
	Receive(b []byte) (n int, from [4]byte, port uint16, err error)
	Close() error
}

// Method is where the address of an interface comes from.
type Method string

// Methods.
const (
	None   Method = "none"
	DHCP   Method = "dhcp"
	Static Method = "static"
)

// Prefix is an address with the length of its network's prefix, in bits.
type Prefix struct {
	IP   rtnetlink.IPv4
	Bits uint8
}

// Interface is what one interface is to have.
type Interface struct {
	Name      string
	Method    Method
	Addresses []Prefix       // of Static
	Gateway   rtnetlink.IPv4 // of Static; zero: none
	MTU       uint32         // bytes; 0: its own
}

func (i Interface) equal(other Interface) bool {
	return i.Name == other.Name && i.Method == other.Method && slices.Equal(i.Addresses, other.Addresses) && i.Gateway == other.Gateway && i.MTU == other.MTU
}

// Options say what a service needs.
type Options struct {
	Kernel   Kernel
	Listen   func(device string) (Wire, error)
	Say      func(string) // one line for the log
	Hostname string       // what DHCP servers are told; "" for nothing
}

// Service keeps the interfaces of one network namespace.
type Service struct {
	Options
	mu      sync.Mutex
	links   map[string]rtnetlink.Link // as they were at the start
	workers map[string]*worker
}

// worker keeps one interface.
type worker struct {
	Interface
	link rtnetlink.Link
	stop func() // and waits
}

// New finds the interfaces. What they have from an earlier run of the service is
// taken away when it is not asked for again: until then connections go on.
func New(o Options) (*Service, error) {
	s := &Service{Options: o, links: map[string]rtnetlink.Link{}, workers: map[string]*worker{}}
	answer, err := o.Kernel.Do(rtnetlink.Links())
	if err != nil {
		return nil, fmt.Errorf("cannot list the interfaces: %w", err)
	}
	for _, l := range answer.Links {
		if !l.Loopback {
			s.links[l.Name] = l
		}
	}
	return s, nil
}

// Apply makes the interfaces what is asked for; those that are not named have no
// address. It returns when fixed addresses are there and DHCP servers are being
// asked. On an error it has taken back what it did.
func (s *Service) Apply(want []Interface) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range want {
		if _, ok := s.links[i.Name]; !ok {
			return fmt.Errorf("there is no interface %s in this network", i.Name)
		}
	}
	var before []Interface
	for _, w := range s.workers {
		before = append(before, w.Interface)
	}
	if err := s.change(want); err != nil {
		return errors.Join(err, s.change(before))
	}
	return nil
}

// change compares what is asked for with what is, and changes what differs.
func (s *Service) change(want []Interface) error {
	for name := range s.links {
		i := Interface{Name: name, Method: None}
		if at := slices.IndexFunc(want, func(w Interface) bool { return w.Name == name }); at >= 0 {
			i = want[at]
		}
		w := s.workers[name]
		if w != nil && w.equal(i) {
			continue
		}
		if w != nil {
			w.stop()
			delete(s.workers, name)
		}
		w = &worker{Interface: i, link: s.links[name], stop: func() {}}
		if err := s.begin(w); err != nil {
			return fmt.Errorf("cannot set up %s: %w", name, err)
		}
		s.workers[name] = w
	}
	return nil
}

// Close stops asking servers. Addresses stay: the kernel takes a lease away when
// it ends.
func (s *Service) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.workers {
		w.stop()
	}
}

func (s *Service) begin(w *worker) error {
	mtu := w.MTU
	if mtu == 0 {
		mtu = w.link.MTU
	}
	do := func(requests ...[]byte) error {
		for _, r := range requests {
			if _, err := s.Kernel.Do(r); err != nil {
				return err
			}
		}
		return nil
	}
	if err := do(rtnetlink.SetMTU(w.link.Index, mtu), rtnetlink.SetUp(w.link.Index, w.Method != None)); err != nil {
		return err
	}
	if w.Method != DHCP {
		var addresses []rtnetlink.Address
		for _, p := range w.Addresses {
			addresses = append(addresses, rtnetlink.Address{Link: w.link.Index, IP: p.IP, Bits: p.Bits, Valid: rtnetlink.Forever})
		}
		return s.set(w, addresses, w.Gateway, rtnetlink.Static)
	}
	if len(w.link.Hardware) != len(dhcp.Hardware{}) {
		return errors.New("it is no Ethernet interface, and DHCP knows no other")
	}
	wire, err := s.Listen(w.Name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { s.lease(ctx, w, wire); close(done) }()
	w.stop = func() { cancel(); <-done }
	return nil
}

// metric keeps the default routes of interfaces apart.
func metric(l rtnetlink.Link) uint32 { return 100 + l.Index }

// listening is the route that an interface has while it has no address: without
// one the kernel takes no answer of a server for genuine (rp_filter).
func listening(l rtnetlink.Link) rtnetlink.Route {
	return rtnetlink.Route{Link: l.Index, Metric: 1 << 30, Protocol: rtnetlink.DHCP}
}

// set gives an interface exactly these addresses and this default route.
func (s *Service) set(w *worker, want []rtnetlink.Address, gateway rtnetlink.IPv4, protocol uint8) error {
	have, err := s.Kernel.Do(rtnetlink.Addresses())
	if err != nil {
		return err
	}
	for _, a := range want {
		if _, err := s.Kernel.Do(a.Set()); err != nil {
			return fmt.Errorf("address %v: %w", dhcp.IPv4(a.IP), err)
		}
	}
	for _, a := range have.Addresses {
		same := func(b rtnetlink.Address) bool { return a.IP == b.IP && a.Bits == b.Bits }
		if a.Link == w.link.Index && !slices.ContainsFunc(want, same) {
			if _, err := s.Kernel.Do(a.Remove()); err != nil {
				return err
			}
		}
	}
	var route rtnetlink.Route
	if gateway != (rtnetlink.IPv4{}) && len(want) > 0 {
		route = rtnetlink.Route{Gateway: gateway, Link: w.link.Index, Source: want[0].IP, Metric: metric(w.link), Protocol: protocol}
		if _, err := s.Kernel.Do(route.Set()); err != nil {
			return fmt.Errorf("gateway %v: %w", dhcp.IPv4(gateway), err)
		}
	}
	routes, err := s.Kernel.Do(rtnetlink.Routes())
	if err != nil {
		return err
	}
	for _, r := range routes.Routes {
		if r.Link == w.link.Index && r.Protocol != rtnetlink.Kernel && r != route {
			if _, err := s.Kernel.Do(r.Remove()); err != nil {
				return err
			}
		}
	}
	return nil
}

// heard is an answer from an address.
type heard struct {
	dhcp.Answer
	from dhcp.IPv4
}

// lease asks for an address and keeps it until ctx ends.
func (s *Service) lease(ctx context.Context, w *worker, wire Wire) {
	answers, read := make(chan heard), make(chan struct{})
	go func() {
		defer close(read)
		b := make([]byte, dhcp.MaxSize+1)
		for {
			n, from, port, err := wire.Receive(b)
			if err != nil {
				return
			}
			// What is not of the form, and not from a server's port, is not answered
			// and not logged either: anybody on the link can send it.
			if a, err := dhcp.Parse(b[:n]); err == nil && port == dhcp.ServerPort {
				select {
				case answers <- heard{a, from}:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	defer func() {
		_ = wire.Close() // nothing is lost
		<-read
	}()
	c := &client{hardware: dhcp.Hardware(w.link.Hardware), hostname: s.Hostname, random: random}
	timer := time.NewTimer(0)
	defer timer.Stop()
	o, problem := c.start(time.Now()), ""
	for {
		if err := s.follow(w, wire, o); err != nil {
			// A link that is down, most often: the next try is the client's.
			if problem != err.Error() {
				problem = err.Error()
				s.Say(fmt.Sprintf("%s: %v", w.Name, err))
			}
		} else {
			problem = ""
		}
		timer.Reset(time.Until(o.wake))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			o = c.late(time.Now())
		case a := <-answers:
			o = c.heard(time.Now(), a.Answer, a.from)
		case <-read:
			s.Say(fmt.Sprintf("%s: the way to servers is closed", w.Name))
			return
		}
	}
}

// follow does what a client wants.
func (s *Service) follow(w *worker, wire Wire, o order) error {
	var problems []error
	if o.lose != "" {
		s.Say(fmt.Sprintf("%s: has no address any more: %s", w.Name, o.lose))
		problems = append(problems, s.set(w, nil, rtnetlink.IPv4{}, rtnetlink.DHCP))
	}
	if l := o.have; l != nil {
		valid := uint32(rtnetlink.Forever)
		if !l.end.IsZero() {
			valid = uint32(time.Until(l.end)/time.Second) + 1
		}
		address := rtnetlink.Address{Link: w.link.Index, IP: rtnetlink.IPv4(l.Address), Bits: l.Bits, Valid: valid}
		var gateway rtnetlink.IPv4
		if len(l.Routers) > 0 {
			gateway = rtnetlink.IPv4(l.Routers[0])
		}
		err := s.set(w, []rtnetlink.Address{address}, gateway, rtnetlink.DHCP)
		if err == nil {
			s.Say(fmt.Sprintf("%s: %v/%d from the server %v, gateway %v, for %d s", w.Name, l.Address, l.Bits, l.Server, dhcp.IPv4(gateway), l.Lease))
		}
		problems = append(problems, err)
	}
	if o.send != nil {
		to := o.to
		if to == (dhcp.IPv4{}) {
			to = dhcp.IPv4{255, 255, 255, 255}
		}
		if o.send.Client == (dhcp.IPv4{}) {
			_, err := s.Kernel.Do(listening(w.link).Set())
			problems = append(problems, err)
		}
		problems = append(problems, wire.Send(o.send.Print(), to, dhcp.ServerPort))
	}
	return errors.Join(problems...)
}

func random() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return binary.LittleEndian.Uint32(b[:])
}
