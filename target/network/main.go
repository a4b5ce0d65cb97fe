package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"syscall"

	"cloison/format/dhcp"
	"cloison/linux/netlink"
	"cloison/linux/socket"
	"cloison/target/apply"
	"cloison/target/service"
	"cloison/target/varlink"
)

// configuration is the document that held last, in the service's root.
const configuration = "/etc/cloison/network.toml"

// Main is the program.
func Main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "cloison: netd: %v\n", err)
		os.Exit(1)
	}
}

// run is ready when the document that held last holds, and it can be told another.
func run(ctx context.Context) error {
	notify, err := service.Notify()
	if err != nil {
		return err
	}
	kernel, err := netlink.Open()
	if err != nil {
		return err
	}
	s, err := New(Options{
		Kernel: kernel,
		Listen: func(device string) (Wire, error) { return socket.ListenUDP(device, dhcp.ClientPort) },
		Say:    func(line string) { fmt.Println(line) }, // nobody is left to hear that the log is closed
	})
	if err != nil {
		return err
	}
	defer s.Close()
	d := &documents{service: s}
	text, err := os.ReadFile(configuration)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot read the configuration: %w", err)
	}
	if err := d.Apply(text); err != nil {
		// What cannot hold any more leaves the network closed, and the way to mend
		// it open.
		fmt.Fprintf(os.Stderr, "cannot set up the network: %v\n", err)
		if err := s.Apply(nil); err != nil {
			return err
		}
	}
	listener, err := service.Descriptor("apply")
	if err != nil {
		return err
	}
	peers, err := service.Peers()
	if err != nil {
		return err
	}
	server, err := varlink.New(varlink.Service{
		Product: "cloison", Version: "1", Definitions: []string{apply.Definition}, Methods: apply.Methods(d), Peers: peers,
	})
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener, func(err error) { fmt.Fprintf(os.Stderr, "%v\n", err) }) }()
	if err := notify.Ready(); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}
