// Package terminal opens the machine's console and waits until it has been
// written out (tty_ioctl(2), tcdrain(3)).
package terminal

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Console is the device that the kernel prints to.
const Console = "/dev/console"

// Open opens the console for a service, which makes it its controlling terminal.
func Open() (*os.File, error) {
	f, err := os.OpenFile(Console, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the console: %w", err)
	}
	return f, nil
}

// Drain waits until everything written to the console has been sent.
func Drain() error {
	f, err := Open()
	if err != nil {
		return err
	}
	defer f.Close()                                                       // written by others
	if err := unix.IoctlSetInt(int(f.Fd()), unix.TCSBRK, 1); err != nil { // 1: only wait, send no break
		return fmt.Errorf("cannot drain the console: %w", err)
	}
	return nil
}
