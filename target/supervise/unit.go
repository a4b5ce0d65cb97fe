package supervise

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"cloison/format/service"
)

// stage is what a service is doing.
type stage string

const (
	waiting  stage = "waiting"  // for services that it comes after
	starting stage = "starting" // until it is ready
	ready    stage = "ready"
	resting  stage = "resting"  // until it is started again
	stopping stage = "stopping" // until it has ended as asked
	stopped  stage = "stopped"
	done     stage = "done"   // a task that ended well
	failed   stage = "failed" // and is not started again
)

const (
	// steady is how long a service must have been ready for its earlier ends to
	// be forgotten.
	steady = 5 * time.Second
	// maxTries is how many ends in a row, none of them after a steady time, make
	// a service failed.
	maxTries = 10
)

// event is what happens to a service.
type event string

const (
	launched event = "launched" // its process exists
	executed event = "executed" // the launcher has become the program
	told     event = "told"     // it says that it is ready
	lived    event = "lived"    // it says that it lives
	ended    event = "ended"    // its process is no more
	endedOK  event = "ended well"
	asked    event = "asked"   // to stop
	timed    event = "timed"   // the time passes
	babbled  event = "babbled" // it says what has no meaning
)

// action is what the supervisor has to do about it.
type action string

const (
	nothing   action = ""
	launch    action = "launch"
	terminate action = "terminate" // ask it to end
	kill      action = "kill"      // end all of it
)

// unit is one service and what became of it so far. It is pure: what happens and
// when comes in, what has to be done comes out.
type unit struct {
	*service.Service
	stage    stage
	since    time.Time     // of the stage
	deadline time.Time     // of the stage; zero where it has none
	heard    time.Time     // last sign of life
	tries    int           // ends in a row without a steady time
	restarts int           // all of them
	pause    time.Duration // before the next start
	reason   string        // of the last end, "" before the first
	verdict  string        // why it was killed, until it has ended
}

func (u *unit) enter(s stage, now, deadline time.Time) {
	u.stage, u.since, u.deadline = s, now, deadline
}

// up tells whether those that come after the service may start.
func (u *unit) up() bool { return u.stage == ready || u.stage == done }

// over tells whether nothing more happens to it by itself.
func (u *unit) over() bool { return u.stage == stopped || u.stage == done || u.stage == failed }

// next is the one transition function. how says how the service ended.
func (u *unit) next(now time.Time, e event, how string) action {
	switch e {
	case launched:
		if u.stage == waiting || u.stage == resting {
			u.enter(starting, now, now.Add(time.Duration(u.Start.Timeout)))
		}
	case executed:
		if u.stage == starting && u.Start.Ready == service.Started {
			u.becomeReady(now)
		}
	case told:
		if u.stage == starting && u.Start.Ready == service.Notify {
			u.becomeReady(now)
		}
	case lived:
		u.heard = now
	case ended, endedOK:
		u.end(now, e == endedOK, how)
	case asked:
		return u.stop(now)
	case timed:
		return u.late(now)
	case babbled:
		u.verdict = "it told PID 1 what has no meaning"
		return kill
	}
	return nothing
}

func (u *unit) becomeReady(now time.Time) {
	u.enter(ready, now, time.Time{})
	u.heard = now
}

func (u *unit) end(now time.Time, well bool, how string) {
	u.reason, u.verdict = how, ""
	switch {
	case u.stage == stopping:
		u.enter(stopped, now, time.Time{})
		return
	case u.Start.Ready == service.Ended && well:
		u.enter(done, now, time.Time{})
		return
	case u.Start.Restart == service.Never, u.Start.Restart == service.Failure && well:
		u.enter(failed, now, time.Time{})
		return
	}
	if u.stage == ready && now.Sub(u.since) >= steady {
		u.tries, u.pause = 0, 0
	}
	u.tries++
	u.pause = min(max(2*u.pause, time.Duration(u.Start.Delay)), time.Duration(u.Start.Longest))
	if u.tries >= maxTries {
		u.reason = fmt.Sprintf("%s; %d ends in a row", how, u.tries)
		u.enter(failed, now, time.Time{})
		return
	}
	u.restarts++
	u.enter(resting, now, now.Add(u.pause))
}

func (u *unit) stop(now time.Time) action {
	switch u.stage {
	case waiting, resting:
		u.enter(stopped, now, time.Time{})
	case starting, ready:
		u.enter(stopping, now, now.Add(time.Duration(u.Start.Stop)))
		return terminate
	}
	return nothing
}

func (u *unit) late(now time.Time) action {
	patience := time.Duration(u.Start.Watchdog)
	switch {
	case u.stage == ready && patience > 0 && u.verdict == "" && now.Sub(u.heard) >= patience:
		u.verdict = fmt.Sprintf("no sign of life for %v", u.Start.Watchdog)
		return kill
	case u.deadline.IsZero() || now.Before(u.deadline):
		return nothing
	case u.stage == resting:
		return launch
	case u.stage == starting && u.verdict == "":
		u.verdict = fmt.Sprintf("not ready after %v", u.Start.Timeout)
		return kill
	case u.stage == stopping && u.verdict == "":
		u.verdict = fmt.Sprintf("still there %v after it was asked to end", u.Start.Stop)
		return kill
	}
	return nothing
}

// startable are the services that wait for nobody any more.
func startable(units []*unit) []*unit {
	byName := map[string]*unit{}
	for _, u := range units {
		byName[u.Name] = u
	}
	var free []*unit
	for _, u := range units {
		hold := u.stage != waiting
		for _, n := range slices.Concat(u.Start.After, u.Start.Needs) {
			// That those it needs are there was checked for all declarations.
			before := byName[n]
			hold = hold || before != nil && !before.up()
		}
		if !hold {
			free = append(free, u)
		}
	}
	return free
}

// stoppable are the services that may be asked to end: nobody that came after
// them is left.
func stoppable(units []*unit) []*unit {
	needed, others := map[string]bool{}, false
	for _, u := range units {
		if u.over() {
			continue
		}
		for _, n := range slices.Concat(u.Start.After, u.Start.Needs) {
			needed[n] = true
		}
		for _, n := range u.Uses {
			provider, _, _ := strings.Cut(n, "/")
			needed[provider] = true
		}
		// Who takes the others' output hears them to their end.
		if !slices.Contains(u.Given, "outputs") {
			others = true
		}
	}
	var free []*unit
	for _, u := range units {
		if !u.over() && u.stage != stopping && !needed[u.Name] && !(others && slices.Contains(u.Given, "outputs")) {
			free = append(free, u)
		}
	}
	return free
}

// wake is when the next of the units has to be looked at, at the latest an hour
// from now.
func wake(units []*unit, now time.Time) time.Time {
	first := now.Add(time.Hour)
	for _, u := range units {
		if !u.deadline.IsZero() && u.verdict == "" && u.deadline.Before(first) {
			first = u.deadline
		}
		if heard := u.heard.Add(time.Duration(u.Start.Watchdog)); u.stage == ready && u.Start.Watchdog > 0 && u.verdict == "" && heard.Before(first) {
			first = heard
		}
	}
	return first
}
