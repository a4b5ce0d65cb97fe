package network

import (
	"fmt"
	"time"

	"cloison/format/dhcp"
)

// phase is what a client is doing (RFC 2131, figure 5).
type phase string

const (
	initial    phase = "init"
	selecting  phase = "selecting"  // it has asked for offers
	requesting phase = "requesting" // it has taken one
	bound      phase = "bound"
	renewing   phase = "renewing"  // it asks its server
	rebinding  phase = "rebinding" // it asks all servers
)

// Times (RFC 2131, sections 4.1 and 4.4.5).
const (
	firstWait = 4 * time.Second
	longWait  = 64 * time.Second
	// refused is how long a client waits that was told no: a server that says no
	// for ever is not to be kept busy.
	refused = 10 * time.Second
	// leastWait is the least time between two tries to keep a lease.
	leastWait = time.Minute
	// minLease is the shortest lease that is taken: one that is shorter would keep
	// the machine busy with changing its address.
	minLease = 2 * time.Minute
	// never is when a lease without an end is looked at again.
	never = 365 * 24 * time.Hour
	// requests is how often an offer is asked for.
	requests = 4
)

// lease is an address for a time.
type lease struct {
	dhcp.Answer
	renew, rebind, end time.Time // end is zero where there is none
}

// client gets one interface an address. It is pure: what comes in and when, and
// what is to be done comes out.
type client struct {
	hardware dhcp.Hardware
	hostname string
	random   func() uint32

	phase    phase
	began    time.Time // the exchange
	id       uint32
	tries    int
	offer    dhcp.Answer
	lease    lease // of bound, renewing and rebinding
	deadline time.Time
}

// what a client wants done.
type order struct {
	send *dhcp.Question
	to   dhcp.IPv4 // zero: to all
	// have is a lease that begins, or goes on for longer.
	have *lease
	// lose says that there is no address any more, and why.
	lose string
	wake time.Time // when to call late
}

// start begins, or begins anew.
func (c *client) start(now time.Time) order {
	c.phase, c.deadline = initial, now
	return order{wake: now}
}

// enter begins an exchange or goes on with it.
func (c *client) enter(p phase, now time.Time) {
	if p != requesting && p != rebinding {
		// The offer belongs to the same exchange as the request for it.
		c.id, c.began = c.random(), now
	}
	c.phase, c.tries = p, 0
}

// late is called when the time has come that the last order named.
func (c *client) late(now time.Time) order {
	if now.Before(c.deadline) {
		return order{wake: c.deadline}
	}
	switch c.phase {
	case initial:
		c.enter(selecting, now)
	case requesting:
		if c.tries >= requests {
			c.enter(selecting, now)
		}
	case bound:
		if c.lease.end.IsZero() {
			c.deadline = now.Add(never)
			return order{wake: c.deadline}
		}
		c.enter(renewing, now)
	case renewing:
		if !c.lease.rebind.IsZero() && !now.Before(c.lease.rebind) {
			c.enter(rebinding, now)
		}
	}
	if (c.phase == renewing || c.phase == rebinding) && !c.lease.end.IsZero() && !now.Before(c.lease.end) {
		c.enter(selecting, now)
		o := c.ask(now)
		o.lose = "its lease has ended, and no server has renewed it"
		return o
	}
	return c.ask(now)
}

// ask says what the phase is to say, and when to say it again.
func (c *client) ask(now time.Time) order {
	q := &dhcp.Question{
		ID: c.id, Hardware: c.hardware, Hostname: c.hostname,
		Seconds: uint16(min(now.Sub(c.began)/time.Second, 65535)),
	}
	o := order{send: q}
	wait := min(firstWait<<min(c.tries, 8), longWait)
	// Machines that start together do not ask together.
	wait += time.Duration(c.random()%2000)*time.Millisecond - time.Second
	switch c.phase {
	case selecting:
		q.Type = dhcp.Discover
	case requesting:
		q.Type, q.Wanted, q.Server = dhcp.Request, c.offer.Address, c.offer.Server
	case renewing:
		q.Type, q.Client, o.to = dhcp.Request, c.lease.Address, c.lease.Server
		wait = max(c.lease.rebind.Sub(now)/2, leastWait)
	case rebinding:
		q.Type, q.Client = dhcp.Request, c.lease.Address
		wait = max(c.lease.end.Sub(now)/2, leastWait)
	}
	c.tries++
	c.deadline = now.Add(wait)
	if c.phase == renewing && c.deadline.After(c.lease.rebind) {
		c.deadline = c.lease.rebind
	}
	if c.phase == rebinding && c.deadline.After(c.lease.end) {
		c.deadline = c.lease.end
	}
	o.wake = c.deadline
	return o
}

// heard is called with what a server at an address has said. What was not asked
// for has no effect.
func (c *client) heard(now time.Time, a dhcp.Answer, from dhcp.IPv4) order {
	nothing := order{wake: c.deadline}
	if a.ID != c.id || a.Hardware != c.hardware {
		return nothing
	}
	switch {
	case c.phase == selecting && a.Type == dhcp.Offer:
		if err := acceptable(a); err != nil {
			return nothing
		}
		c.enter(requesting, now)
		c.offer = a
		return c.ask(now)
	case c.phase == requesting && a.Server == c.offer.Server, c.phase == renewing && from == c.lease.Server, c.phase == rebinding:
		return c.decided(now, a)
	}
	return nothing
}

// decided follows a server's answer to a request.
func (c *client) decided(now time.Time, a dhcp.Answer) order {
	before := c.phase
	want := c.lease.Address
	if before == requesting {
		want = c.offer.Address
	}
	switch {
	case a.Type == dhcp.ACK && a.Address == want && acceptable(a) == nil:
		c.lease, c.phase = newLease(now, a), bound
		c.deadline = c.lease.renew
		if c.lease.end.IsZero() {
			c.deadline = now.Add(never)
		}
		held := c.lease
		return order{have: &held, wake: c.deadline}
	case a.Type == dhcp.NAK, a.Type == dhcp.ACK:
		c.phase, c.deadline = initial, now.Add(refused)
		o := order{wake: c.deadline}
		if before != requesting {
			o.lose = fmt.Sprintf("the server %v has taken it back", a.Server)
		}
		return o
	}
	return order{wake: c.deadline}
}

// acceptable says what is wrong with an offer of the right form.
func acceptable(a dhcp.Answer) error {
	if a.Lease != dhcp.Infinite && time.Duration(a.Lease)*time.Second < minLease {
		return fmt.Errorf("a lease of %d s is too short", a.Lease)
	}
	return nil
}

// newLease computes when to renew (RFC 2131, section 4.4.5).
func newLease(now time.Time, a dhcp.Answer) lease {
	l := lease{Answer: a}
	if a.Lease == dhcp.Infinite {
		return l
	}
	whole := time.Duration(a.Lease) * time.Second
	renew, rebind := time.Duration(a.Renewal)*time.Second, time.Duration(a.Rebinding)*time.Second
	if rebind == 0 {
		rebind = whole * 7 / 8
	}
	if renew == 0 || renew > rebind {
		renew = min(whole/2, rebind)
	}
	l.renew, l.rebind, l.end = now.Add(max(renew, leastWait)), now.Add(max(rebind, leastWait)), now.Add(whole)
	return l
}
