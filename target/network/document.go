package network

import (
	"fmt"
	"net/netip"
	"sync"

	"cloison/format/config"
	"cloison/format/rtnetlink"
)

// documents is the owner of the document "network": it makes it hold.
type documents struct {
	service *Service
	mu      sync.Mutex
	running config.Network
}

// Apply makes a document hold.
func (d *documents) Apply(text []byte) error {
	document, err := config.As[config.Network](text)
	if err != nil {
		return err
	}
	want, err := interfaces(document)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.service.Apply(want); err != nil {
		return err
	}
	d.running = document
	return nil
}

// Running returns the document that holds.
func (d *documents) Running() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return config.Print(&d.running)
}

// interfaces is what a document asks for. Package config has checked the forms.
func interfaces(d config.Network) ([]Interface, error) {
	var all []Interface
	for _, i := range d.Interfaces {
		one := Interface{Name: i.Name, Method: Method(i.Method), MTU: uint32(i.MTU)}
		for _, a := range i.Addresses {
			p, err := netip.ParsePrefix(a)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", i.Name, err)
			}
			if !p.Addr().Is4() {
				return nil, fmt.Errorf("%s: %s is of IPv6, which this release does not have yet", i.Name, a)
			}
			one.Addresses = append(one.Addresses, Prefix{rtnetlink.IPv4(p.Addr().As4()), uint8(p.Bits())})
		}
		if i.Gateway != "" {
			g, err := netip.ParseAddr(i.Gateway)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", i.Name, err)
			}
			if !g.Is4() {
				return nil, fmt.Errorf("%s: the gateway %s is of IPv6, which this release does not have yet", i.Name, i.Gateway)
			}
			one.Gateway = rtnetlink.IPv4(g.As4())
		}
		all = append(all, one)
	}
	return all, nil
}
