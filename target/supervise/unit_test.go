package supervise

import (
	"slices"
	"strings"
	"testing"
	"time"

	"cloison/format/service"
)

// declared is a service with the usual times.
func declared(name string, change func(*service.Service)) *unit {
	d := &service.Service{Name: name, Start: service.Start{
		Ready: service.Notify, Restart: service.Always,
		Timeout: service.Duration(time.Minute), Delay: service.Duration(time.Second), Longest: service.Duration(4 * time.Second), Stop: service.Duration(2 * time.Second),
	}}
	if change != nil {
		change(d)
	}
	return &unit{Service: d, stage: waiting}
}

// TestTransitions walks through what can happen to a service. Each step is what
// happens, so many seconds after the step before.
func TestTransitions(t *testing.T) {
	type step struct {
		after float64
		event event
		stage stage
		act   action
	}
	watched := func(s *service.Service) { s.Start.Watchdog = service.Duration(10 * time.Second) }
	for name, c := range map[string]struct {
		change func(*service.Service)
		steps  []step
	}{
		"ready by its word": {nil, []step{
			{0, launched, starting, nothing}, {1, executed, starting, nothing}, {1, told, ready, nothing}, {100, timed, ready, nothing}, {0, told, ready, nothing},
		}},
		"ready when executed": {func(s *service.Service) { s.Start.Ready = service.Started }, []step{
			{0, launched, starting, nothing}, {1, told, starting, nothing}, {1, executed, ready, nothing},
		}},
		"too slow": {nil, []step{
			{0, launched, starting, nothing}, {59, timed, starting, nothing}, {1, timed, starting, kill}, {1, timed, starting, nothing}, {1, ended, resting, nothing},
		}},
		"started again after a pause": {nil, []step{
			{0, launched, starting, nothing},
			{1, told, ready, nothing},
			{1, ended, resting, nothing},
			{0.5, timed, resting, nothing},
			{0.5, timed, resting, launch},
			{0, launched, starting, nothing},
			{1, ended, resting, nothing},
			{1.5, timed, resting, nothing},
			{0.5, timed, resting, launch},
		}},
		"silent": {watched, []step{
			{0, launched, starting, nothing}, {1, told, ready, nothing}, {9, lived, ready, nothing}, {9, timed, ready, nothing}, {1, timed, ready, kill}, {1, timed, ready, nothing}, {0, ended, resting, nothing},
		}},
		"babbling": {nil, []step{{0, launched, starting, nothing}, {0, babbled, starting, kill}, {0, ended, resting, nothing}}},
		"asked to stop": {nil, []step{
			{0, launched, starting, nothing},
			{1, told, ready, nothing},
			{1, asked, stopping, terminate},
			{1, timed, stopping, nothing},
			{1, timed, stopping, kill},
			{1, timed, stopping, nothing},
			{0, ended, stopped, nothing},
			{9, timed, stopped, nothing},
			{0, asked, stopped, nothing},
		}},
		"asked while it rests": {nil, []step{{0, launched, starting, nothing}, {0, ended, resting, nothing}, {0, asked, stopped, nothing}, {9, timed, stopped, nothing}}},
		"a task": {func(s *service.Service) { s.Start.Ready, s.Start.Restart = service.Ended, service.Failure }, []step{
			{0, launched, starting, nothing}, {1, ended, resting, nothing}, {1, timed, resting, launch}, {0, launched, starting, nothing}, {1, endedOK, done, nothing}, {9, timed, done, nothing},
		}},
		"never again": {func(s *service.Service) { s.Start.Restart, s.Start.Delay, s.Start.Longest = service.Never, 0, 0 }, []step{
			{0, launched, starting, nothing}, {1, endedOK, failed, nothing}, {9, timed, failed, nothing},
		}},
		"words of one that does not run": {nil, []step{{0, told, waiting, nothing}, {0, executed, waiting, nothing}, {0, timed, waiting, nothing}}},
	} {
		u, now := declared("a", c.change), time.Unix(1000, 0)
		for i, s := range c.steps {
			now = now.Add(time.Duration(s.after * float64(time.Second)))
			if act := u.next(now, s.event, "it"); act != s.act || u.stage != s.stage {
				t.Errorf("%s, step %d, %s: %q to %s, want %q to %s", name, i, s.event, act, u.stage, s.act, s.stage)
			}
		}
	}
}

// A service that always ends is tried less and less often, then given up; one
// that was well for a while begins anew.
func TestPausesAndTries(t *testing.T) {
	u, now := declared("a", nil), time.Unix(1000, 0)
	var pauses []time.Duration
	for range 4 {
		u.next(now, launched, "")
		u.next(now, told, "")
		u.next(now, ended, "exit 1")
		pauses = append(pauses, u.pause/time.Second)
		now = now.Add(u.pause)
	}
	if want := []time.Duration{1, 2, 4, 4}; !slices.Equal(pauses, want) {
		t.Errorf("pauses are %v s, want %v", pauses, want)
	}
	u.next(now, launched, "")
	u.next(now, told, "")
	u.next(now.Add(steady), ended, "exit 1")
	if u.tries != 1 || u.pause != time.Second {
		t.Errorf("after a steady time: %d tries, pause %v, want 1 and 1 s", u.tries, u.pause)
	}
	for u.stage == resting {
		u.next(now, launched, "")
		u.next(now, ended, "exit 1")
	}
	if u.stage != failed || u.tries != maxTries || !strings.Contains(u.reason, "exit 1; 10 ends in a row") {
		t.Errorf("in the end: %s after %d tries: %s", u.stage, u.tries, u.reason)
	}
}

func names(units []*unit) string {
	var all []string
	for _, u := range units {
		all = append(all, u.Name)
	}
	return strings.Join(all, " ")
}

func TestOrder(t *testing.T) {
	log := declared("log", func(s *service.Service) { s.Given = []string{"outputs"} })
	base := declared("base", nil)
	user := declared("user", func(s *service.Service) { s.Uses = []string{"base/socket"} })
	late := declared("late", func(s *service.Service) { s.Start.After = []string{"user", "nobody"} })
	all := []*unit{log, base, user, late}
	now := time.Unix(1000, 0)
	if got := names(startable(all)); got != "log base user" {
		t.Errorf("at first %q can be started, want all but late: sockets are there before", got)
	}
	for _, u := range all[:3] {
		u.next(now, launched, "")
	}
	if got := names(startable(all)); got != "" {
		t.Errorf("%q can be started while user is not ready", got)
	}
	user.next(now, told, "")
	if got := names(startable(all)); got != "late" {
		t.Errorf("%q can be started once user is ready, want late", got)
	}
	late.next(now, launched, "")
	// They end the other way round; who hears the others' output is last.
	for _, want := range []string{"late", "user", "base", "log"} {
		free := stoppable(all)
		if names(free) != want {
			t.Fatalf("%q can be stopped, want %s", names(free), want)
		}
		free[0].next(now, asked, "")
		if got := names(stoppable(all)); got != "" {
			t.Errorf("%q can be stopped while %s ends", got, want)
		}
		free[0].next(now, ended, "")
	}
}

func TestWake(t *testing.T) {
	now := time.Unix(1000, 0)
	resting := declared("a", nil)
	resting.next(now, launched, "")
	resting.next(now, ended, "")
	watched := declared("b", func(s *service.Service) { s.Start.Watchdog = service.Duration(500 * time.Millisecond) })
	watched.next(now, launched, "")
	watched.next(now, told, "")
	idle := declared("c", nil)
	for _, c := range []struct {
		units []*unit
		want  time.Duration
	}{
		{[]*unit{idle}, time.Hour},
		{[]*unit{idle, resting}, time.Second},
		{[]*unit{idle, resting, watched}, 500 * time.Millisecond},
	} {
		if got := wake(c.units, now).Sub(now); got != c.want {
			t.Errorf("wake(%s) is in %v, want %v", names(c.units), got, c.want)
		}
	}
	// Who is being killed needs no second look.
	watched.next(now.Add(time.Second), timed, "")
	if got := wake([]*unit{watched}, now.Add(time.Second)).Sub(now); got < time.Minute {
		t.Errorf("wake of one that is being killed is in %v", got)
	}
}

// Every word has a row, every row a service; others have none.
func TestWords(t *testing.T) {
	for _, w := range words {
		if len(w.who) == 0 || w.do == nil {
			t.Errorf("the word %q is nobody's", w.word)
		}
		if n, ok := request(w.word); !ok || n.word != w.word {
			t.Errorf("request(%q) = %+v, %v", w.word, n, ok)
		}
	}
	for _, wrong := range []string{"", "Status", "status ", "status\n", "shell"} {
		if _, ok := request(wrong); ok {
			t.Errorf("request(%q) has a meaning", wrong)
		}
	}
	for word, want := range map[string]bool{"ready": true, "alive": true, "": false, "READY=1": false, "ready\n": false, "reboot": false} {
		if _, ok := readiness(word); ok != want {
			t.Errorf("readiness(%q) has a meaning: %v, want %v", word, ok, want)
		}
	}
}
