// Package clock is the time service: it asks NTP servers, follows what most of
// them agree on, and never lets the clock start before the time it has seen. It
// needs CAP_SYS_TIME, and where there are servers, UDP to their port 123.
//
// It speaks NTP version 4 as a client (RFC 5905), without authentication: who
// controls the way to most of the servers controls the clock, from the last time
// that servers confirmed on. The kernel reads the machine's real-time clock when
// it starts, and writes it while it is synchronised; this service has no device.
package clock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"cloison/format/timekeeping"
	"cloison/linux/file"
)

// stampInterval is how often the stamp is written, whatever happens.
const stampInterval = time.Hour

// Clock is the clock that is kept.
type Clock interface {
	Now() time.Time
	SinceBoot() time.Duration
	Step(to time.Time) error
	Slew(offset, maxError, poll time.Duration) error
}

// Service keeps one clock.
type Service struct {
	clock    Clock
	released time.Time
	stamp    string // path
	say      func(string)
	query    func(ctx context.Context, server string) (sample, error)

	peers      []*peer
	discipline discipline
	// confirmed is the last time that servers agreed on, and confirmedAt when
	// that was, since the boot. Zero if there never was one.
	confirmed   time.Time
	confirmedAt time.Duration

	mu     sync.Mutex
	status Status
}

// Options say what a service keeps.
type Options struct {
	Clock    Clock
	Config   timekeeping.Config
	Released time.Time    // the clock is never set before it
	Stamp    string       // path of the stamp, in a folder that survives restarts
	Say      func(string) // one line for the log
}

// New returns a service that has done nothing yet.
func New(o Options) *Service {
	s := &Service{clock: o.Clock, released: o.Released, stamp: o.Stamp, say: o.Say, query: query}
	for _, server := range o.Config.Servers {
		s.peers = append(s.peers, &peer{server: server})
	}
	s.status.Servers = len(s.peers)
	return s
}

// Start makes sure that the clock does not say less than what is certain: the
// release's date, and what it said before the restart. Servers can take it back
// to what servers confirmed: the machine's own clock may have been wrong.
func (s *Service) Start() error {
	stamp, err := s.readStamp()
	if err != nil {
		// The next stamp replaces it. The release's date remains certain.
		s.say(err.Error())
	}
	s.confirmed, s.confirmedAt = stamp.Confirmed, s.clock.SinceBoot()
	s.discipline.floor = latest(s.released, stamp.Confirmed)
	start, now := latest(s.released, stamp.Clock), s.clock.Now()
	if now.Before(start) {
		if err := s.clock.Step(start); err != nil {
			return err
		}
		s.say(fmt.Sprintf("the clock said %s: set to %s, which is certain to be past", text(now), text(start)))
	}
	return nil
}

// Run keeps the clock until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	poll := retryPoll / 2
	for {
		select {
		case <-ctx.Done():
			return s.writeStamp()
		case <-timer.C:
		}
		next := stampInterval
		if len(s.peers) > 0 {
			agreed, err := s.turn(ctx, poll)
			if err != nil {
				return err
			}
			poll = nextPoll(poll, agreed)
			next = poll
		}
		if ctx.Err() == nil {
			if err := s.writeStamp(); err != nil {
				s.say(err.Error()) // of use only at the next start
			}
		}
		timer.Reset(next)
	}
}

// nextPoll is the interval after one in which servers agreed, or did not.
func nextPoll(poll time.Duration, agreed bool) time.Duration {
	if agreed {
		return min(max(2*poll, minPoll), maxPoll)
	}
	if poll > minPoll {
		poll = retryPoll / 2 // they agreed before
	}
	return min(2*poll, minPoll)
}

// turn asks all servers and follows them where they agree.
func (s *Service) turn(ctx context.Context, poll time.Duration) (agreed bool, err error) {
	samples := s.ask(ctx)
	st := Status{Servers: len(s.peers), Answered: len(samples), Synced: s.discipline.synced}
	defer func() { s.tell(st) }()
	e, ok := agree(samples, len(s.peers))
	if !ok {
		st.Problem = s.disagreement(len(samples))
		return false, nil
	}
	st.Agreed, st.Offset, st.Distance, st.False = len(e.truechimers), e.offset, e.distance, e.falsetickers
	now := s.clock.Now()
	what, reason := s.discipline.decide(now, e.offset)
	st.Problem = reason
	switch what {
	case refuse, wait:
		return false, nil
	case step:
		if err := s.clock.Step(now.Add(e.offset)); err != nil {
			return false, err
		}
		s.say(fmt.Sprintf("the clock said %s: set to %s, as %d of %d servers say", text(now), text(now.Add(e.offset)), st.Agreed, st.Servers))
		e.offset = 0
	}
	if err := s.clock.Slew(e.offset, e.distance, max(poll, minPoll)); err != nil {
		return false, err
	}
	s.discipline.synced, st.Synced = true, true
	s.confirmed, s.confirmedAt = now.Add(st.Offset), s.clock.SinceBoot()
	st.Since = s.confirmedAt
	return true, nil
}

// disagreement says why no estimate came of the answers.
func (s *Service) disagreement(answered int) string {
	if 2*answered > len(s.peers) {
		return "servers disagree: no majority can be right together"
	}
	for _, p := range s.peers {
		if p.err != nil {
			return fmt.Sprintf("too few servers answer; %s: %v", p.server, p.err)
		}
	}
	return "too few servers answer"
}

// readStamp reads the stamp. That there is none is no error.
func (s *Service) readStamp() (timekeeping.Stamp, error) {
	b, err := os.ReadFile(s.stamp)
	if errors.Is(err, fs.ErrNotExist) {
		return timekeeping.Stamp{}, nil
	}
	var stamp timekeeping.Stamp
	if err == nil {
		stamp, err = timekeeping.ParseStamp(string(b))
	}
	if err != nil {
		return timekeeping.Stamp{}, fmt.Errorf("cannot read the time of before the restart: %w", err)
	}
	return stamp, nil
}

func (s *Service) writeStamp() error {
	stamp := timekeeping.Stamp{Clock: s.clock.Now(), Confirmed: time.Unix(0, 0)}
	if s.confirmed.Unix() > 0 {
		// Time that has passed since is as certain.
		stamp.Confirmed = s.confirmed.Add(s.clock.SinceBoot() - s.confirmedAt)
	}
	if stamp.Confirmed.After(stamp.Clock) {
		stamp.Confirmed = stamp.Clock // a clock that is being slewed forward
	}
	if err := file.WriteAtomic(s.stamp, []byte(stamp.String()), 0o600); err != nil {
		return fmt.Errorf("cannot keep the time: %w", err)
	}
	return nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Status is what is known of the clock.
type Status struct {
	Servers, Answered, Agreed int
	Synced                    bool // servers were followed since the start
	Offset, Distance          time.Duration
	Since                     time.Duration // since the boot: when servers were followed last
	False                     []string      // servers that most others contradict
	Problem                   string        // "" when all is well
}

// Status returns what is known now.
func (s *Service) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// tell keeps the status, and logs what is new in it.
func (s *Service) tell(st Status) {
	s.mu.Lock()
	before := s.status
	s.status = st
	s.mu.Unlock()
	if st.Problem != before.Problem || strings.Join(st.False, " ") != strings.Join(before.False, " ") || before.Since == 0 && st.Since != 0 {
		s.say(st.String())
	}
}

// String is the status in a line.
func (st Status) String() string {
	var b strings.Builder
	switch {
	case st.Servers == 0:
		return "no servers are configured: the machine's own clock is trusted"
	case st.Problem != "" && !st.Synced:
		b.WriteString("not synchronised: " + st.Problem)
	case st.Problem != "":
		b.WriteString("synchronised before, now left alone: " + st.Problem)
	case st.Synced:
		fmt.Fprintf(&b, "synchronised with %d of %d servers, off by %v ± %v",
			st.Agreed, st.Servers, st.Offset.Round(time.Microsecond), st.Distance.Round(time.Microsecond))
	default:
		b.WriteString("not synchronised: servers have not been asked yet")
	}
	if len(st.False) > 0 {
		b.WriteString("; wrong: " + strings.Join(st.False, ", "))
	}
	return b.String()
}
