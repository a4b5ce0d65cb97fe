// Package socket makes Unix sockets for services and asks the kernel who is at
// the other end of one (unix(7)).
package socket

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// backlog is how many clients may wait while a service is not there.
const backlog = 64

// Kind is how a socket keeps what is sent.
type Kind int

// The kinds.
const (
	Stream    Kind = unix.SOCK_STREAM    // bytes in order
	SeqPacket Kind = unix.SOCK_SEQPACKET // messages in order
	Datagram  Kind = unix.SOCK_DGRAM     // messages, without connections
)

// Listen makes a socket at path, which must not exist; one with connections
// listens. Mode says who may connect: it takes the right to write.
func Listen(path string, kind Kind, mode os.FileMode) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, int(kind)|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot make a socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), path)
	// The mode is set before anybody could wait to be accepted.
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	if err == nil {
		err = os.Chmod(path, mode)
	}
	if err == nil && kind != Datagram {
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

// StreamPair returns two connected sockets for bytes (SOCK_STREAM): ours, not
// blocking, and theirs.
func StreamPair() (ours, theirs *os.File, err error) {
	fd, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd[0], true)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("cannot make a socket pair: %w", err)
	}
	return os.NewFile(uintptr(fd[0]), "ours"), os.NewFile(uintptr(fd[1]), "theirs"), nil
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

// Send sends a message with an open file over a socket that keeps messages
// (SCM_RIGHTS). Who receives it has the file open, whatever becomes of ours.
func Send(to *os.File, message string, file *os.File) error {
	err := unix.Sendmsg(int(to.Fd()), []byte(message), unix.UnixRights(int(file.Fd())), nil, unix.MSG_NOSIGNAL)
	if err != nil {
		return fmt.Errorf("cannot send an open file: %w", err)
	}
	return nil
}

// Receive returns the next message of at most 255 bytes and the file that came
// with it. It waits; at the end of the other side it returns io.EOF.
func Receive(from *os.File) (message string, file *os.File, err error) {
	b, rights := make([]byte, 256), make([]byte, unix.CmsgSpace(4))
	n, m, flags, _, err := unix.Recvmsg(int(from.Fd()), b, rights, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return "", nil, fmt.Errorf("cannot receive an open file: %w", err)
	}
	if n == 0 && m == 0 {
		return "", nil, io.EOF
	}
	var fds []int
	messages, err := unix.ParseSocketControlMessage(rights[:m])
	if err == nil && len(messages) == 1 {
		fds, err = unix.ParseUnixRights(&messages[0])
	}
	if err != nil || len(fds) != 1 || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		for _, fd := range fds {
			_ = unix.Close(fd) // of no use
		}
		return "", nil, errors.Join(errors.New("cannot receive an open file: not one short message with one file"), err)
	}
	return string(b[:n]), os.NewFile(uintptr(fds[0]), string(b[:n])), nil
}

// ReceiveFiles waits for the next message on a socket that does not block, of less
// than len(b) bytes, and returns it with the files that came with it, at most
// most. At the end of the other side it returns io.EOF, and os.ErrClosed when the
// socket is closed meanwhile.
func ReceiveFiles(from *os.File, b []byte, most int) (message string, files []*os.File, err error) {
	raw, err := from.SyscallConn()
	if err != nil {
		return "", nil, fmt.Errorf("cannot receive open files: %w", os.ErrClosed)
	}
	rights := make([]byte, unix.CmsgSpace(4*most))
	var n, m, flags int
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		n, m, flags, _, failed = unix.Recvmsg(int(fd), b, rights, unix.MSG_CMSG_CLOEXEC)
		return failed != unix.EAGAIN && failed != unix.EINTR
	})
	switch {
	case err != nil:
		return "", nil, fmt.Errorf("cannot receive open files: %w", os.ErrClosed)
	case failed != nil:
		return "", nil, fmt.Errorf("cannot receive open files: %w", failed)
	case n == 0 && m == 0:
		return "", nil, io.EOF
	}
	messages, err := unix.ParseSocketControlMessage(rights[:m])
	for _, c := range messages {
		fds, problem := unix.ParseUnixRights(&c)
		err = errors.Join(err, problem)
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	if err != nil || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		for _, f := range files {
			_ = f.Close() // of no use
		}
		return "", nil, errors.Join(errors.New("cannot receive open files: more than was to come"), err)
	}
	return string(b[:n]), files, nil
}

// SendFiles sends a message with open files.
func SendFiles(to *os.File, message string, files ...*os.File) error {
	raw, err := to.SyscallConn()
	var failed error
	if err == nil {
		var fds []int
		for _, f := range files {
			fds = append(fds, int(f.Fd()))
		}
		err = raw.Write(func(fd uintptr) bool {
			failed = unix.Sendmsg(int(fd), []byte(message), unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL)
			return failed != unix.EAGAIN && failed != unix.EINTR
		})
	}
	if err = errors.Join(err, failed); err != nil {
		return fmt.Errorf("cannot send open files: %w", err)
	}
	return nil
}

// Accept waits for the next connection of a listening socket that does not
// block. It ends with os.ErrClosed when the socket is closed meanwhile.
func Accept(l *os.File) (*os.File, error) {
	raw, err := l.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("cannot accept a connection: %w", err)
	}
	fd := -1
	var failed error
	err = raw.Read(func(listening uintptr) bool {
		fd, _, failed = unix.Accept4(int(listening), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		// A client that gave up while it waited is no reason to end.
		return failed != unix.EAGAIN && failed != unix.EINTR && failed != unix.ECONNABORTED
	})
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
	case err != nil:
		err = os.ErrClosed // the poller has an error of its own for it
	default:
		err = failed
	}
	if err != nil {
		return nil, fmt.Errorf("cannot accept a connection: %w", err)
	}
	return os.NewFile(uintptr(fd), "client"), nil
}

// Dial connects to the stream socket at path.
func Dial(path string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		// It waits while the backlog is full, and not longer.
		if err = unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err == nil {
			err = unix.SetNonblock(fd, true)
		}
		if err != nil {
			err = errors.Join(err, unix.Close(fd))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot connect to %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Unsent returns how many bytes of a TCP connection the other machine has not
// acknowledged yet (SIOCOUTQ, tcp(7)).
func Unsent(c syscall.Conn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("cannot tell what arrived: %w", err)
	}
	var n int
	var failed error
	err = raw.Control(func(fd uintptr) { n, failed = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	if err = errors.Join(err, failed); err != nil {
		return 0, fmt.Errorf("cannot tell what arrived: %w", err)
	}
	return n, nil
}
