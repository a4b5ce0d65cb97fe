package apply

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cloison/linux/socket"
	"cloison/target/varlink"
)

type owner struct{ running string }

func (o *owner) Apply(document []byte) error {
	if string(document) == "bad" {
		return errors.New("it is bad")
	}
	o.running = string(document)
	return nil
}

func (o *owner) Running() []byte { return []byte(o.running) }

// serve offers an owner to this user under a name.
func serve(t *testing.T, name string) Remote {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := socket.Listen(path, socket.Stream, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	s, err := varlink.New(varlink.Service{
		Product: "test", Version: "0", Definitions: []string{Definition}, Methods: Methods(&owner{running: "first"}),
		Peers: map[uint32]string{uint32(os.Getuid()): name},
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l, func(error) {}) // it ends with the socket
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return Remote{Socket: path, Patience: 10 * time.Second}
}

func TestRemote(t *testing.T) {
	r := serve(t, Caller)
	if err := r.Apply([]byte("second")); err != nil {
		t.Fatal(err)
	}
	if err := r.Apply([]byte("bad")); err == nil || err.Error() != "it is bad" {
		t.Errorf("Apply of a bad document = %v, want the owner's words", err)
	}
	if got, err := r.Running(); err != nil || string(got) != "second" {
		t.Errorf("Running = %q, %v, want second", got, err)
	}
}

// TestOnlyConfiguration: any other service is refused, and changes nothing.
func TestOnlyConfiguration(t *testing.T) {
	r := serve(t, "timed")
	var refused *varlink.Error
	if err := r.Apply([]byte("second")); !errors.As(err, &refused) || refused.Name != "org.varlink.service.PermissionDenied" {
		t.Errorf("Apply by another = %v, want that it is denied", err)
	}
	if _, err := r.Running(); !errors.As(err, &refused) {
		t.Errorf("Running by another = %v, want that it is denied", err)
	}
}
