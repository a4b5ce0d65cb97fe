package socket

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestListenAndPeer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	f, err := Listen(path, 0o660)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != os.ModeSocket|0o660 {
		t.Errorf("the socket is %v, %v, want mode 0660", info.Mode(), err)
	}
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	defer f.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	served, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer served.Close()
	want := Peer{int32(os.Getpid()), uint32(os.Getuid()), uint32(os.Getgid())}
	if got, err := PeerOf(served.(*net.UnixConn)); got != want || err != nil {
		t.Errorf("PeerOf() = %+v, %v, want %+v", got, err, want)
	}
	if _, err := Listen(path, 0o600); err == nil {
		t.Error("Listen at a path that exists = nil, want an error")
	}
}

func TestPairKeepsMessages(t *testing.T) {
	ours, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	for _, m := range []string{"one", "two"} {
		if _, err := theirs.WriteString(m); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"one", "two"} {
		b := make([]byte, 16)
		if n, err := ours.Read(b); string(b[:n]) != want || err != nil {
			t.Errorf("Read() = %q, %v, want %q", b[:n], err, want)
		}
	}
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := ours.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("Read() after the end = %d, %v, want an error", n, err)
	}
}
