package config

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
	"time"

	"cloison/format/config"
	format "cloison/format/service"
	"cloison/linux/clock"
	"cloison/target/apply"
	"cloison/target/service"
	"cloison/target/varlink"
)

// Where things are in the service's root.
const (
	policyPath = "/etc/cloison/policy.toml"
	folder     = "/state/configuration"
)

// patience is how long an owner may take over a document. One that is being
// started answers later than one that runs.
const patience = 30 * time.Second

// sockets are those of the owners. A product that has no such service does not
// name the socket, and its document stays what the product says.
var sockets = map[string]string{
	"time":    format.SocketPath("timed", "apply"),
	"network": format.SocketPath("netd", "apply"),
	"log":     format.SocketPath("logd", "apply"),
}

// Main is the program.
func Main() {
	// Nothing is to be done at the end: what has to last lies on the disk.
	signal.Ignore(syscall.SIGHUP)
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "cloison: configd: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	notify, err := service.Notify()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(policyPath)
	if err != nil {
		return err
	}
	policy, defaults, err := config.ParsePolicy(text)
	if err != nil {
		return err
	}
	key, err := publicKey()
	if err != nil {
		return err
	}
	supervisor, err := service.Descriptor("supervisor")
	if err != nil {
		return err
	}
	// access needs no owner: who lets people in reads the file each time.
	owners := map[string]Owner{"system": &hostname{supervisor: supervisor}, "access": nil}
	for concern, path := range sockets {
		_, err := os.Stat(path)
		switch {
		case err == nil:
			owners[concern] = apply.Remote{Socket: path, Patience: patience}
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("cannot find the owner of the document %s: %w", concern, err)
		}
	}
	say := func(line string) { fmt.Println(line) } // nobody is left to hear that the log is closed
	engine, err := Open(Options{
		Folder: folder, Policy: policy, Defaults: defaults, Owners: owners,
		Now: time.Now, SinceBoot: clock.SinceBoot, Say: say,
	})
	if err != nil {
		return err
	}
	listener, err := service.Descriptor("config")
	if err != nil {
		return err
	}
	peers, err := service.Peers()
	if err != nil {
		return err
	}
	server, err := varlink.New(engine.Offer(peers, key))
	if err != nil {
		return err
	}
	if err := notify.Ready(); err != nil {
		return err
	}
	// The owners start after this service, and read what it has written.
	go engine.Settle()
	return server.Serve(listener, func(err error) { say(err.Error()) })
}

// publicKey reads what PID 1 signs tickets with in this boot.
func publicKey() (ed25519.PublicKey, error) {
	f, err := service.Descriptor("session-key")
	if err != nil {
		return nil, err
	}
	key := make([]byte, ed25519.PublicKeySize)
	_, err = io.ReadFull(f, key)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("cannot read the key of sessions: %w", err)
	}
	return key, nil
}
