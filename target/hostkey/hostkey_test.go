package hostkey

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"

	"cloison/linux/socket"
	"cloison/target/varlink"
)

// serve offers a key to this user under a name.
func serve(t *testing.T, key ssh.Signer, name string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	l, err := socket.Listen(path, socket.Stream, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	s, err := varlink.New(offer(key, map[uint32]string{uint32(os.Getuid()): name}))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l, func(error) {}) // it ends with the socket
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return path
}

func TestRemote(t *testing.T) {
	dir := t.TempDir()
	key, made, err := open(dir)
	if err != nil || !made {
		t.Fatalf("open = %t, %v", made, err)
	}
	again, made, err := open(dir)
	if err != nil || made || !bytes.Equal(again.PublicKey().Marshal(), key.PublicKey().Marshal()) {
		t.Errorf("the second start has another key: %t, %v", made, err)
	}
	r, err := Remote(serve(t, key, Caller))
	if err != nil || !bytes.Equal(r.PublicKey().Marshal(), key.PublicKey().Marshal()) {
		t.Fatalf("Remote = %v, %v", r, err)
	}
	identifier := bytes.Repeat([]byte{7}, 32)
	s, err := r.Sign(rand.Reader, identifier)
	if err != nil {
		t.Fatal(err)
	}
	if err := key.PublicKey().Verify(identifier, s); err != nil {
		t.Error(err)
	}
	// What is no identifier is not signed: a file of somebody, say.
	var refused *varlink.Error
	for _, size := range []int{0, 31, 65, 1000} {
		if _, err := r.Sign(rand.Reader, make([]byte, size)); !errors.As(err, &refused) || refused.Name != "cloison.HostKey.NotAnIdentifier" {
			t.Errorf("Sign of %d bytes = %v", size, err)
		}
	}
}

func TestOnlySSH(t *testing.T) {
	key, _, err := open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var refused *varlink.Error
	if r, err := Remote(serve(t, key, "console")); !errors.As(err, &refused) || refused.Name != "org.varlink.service.PermissionDenied" {
		t.Errorf("another service gets the key %v, %v", r, err)
	}
}

func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, seedName), make([]byte, 31), 0o600); err != nil {
		t.Fatal(err)
	}
	if key, _, err := open(dir); err == nil {
		t.Errorf("a damaged key is %v", key)
	}
}
