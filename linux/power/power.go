// Package power stops or restarts the machine (reboot(2)). Only PID 1's own
// user may; the caller has synced and unmounted.
package power

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Restart restarts the machine. It returns only when it could not.
func Restart() error {
	return failed("restart", unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART))
}

// Off switches the machine off. It returns only when it could not.
func Off() error {
	return failed("switch off", unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF))
}

// IgnoreCtrlAltDel makes the kernel send SIGINT to PID 1 for these keys instead
// of restarting without a sync.
func IgnoreCtrlAltDel() error {
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF); err != nil {
		return fmt.Errorf("cannot disable Ctrl-Alt-Del: %w", err)
	}
	return nil
}

// Sync writes all file systems out.
func Sync() { unix.Sync() }

func failed(what string, err error) error {
	return fmt.Errorf("cannot %s the machine: %w", what, err)
}
