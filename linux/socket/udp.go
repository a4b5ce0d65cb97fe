package socket

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// UDP is a socket for UDP over IPv4 that belongs to one interface: what comes in
// elsewhere does not reach it, and what it sends goes out there, to all as well
// (udp(7), SO_BINDTODEVICE). An interface without an address will do.
type UDP struct{ f *os.File }

// ListenUDP binds a port of an interface. Ports below 1024 need
// CAP_NET_BIND_SERVICE.
func ListenUDP(device string, port uint16) (*UDP, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot make a socket: %w", err)
	}
	if err = unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, device); err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: int(port)})
	}
	if err != nil {
		_ = unix.Close(fd) // nothing came of it
		return nil, fmt.Errorf("cannot listen at port %d of %s: %w", port, device, err)
	}
	return &UDP{os.NewFile(uintptr(fd), device)}, nil
}

// Send sends one datagram.
func (u *UDP) Send(b []byte, to [4]byte, port uint16) error {
	raw, err := u.f.SyscallConn()
	if err != nil {
		return fmt.Errorf("cannot send over %s: %w", u.f.Name(), err)
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		failed = unix.Sendto(int(fd), b, 0, &unix.SockaddrInet4{Port: int(port), Addr: to})
		return failed != unix.EAGAIN
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("cannot send over %s: %w", u.f.Name(), err)
	}
	return nil
}

// Receive waits for a datagram, of which it keeps what b holds. It ends with
// os.ErrClosed when the socket is closed meanwhile.
func (u *UDP) Receive(b []byte) (n int, from [4]byte, port uint16, err error) {
	raw, err := u.f.SyscallConn()
	if err != nil {
		return 0, from, 0, fmt.Errorf("cannot receive over %s: %w", u.f.Name(), os.ErrClosed)
	}
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		var sender unix.Sockaddr
		if n, sender, failed = unix.Recvfrom(int(fd), b, 0); failed != nil {
			return failed != unix.EAGAIN && failed != unix.EINTR
		}
		if s, ok := sender.(*unix.SockaddrInet4); ok {
			from, port = s.Addr, uint16(s.Port)
		}
		return true
	})
	switch {
	case err != nil:
		err = os.ErrClosed // the poller has an error of its own for it
	case failed != nil:
		err = failed
	default:
		return n, from, port, nil
	}
	return 0, from, 0, fmt.Errorf("cannot receive over %s: %w", u.f.Name(), err)
}

// Close closes the socket.
func (u *UDP) Close() error { return u.f.Close() }
