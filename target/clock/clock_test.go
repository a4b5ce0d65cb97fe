package clock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cloison/format/timekeeping"
)

var released = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

// machine is a clock that starts at some time and runs with the test's.
type machine struct {
	mu      sync.Mutex
	started time.Time // of the test's clock
	wrong   time.Duration
	steps   []time.Time
	slews   []time.Duration
}

func newMachine(says time.Time) *machine {
	return &machine{started: time.Now().Add(-time.Second), wrong: time.Until(says)}
}

func (m *machine) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Now().Add(m.wrong).Round(0).UTC()
}

func (m *machine) SinceBoot() time.Duration { return time.Since(m.started) }

func (m *machine) Step(to time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wrong = time.Until(to)
	m.steps = append(m.steps, to)
	return nil
}

// Slew works all off at once: how fast the kernel does it is not of interest.
func (m *machine) Slew(offset, _, _ time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wrong += offset
	m.slews = append(m.slews, offset)
	return nil
}

// world answers for servers: each says the true time and what it adds to it.
type world struct {
	machine *machine
	ahead   time.Duration // the true time less that of the test's clock
	adds    map[string]time.Duration
	errs    map[string]error
	asked   map[string]int
	mu      sync.Mutex
}

func (w *world) query(_ context.Context, server string) (sample, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked[server]++
	if err := w.errs[server]; err != nil {
		return sample{}, err
	}
	true_ := time.Now().Add(w.ahead + w.adds[server])
	return sample{server, true_.Sub(w.machine.Now()), 30 * time.Millisecond}, nil
}

// start makes a service with three servers in a world where it is truth now.
func start(t *testing.T, m *machine, truth time.Time, stamp string) (*Service, *world, *strings.Builder) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stamp")
	if stamp != "" {
		if err := os.WriteFile(path, []byte(stamp), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := &strings.Builder{}
	s := New(Options{
		Clock: m, Released: released, Stamp: path, Say: func(line string) { fmt.Fprintln(log, line) },
		Config: timekeeping.Config{Servers: []string{"a", "b", "c"}},
	})
	w := &world{machine: m, ahead: time.Until(truth), adds: map[string]time.Duration{}, errs: map[string]error{}, asked: map[string]int{}}
	s.query = w.query
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	return s, w, log
}

func seconds(t time.Time) int64 { return t.Unix() }

func TestStart(t *testing.T) {
	stamp := func(clock, confirmed time.Duration) string {
		return timekeeping.Stamp{Clock: released.Add(clock), Confirmed: released.Add(confirmed)}.String()
	}
	for _, test := range []struct {
		name          string
		clock         time.Time
		stamp         string
		starts, floor time.Time
	}{
		{"a dead battery", time.Unix(0, 0), "", released, released},
		{"a clock that goes", released.Add(time.Hour), "", released.Add(time.Hour), released},
		{"taken back to the release", released, stamp(48*time.Hour, 24*time.Hour), released.Add(48 * time.Hour), released.Add(24 * time.Hour)},
		{"ahead of all", released.Add(72 * time.Hour), stamp(48*time.Hour, 24*time.Hour), released.Add(72 * time.Hour), released.Add(24 * time.Hour)},
		{"an old release's stamp", time.Unix(0, 0), "clock=1000000000\nconfirmed=1000000000\n", released, released},
		{"a stamp that is none", time.Unix(0, 0), "clock=", released, released},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newMachine(test.clock)
			s, _, log := start(t, m, test.clock, test.stamp)
			if got := m.Now(); !got.Equal(test.starts) || !s.discipline.floor.Equal(test.floor) {
				t.Errorf("%s: the clock starts at %v, servers are believed from %v on, want %v, %v\n%s", test.name, got, s.discipline.floor, test.starts, test.floor, log)
			}
		})
	}
}

func TestTurn(t *testing.T) {
	const hour = time.Hour
	truth := released.Add(1000 * hour)
	for _, test := range []struct {
		name   string
		clock  time.Time
		stamp  string
		adds   map[string]time.Duration
		errs   map[string]error
		want   time.Time // what the clock says then
		steps  int
		status string
	}{
		{
			name: "right", clock: truth, want: truth,
			status: "synchronised with 3 of 3 servers, off by 0s ± 30ms",
		},
		{
			name: "a little slow", clock: truth.Add(-300 * time.Millisecond), want: truth,
			status: "synchronised with 3 of 3 servers, off by 300ms ± 30ms",
		},
		{
			name: "a day behind", clock: truth.Add(-24 * hour), want: truth, steps: 1,
			status: "synchronised with 3 of 3 servers, off by 24h0m0s ± 30ms",
		},
		{
			name: "ahead of what servers say", clock: truth.Add(24 * hour), want: truth, steps: 1,
			status: "synchronised with 3 of 3 servers, off by -24h0m0s ± 30ms",
		},
		{
			name: "one lies", clock: truth, want: truth, adds: map[string]time.Duration{"b": hour},
			status: "synchronised with 2 of 3 servers, off by 0s ± 30ms; wrong: b",
		},
		{
			name: "two lie alike", clock: truth, want: truth.Add(hour), adds: map[string]time.Duration{"a": hour, "b": hour}, steps: 1,
			status: "synchronised with 2 of 3 servers, off by 1h0m0s ± 30ms; wrong: c",
		},
		{
			name: "all disagree", clock: truth.Add(-hour), want: truth.Add(-hour), adds: map[string]time.Duration{"a": hour, "b": -hour},
			status: "not synchronised: servers disagree: no majority can be right together",
		},
		{
			name: "one lies and the others are kept from answering", clock: truth, want: truth, adds: map[string]time.Duration{"b": hour},
			errs:   map[string]error{"a": errors.New("timeout"), "c": errors.New("timeout")},
			status: "not synchronised: too few servers answer; a: timeout",
		},
		{
			name: "none answers", clock: truth, want: truth,
			errs:   map[string]error{"a": errDenied, "b": errDenied, "c": errDenied},
			status: "not synchronised: too few servers answer; a: denies service",
		},
		{
			name: "before the release", clock: truth, want: truth,
			adds:   map[string]time.Duration{"a": -1001 * hour, "b": -1001 * hour, "c": -1001 * hour},
			status: "not synchronised: servers say 2026-11-22 23:00:00Z, which is before 2026-11-23 00:00:00Z: not believed",
		},
		{
			name: "before what they said themselves", clock: truth, want: truth,
			stamp:  timekeeping.Stamp{Clock: truth, Confirmed: truth.Add(-hour)}.String(),
			adds:   map[string]time.Duration{"a": -2 * hour, "b": -2 * hour, "c": -2 * hour},
			status: "not synchronised: servers say 2027-01-03 14:00:00Z, which is before 2027-01-03 15:00:00Z: not believed",
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newMachine(test.clock)
			s, w, _ := start(t, m, truth, test.stamp)
			w.adds, w.errs = test.adds, test.errs
			if _, err := s.turn(t.Context(), minPoll); err != nil {
				t.Fatal(err)
			}
			if got := m.Now(); got.Sub(test.want).Abs() > time.Millisecond || len(m.steps) != test.steps || s.Status().String() != test.status {
				t.Errorf("%s: the clock says %v after %d steps, %q, want %v, %d, %q", test.name, got, len(m.steps), s.Status(), test.want, test.steps, test.status)
			}
		})
	}
}

// TestLaterStep: a clock that was synchronised is slewed, and stepped only when
// servers insist.
func TestLaterStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		truth := released.Add(time.Hour)
		m := newMachine(truth)
		s, w, _ := start(t, m, truth, "")
		turns := []struct {
			adds         time.Duration // from here on
			steps, slews int           // so far
		}{
			{0, 0, 1},
			{50 * time.Second, 0, 2}, // slewed: less than stepLimit
			{51 * time.Second, 0, 3},
			{150 * time.Second, 0, 3}, // waits
			{0, 0, 4},                 // they have thought better of it
			{150 * time.Second, 0, 4}, // waits
			{150 * time.Second, 0, 4}, // waits
			{250 * time.Second, 0, 4}, // another step: waits anew
			{250 * time.Second, 0, 4},
			{250 * time.Second, 1, 5},
		}
		for i, turn := range turns {
			for _, server := range []string{"a", "b", "c"} {
				w.adds[server] = turn.adds
			}
			if turn.adds == 0 {
				w.adds = map[string]time.Duration{"a": m.wrong - w.ahead, "b": m.wrong - w.ahead, "c": m.wrong - w.ahead}
			}
			if _, err := s.turn(t.Context(), minPoll); err != nil {
				t.Fatal(err)
			}
			if len(m.steps) != turn.steps || len(m.slews) != turn.slews {
				t.Errorf("after turn %d: %d steps, %d slews, want %d, %d; %s", i, len(m.steps), len(m.slews), turn.steps, turn.slews, s.Status())
			}
		}
	})
}

// TestKissOfDeath: who says so is left alone, for good or for a while.
func TestKissOfDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		truth := released.Add(time.Hour)
		s, w, _ := start(t, newMachine(truth), truth, "")
		w.errs = map[string]error{"a": errDenied, "b": errRate}
		asked := func(want string) {
			t.Helper()
			if _, err := s.turn(t.Context(), minPoll); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(w.asked["a"], w.asked["b"], w.asked["c"]); got != want {
				t.Errorf("after %v the servers were asked %s times, want %s", s.clock.SinceBoot(), got, want)
			}
		}
		asked("1 1 1")
		asked("1 1 2")
		time.Sleep(2*minPoll - time.Second)
		asked("1 1 3")
		time.Sleep(time.Second)
		asked("1 2 4")
		time.Sleep(4*minPoll - time.Second) // twice as long
		asked("1 2 5")
		time.Sleep(time.Second)
		w.errs = nil
		asked("1 3 6")
	})
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		truth := released.Add(time.Hour)
		m := newMachine(released)
		s, w, log := start(t, m, truth, "")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- s.Run(ctx) }()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		// 64, 128, … 1024 and then each 1024 seconds.
		if n := w.asked["a"]; n != 88 {
			t.Errorf("a server was asked %d times in a day, want 88", n)
		}
		w.mu.Lock()
		w.errs = map[string]error{"a": errors.New("no route"), "b": errors.New("no route")}
		w.mu.Unlock()
		time.Sleep(time.Hour)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		now := truth.Add(25 * time.Hour)
		stamp, err := s.readStamp()
		if err != nil || seconds(stamp.Clock) != seconds(now) || seconds(stamp.Confirmed) != seconds(now) {
			t.Errorf("the stamp is %v, %v, want %v", stamp, err, now)
		}
		if got, want := s.Status().String(), "synchronised before, now left alone: too few servers answer; a: no route"; got != want {
			t.Errorf("Status() = %q, want %q", got, want)
		}
		want := `the clock said 2026-11-23 00:00:00Z: set to 2026-11-23 01:00:00Z, as 3 of 3 servers say
synchronised with 3 of 3 servers, off by 1h0m0s ± 30ms
synchronised before, now left alone: too few servers answer; a: no route
`
		if log.String() != want {
			t.Errorf("the log has\n%swant\n%s", log, want)
		}
	})
}

// TestAlone: without servers nothing touches the clock, and the stamp follows it
// without claiming that anybody confirmed it.
func TestAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(released.Add(time.Hour))
		s, _, log := start(t, m, released, "")
		s.peers, s.status.Servers = nil, 0
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Minute)
		defer cancel()
		if err := s.Run(ctx); err != nil {
			t.Fatal(err)
		}
		stamp, err := s.readStamp()
		if err != nil || seconds(stamp.Clock) != seconds(released.Add(150*time.Minute)) || seconds(stamp.Confirmed) != 0 {
			t.Errorf("the stamp is %v, %v", stamp, err)
		}
		if len(m.steps)+len(m.slews) != 0 || log.String() != "" {
			t.Errorf("%d steps, %d slews, %q, want none", len(m.steps), len(m.slews), log)
		}
		if got, want := s.Status().String(), "no servers are configured: the machine's own clock is trusted"; got != want {
			t.Errorf("Status() = %q, want %q", got, want)
		}
	})
}
