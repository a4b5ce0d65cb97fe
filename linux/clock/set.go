package clock

import (
	"fmt"
	"math/bits"
	"time"

	"golang.org/x/sys/unix"
)

// maxPhase is the largest offset that the kernel's loop takes (MAXPHASE of
// include/linux/timex.h).
const maxPhase = 500 * time.Millisecond

// System is the system's clock, CLOCK_REALTIME. Changing it needs CAP_SYS_TIME.
type System struct{}

// Now returns what the clock says, without a monotonic reading: differences of
// two such times are those of the clock.
func (System) Now() time.Time { return time.Now().Round(0) }

// SinceBoot is the function of that name.
func (System) SinceBoot() time.Duration { return SinceBoot() }

// Step sets the clock. The kernel forgets that it was synchronised.
func (System) Step(to time.Time) error {
	t := unix.NsecToTimespec(to.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &t); err != nil {
		return fmt.Errorf("cannot set the clock to %s: %w", to.UTC().Format(time.RFC3339), err)
	}
	return nil
}

// Slew takes an offset away without a step: what the clock has to gain, to
// within maxError. Up to half a second it is the kernel's phase-locked loop that
// does it, whose time constant follows from poll, the time to the next call;
// more than that is worked off at 500 parts in a million.
//
// The kernel takes its clock for synchronised from then on: every eleven minutes
// it writes the time into the real-time clock, until the error that it assumes
// has grown to 16 s for want of another call.
//
// Source: adjtimex(2); Linux, kernel/time/ntp.c; RFC 5905, section 12.
func (System) Slew(offset, maxError, poll time.Duration) error {
	tx := unix.Timex{
		Modes:    unix.ADJ_STATUS | unix.ADJ_NANO | unix.ADJ_MAXERROR | unix.ADJ_ESTERROR,
		Status:   unix.STA_PLL,
		Maxerror: maxError.Microseconds(), Esterror: maxError.Microseconds(),
	}
	phase := offset.Abs() <= maxPhase
	if phase {
		tx.Modes |= unix.ADJ_OFFSET | unix.ADJ_TIMECONST
		tx.Offset = offset.Nanoseconds()
		// An offset shrinks to a third in 2^(2+constant) seconds: a quarter of the
		// poll interval.
		tx.Constant = int64(max(bits.Len64(uint64(poll/time.Second))-5, 0))
	}
	if _, err := unix.Adjtimex(&tx); err != nil {
		return fmt.Errorf("cannot adjust the clock: %w", err)
	}
	// What an earlier call has left to work off is replaced, by nothing too.
	tx = unix.Timex{Modes: unix.ADJ_OFFSET_SINGLESHOT}
	if !phase {
		tx.Offset = offset.Microseconds()
	}
	if _, err := unix.Adjtimex(&tx); err != nil {
		return fmt.Errorf("cannot adjust the clock by %v: %w", offset, err)
	}
	return nil
}
