// Package audit has the kernel record what it refuses, and subscribes to the
// records (netlink(7), AF_NETLINK family NETLINK_AUDIT; Linux,
// include/uapi/linux/audit.h). It takes CAP_AUDIT_CONTROL and CAP_AUDIT_READ;
// whoever is given the open socket needs neither.
package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long the kernel may take to answer.
const patience = 5 * time.Second

// Open switches the records on and returns a socket from which each of them
// comes as one message, from now on.
func Open() (*os.File, error) {
	if err := enable(); err != nil {
		return nil, fmt.Errorf("cannot switch audit records on: %w", err)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_AUDIT)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.AUDIT_NLGRP_READLOG - 1)})
		if err != nil {
			err = errors.Join(err, unix.Close(fd))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot subscribe to audit records: %w", err)
	}
	return os.NewFile(uintptr(fd), "audit"), nil
}

// enable sends AUDIT_SET with enabled = 1 and waits for its acknowledgement.
func enable() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_AUDIT)
	if err != nil {
		return err
	}
	defer unix.Close(fd) // nothing is lost with it
	wait := unix.NsecToTimeval(int64(patience))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return err
	}
	// struct audit_status: mask, enabled, and nine more words that the mask
	// leaves out.
	status := make([]byte, 40)
	ne := binary.NativeEndian
	ne.PutUint32(status, unix.AUDIT_STATUS_ENABLED)
	ne.PutUint32(status[4:], 1)
	m := ne.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(status)))
	m = ne.AppendUint16(m, unix.AUDIT_SET)
	m = ne.AppendUint16(m, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	m = ne.AppendUint32(m, 1) // sequence
	m = ne.AppendUint32(m, 0) // the kernel fills in who we are
	if err := unix.Sendto(fd, append(m, status...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	b := make([]byte, 4096)
	for {
		n, from, err := unix.Recvfrom(fd, b, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		// Only the kernel has port 0.
		if a, ok := from.(*unix.SockaddrNetlink); !ok || a.Pid != 0 {
			continue
		}
		if n < unix.SizeofNlMsghdr+4 || ne.Uint16(b[4:]) != unix.NLMSG_ERROR {
			continue
		}
		if errno := int32(ne.Uint32(b[unix.SizeofNlMsghdr:])); errno != 0 {
			return unix.Errno(-errno)
		}
		return nil
	}
}
