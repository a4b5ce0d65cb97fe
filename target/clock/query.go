package clock

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/beevik/ntp"
)

// queryTimeout is how long one server is waited for.
const queryTimeout = 5 * time.Second

// Errors of a server that is not to be asked for a while.
var (
	errRate   = errors.New("asks for fewer queries")
	errDenied = errors.New("denies service")
)

// query asks one server. What it answers is checked as RFC 5905 wants: from
// whom we asked, with our random transmit time for its origin, in server mode,
// synchronised, not older than its own clock, near enough.
func query(ctx context.Context, server string) (sample, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	r, err := ntp.QueryWithOptions(server, ntp.QueryOptions{
		Timeout: queryTimeout,
		Dialer: func(_, address string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, "udp", address)
			if err == nil {
				context.AfterFunc(ctx, func() { c.Close() }) // ends a waiting read
			}
			return c, err
		},
	})
	if err != nil {
		return sample{}, err
	}
	if r.IsKissOfDeath() {
		switch r.KissCode {
		case "RATE":
			return sample{}, errRate
		case "DENY", "RSTR":
			return sample{}, errDenied
		}
		return sample{}, fmt.Errorf("is not synchronised: %q", r.KissCode)
	}
	if err := r.Validate(); err != nil {
		return sample{}, err
	}
	if r.RTT < 0 || r.RootDistance > maxDistance {
		return sample{}, fmt.Errorf("its time is uncertain by %v, at most %v", r.RootDistance, maxDistance)
	}
	return sample{server, r.ClockOffset, r.RootDistance}, nil
}

// peer is a server with what it asked of us.
type peer struct {
	server string
	denied bool
	until  time.Duration // since the boot: it is not asked before
	pause  time.Duration
	err    error // of the last query
}

// ask asks all that may be asked now, side by side.
func (s *Service) ask(ctx context.Context) []sample {
	results := make([]sample, len(s.peers))
	var all sync.WaitGroup
	for i, p := range s.peers {
		if p.denied || s.clock.SinceBoot() < p.until {
			continue
		}
		all.Go(func() { results[i], p.err = s.query(ctx, p.server) })
	}
	all.Wait()
	var samples []sample
	for i, p := range s.peers {
		switch {
		case errors.Is(p.err, errDenied):
			p.denied = true
		case errors.Is(p.err, errRate):
			// RFC 5905, section 7.4: the interval grows, and at once.
			if s.clock.SinceBoot() >= p.until {
				p.pause = max(2*p.pause, 2*minPoll)
				p.until = s.clock.SinceBoot() + p.pause
			}
		case p.err == nil && results[i].server != "":
			samples = append(samples, results[i])
		}
	}
	return samples
}
