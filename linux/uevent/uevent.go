// Package uevent waits for the kernel's announcements of devices
// (NETLINK_KOBJECT_UEVENT, netlink(7); Linux, lib/kobject_uevent.c). It needs
// CONFIG_NET.
package uevent

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// kernelGroup is the multicast group that the kernel sends to; 2 is udev's.
const kernelGroup = 1

// ErrDeadline is returned by Wait when the time is over.
var ErrDeadline = errors.New("no device was announced in time")

// Socket receives announcements from its opening on. Open it before looking
// whether the device is there already, or the announcement may fall between.
type Socket struct{ fd int }

// Open opens a socket.
func Open() (*Socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("cannot open a uevent socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("cannot listen for uevents: %w", err)
	}
	return &Socket{fd}, nil
}

// Wait returns when the kernel has announced something, or with ErrDeadline
// after d. What it announced is not told: the caller looks again, because
// sysfs and not a message is the truth.
func (s *Socket) Wait(d time.Duration) error {
	end := time.Now().Add(d)
	for {
		left := time.Until(end)
		if left <= 0 {
			return ErrDeadline
		}
		p := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, int(left.Milliseconds())+1)
		if err == unix.EINTR || err == nil && n == 0 {
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot wait for uevents: %w", err)
		}
		b := make([]byte, 8192)
		_, from, err := unix.Recvfrom(s.fd, b, unix.MSG_DONTWAIT)
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
			continue
		case err == unix.ENOBUFS: // some were lost: looking again finds them
			return nil
		case err != nil:
			return fmt.Errorf("cannot receive uevents: %w", err)
		}
		// Any process may send to the group: only port 0 is the kernel (CVE-2009-1185).
		if a, ok := from.(*unix.SockaddrNetlink); ok && a.Pid == 0 {
			return nil
		}
	}
}

// Close closes the socket.
func (s *Socket) Close() error { return unix.Close(s.fd) }
