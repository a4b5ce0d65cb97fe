package supervise

import (
	"net/netip"
	"sync"
	"time"

	"cloison/format/service"
)

// door decides which connections are let in. It is pure but for its lock: the
// goroutine that accepts asks it, and the loop tells it what became of each.
//
// Whoever has not proved who he is holds one of a few places, and of one source
// only some, so that a flood from one does not shut out the others. New
// connections of one source are counted over time as well.
type door struct {
	service.Accept
	most uint32 // connections altogether

	mu      sync.Mutex
	inside  uint32
	waiting uint32
	sources map[netip.Addr]*source
	refused uint64 // since it was told
}

// source is what is known of one address.
type source struct {
	waiting uint32
	credit  time.Duration // each connection costs its part of a minute
	at      time.Time
}

// maxSources bounds what is remembered.
const maxSources = 1024

func newDoor(a service.Accept, most uint32) *door {
	return &door{Accept: a, most: most, sources: map[netip.Addr]*source{}}
}

// sourceOf is what counts as one: an IPv4 address, or the network that one IPv6
// host usually has for itself.
func sourceOf(from netip.Addr) netip.Addr {
	if from.Is4() {
		return from
	}
	p, err := from.Prefix(64)
	if err != nil {
		return from
	}
	return p.Addr()
}

// admit tells whether a connection is let in.
func (d *door) admit(now time.Time, from netip.Addr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.source(now, sourceOf(from))
	if s == nil || s.credit < d.price() || s.waiting >= d.Each || d.waiting >= d.Waiting || d.inside >= d.most {
		d.refused++
		return false
	}
	s.credit -= d.price()
	s.waiting++
	d.waiting++
	d.inside++
	return true
}

func (d *door) price() time.Duration { return time.Minute / time.Duration(d.Minute) }

// source finds what is known of an address, with its credit as of now; nil where
// there is no room to know more.
func (d *door) source(now time.Time, from netip.Addr) *source {
	if s := d.sources[from]; s != nil {
		d.renew(s, now)
		return s
	}
	if len(d.sources) >= maxSources {
		for a, s := range d.sources {
			// Nothing is forgotten of one who has all his credit.
			if d.renew(s, now); s.waiting == 0 && s.credit == time.Minute {
				delete(d.sources, a)
			}
		}
		if len(d.sources) >= maxSources {
			return nil
		}
	}
	s := &source{credit: time.Minute, at: now}
	d.sources[from] = s
	return s
}

func (d *door) renew(s *source, now time.Time) {
	s.credit = min(time.Minute, s.credit+now.Sub(s.at))
	s.at = now
}

// proven says that a connection has its session.
func (d *door) proven(from netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting--
	d.sources[sourceOf(from)].waiting--
}

// left says that a connection has ended.
func (d *door) left(from netip.Addr, proven bool) {
	if !proven {
		d.proven(from)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inside--
}

// takeRefused returns how many were refused since it was asked last.
func (d *door) takeRefused() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.refused
	d.refused = 0
	return n
}
