package ssh

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"cloison/format/config"
	format "cloison/format/service"
	"cloison/linux/socket"
	"cloison/target/hostkey"
	"cloison/target/service"
)

// configuration is the document, in the service's root.
const configuration = "/etc/cloison/access.toml"

// Main is the program: one connection. Its argument is the network that the
// connection comes from.
func Main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "cloison: sshd: %v\n", err)
	}
}

func run(arguments []string) error {
	f, err := service.Descriptor(format.Connection)
	if err != nil {
		return err
	}
	c, err := net.FileConn(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("cannot take the connection: %w", err)
	}
	from, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return fmt.Errorf("cannot tell who connects: %w", err)
	}
	text, err := os.ReadFile(configuration)
	if err != nil {
		return fmt.Errorf("cannot read who may come in: %w", err)
	}
	access, err := config.As[config.Access](text)
	if err != nil {
		return fmt.Errorf("cannot read who may come in: %w", err)
	}
	if len(arguments) != 1 || !slices.Contains(access.SSH.Networks, arguments[0]) {
		return fmt.Errorf("nobody is to come in over SSH from the network %q", arguments)
	}
	host, err := hostkey.Remote(format.SocketPath("hostkeyd", "sign"))
	if err != nil {
		return err
	}
	sessions, err := service.Descriptor("sessions")
	if err != nil {
		return err
	}
	s := Server{
		Access: access, Host: host, From: from.Addr().Unmap(), Now: time.Now, Login: login,
		Start: func(role, name string) (io.ReadWriteCloser, io.ReadWriteCloser, error) {
			return start(sessions, role, name)
		},
		Say: func(line string) { fmt.Println(line) }, // nobody is left to hear that the log is closed
	}
	return s.Serve(c)
}

// start asks PID 1 for a session.
func start(sessions *os.File, role, name string) (channel, control io.ReadWriteCloser, err error) {
	ours, theirs, err := socket.StreamPair()
	if err != nil {
		return nil, nil, err
	}
	defer theirs.Close() // the session has its own
	beside, besideTheirs, err := socket.Pair()
	if err != nil {
		return nil, nil, errors.Join(err, ours.Close())
	}
	defer besideTheirs.Close() // likewise
	if err := socket.SendFiles(sessions, role+" "+name, theirs, besideTheirs); err != nil {
		return nil, nil, errors.Join(err, ours.Close(), beside.Close())
	}
	b := make([]byte, 512)
	n, err := sessions.Read(b)
	if err == nil && string(b[:n]) != "started" {
		err = fmt.Errorf("%s", b[:n])
	}
	if err != nil {
		return nil, nil, errors.Join(err, ours.Close(), beside.Close())
	}
	c, err := net.FileConn(ours)
	if err = errors.Join(err, ours.Close()); err != nil {
		return nil, nil, errors.Join(err, beside.Close())
	}
	return c.(*net.UnixConn), beside, nil
}
