// Package netlink asks the kernel about the network namespace that the calling
// process is in, and changes it (netlink(7)). Messages are those of
// cloison/format/rtnetlink. Changes need CAP_NET_ADMIN.
package netlink

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"cloison/format/rtnetlink"
)

// Socket is a way to the kernel. It belongs to the network namespace in which it
// was opened, wherever it is used.
type Socket struct {
	mu       sync.Mutex
	fd       int
	sequence uint32
}

// maxDatagram is more than the kernel sends at once (netlink(7): a page, or 32 KiB
// of a list).
const maxDatagram = 1 << 16

// Open makes a socket in the calling thread's network namespace.
func Open() (*Socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err == nil {
		// The kernel answers at once; one that does not is no kernel to wait for.
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open a netlink socket: %w", err)
	}
	return &Socket{fd: fd}, nil
}

// Close closes the socket.
func (s *Socket) Close() error { return unix.Close(s.fd) }

// Do sends a request and returns the kernel's answer. What the kernel refuses is
// a syscall.Errno.
func (s *Socket) Do(request []byte) (rtnetlink.Answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sequence++
	rtnetlink.Number(request, s.sequence)
	if err := unix.Sendto(s.fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return rtnetlink.Answer{}, fmt.Errorf("cannot ask the kernel: %w", err)
	}
	var a rtnetlink.Answer
	b := make([]byte, maxDatagram)
	for !a.Done {
		n, from, err := unix.Recvfrom(s.fd, b, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return rtnetlink.Answer{}, fmt.Errorf("cannot hear the kernel's answer: %w", err)
		}
		// Other processes can send, too: only the kernel has the number 0.
		if sender, ok := from.(*unix.SockaddrNetlink); !ok || sender.Pid != 0 {
			continue
		}
		err = a.Read(b[:n], s.sequence)
		var refused rtnetlink.Error
		if errors.As(err, &refused) {
			return rtnetlink.Answer{}, syscall.Errno(refused)
		}
		if err != nil {
			return rtnetlink.Answer{}, err
		}
	}
	return a, nil
}

// Move gives an interface to the network namespace that a file keeps, under a
// name.
func (s *Socket) Move(index uint32, name string, namespace *os.File) error {
	_, err := s.Do(rtnetlink.MoveLink(index, name, int(namespace.Fd())))
	if err != nil {
		return fmt.Errorf("cannot move the interface %d to %s: %w", index, namespace.Name(), err)
	}
	return nil
}
