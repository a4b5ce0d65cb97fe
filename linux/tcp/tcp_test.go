package tcp

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"cloison/linux/socket"
)

func TestListen(t *testing.T) {
	l, err := Listen(0, 4)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	port := 0
	err = raw.Control(func(fd uintptr) {
		if a, err := unix.Getsockname(int(fd)); err == nil {
			port = a.(*unix.SockaddrInet4).Port
		}
	})
	if err != nil || port == 0 {
		t.Fatalf("listens at port %d, %v", port, err)
	}
	dial := func() net.Conn {
		t.Helper()
		c, err := net.DialTCP("tcp4", nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	client := dial()
	defer client.Close()
	c, err := socket.Accept(l)
	if err != nil {
		t.Fatal(err)
	}
	if from, err := From(c); err != nil || from != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("From = %v, %v", from, err)
	}
	// The other end is told at once, and not that everything was read.
	if err := Reset(c); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) {
		t.Errorf("after a reset the client reads %v", err)
	}
	if _, err := Listen(uint16(port), 4); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second listener: %v", err)
	}
}
