// Package clock reads the time since the kernel started, suspended time
// included (CLOCK_BOOTTIME, clock_gettime(2)).
package clock

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// SinceBoot returns the time since the kernel started.
func SinceBoot() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(fmt.Sprintf("internal error: no CLOCK_BOOTTIME: %v", err)) // part of every kernel since 2.6.39
	}
	return time.Duration(t.Nano())
}
