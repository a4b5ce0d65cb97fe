package clock

import (
	"fmt"
	"time"
)

// Rules of the clock, in one place.
const (
	// slewLimit is the largest offset that is never worth a step.
	slewLimit = 400 * time.Millisecond
	// stepLimit is the offset from which on a running clock is stepped: at 500
	// parts in a million it would take more than a day to work off.
	stepLimit = 60 * time.Second
	// stepAgreement is how many estimates in a row have to ask for the step of a
	// clock that was synchronised before.
	stepAgreement = 3
	// sameStep is how far these may be apart.
	sameStep = time.Second
	// maxDistance is the largest root distance of a server that is listened to
	// (RFC 5905, MAXDIST, with room for slow links).
	maxDistance = 1500 * time.Millisecond
	minPoll     = 64 * time.Second
	maxPoll     = 1024 * time.Second
	// retryPoll is the first interval while no servers agree; it doubles.
	retryPoll = 16 * time.Second
)

// action is what is done to the clock.
type action int

const (
	refuse action = iota
	wait          // for more estimates that say the same
	slew
	step
)

// discipline decides what an estimate does to the clock. It touches nothing.
type discipline struct {
	floor  time.Time     // no earlier time is believed
	synced bool          // an estimate was followed since the start
	asked  int           // estimates in a row that want the same step
	wanted time.Duration // the step, at the last of these
}

// decide judges an offset of the clock, which says now. The reason is given where
// the estimate is refused or has to wait.
//
//	|offset|            first since the start   later
//	≤ slewLimit         slew                    slew
//	≤ stepLimit         step                    slew
//	> stepLimit         step                    step, after stepAgreement estimates
//	to before floor     refuse                  refuse
func (d *discipline) decide(now time.Time, offset time.Duration) (action, string) {
	if to := now.Add(offset); to.Before(d.floor) {
		return refuse, fmt.Sprintf("servers say %s, which is before %s: not believed", text(to), text(d.floor))
	}
	switch size := offset.Abs(); {
	case size <= slewLimit || d.synced && size <= stepLimit:
		d.asked = 0
		return slew, ""
	case !d.synced:
		return step, ""
	}
	if (offset - d.wanted).Abs() > sameStep {
		d.asked = 0
	}
	d.asked, d.wanted = d.asked+1, offset
	if d.asked < stepAgreement {
		return wait, fmt.Sprintf("servers want a step of %v: waiting until they say so %d times", offset, stepAgreement)
	}
	d.asked = 0
	return step, ""
}

// text prints a time for people.
func text(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }
