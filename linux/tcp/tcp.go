// Package tcp listens for connections of TCP over IPv4 and tells who makes them
// (tcp(7)). Connections are accepted by package socket.
package tcp

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Listen listens at a port of every IPv4 address of the calling thread's
// network namespace. waiting is how many connections the kernel keeps for Accept.
func Listen(port uint16, waiting int) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
	if err != nil {
		return nil, fmt.Errorf("cannot make a socket: %w", err)
	}
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: int(port)})
	}
	if err == nil {
		err = unix.Listen(fd, waiting)
	}
	if err != nil {
		_ = unix.Close(fd) // nothing came of it
		return nil, fmt.Errorf("cannot listen at port %d: %w", port, err)
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("port %d", port)), nil
}

// From returns the address at the other end of a TCP connection.
func From(c *os.File) (netip.Addr, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("cannot tell who connects: %w", err)
	}
	var peer unix.Sockaddr
	var failed error
	err = raw.Control(func(fd uintptr) { peer, failed = unix.Getpeername(int(fd)) })
	if err = errors.Join(err, failed); err != nil {
		return netip.Addr{}, fmt.Errorf("cannot tell who connects: %w", err)
	}
	switch p := peer.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(p.Addr), nil
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(p.Addr).Unmap(), nil
	}
	return netip.Addr{}, errors.New("cannot tell who connects: it is no connection over IP")
}

// Reset ends a TCP connection at once: the other end is told that nobody is there,
// and nothing of it stays here (SO_LINGER).
func Reset(c *os.File) error {
	raw, err := c.SyscallConn()
	if err == nil {
		var failed error
		err = raw.Control(func(fd uintptr) {
			failed = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		})
		err = errors.Join(err, failed)
	}
	if err = errors.Join(err, c.Close()); err != nil {
		return fmt.Errorf("cannot end a connection: %w", err)
	}
	return nil
}
