// Package socket makes Unix sockets for services and asks the kernel who is at
// the other end of one (unix(7)).
package socket

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// backlog is how many clients may wait while a service is not there.
const backlog = 64

// Listen makes a listening stream socket at path, which must not exist. Mode
// says who may connect: it takes the right to write.
func Listen(path string, mode os.FileMode) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot make a socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), path)
	// The mode is set before anybody could wait to be accepted.
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	if err == nil {
		err = os.Chmod(path, mode)
	}
	if err == nil {
		err = unix.Listen(fd, backlog)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen at %s: %w", path, errors.Join(err, f.Close()))
	}
	return f, nil
}

// Pair returns two connected sockets that keep message boundaries
// (SOCK_SEQPACKET): ours, not blocking, so that closing it ends a waiting Read,
// and theirs.
func Pair() (ours, theirs *os.File, err error) {
	fd, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot make a socket pair: %w", err)
	}
	if err := unix.SetNonblock(fd[0], true); err != nil {
		return nil, nil, fmt.Errorf("cannot make a socket pair: %w", errors.Join(err, unix.Close(fd[0]), unix.Close(fd[1])))
	}
	return os.NewFile(uintptr(fd[0]), "service"), os.NewFile(uintptr(fd[1]), "supervisor"), nil
}

// Peer is who made the other end of a connection, as the kernel noted it then.
type Peer struct {
	PID      int32 // in our PID namespace, 0 where it is none of ours
	UID, GID uint32
}

// PeerOf asks for it (SO_PEERCRED).
func PeerOf(c syscall.Conn) (Peer, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("cannot tell the peer: %w", err)
	}
	var cred *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) {
		cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, failed); err != nil {
		return Peer{}, fmt.Errorf("cannot tell the peer: %w", err)
	}
	return Peer{cred.Pid, cred.Uid, cred.Gid}, nil
}
