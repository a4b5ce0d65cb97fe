package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestListenAndPeer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	f, err := Listen(path, Stream, 0o660)
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
	if _, err := Listen(path, Stream, 0o600); err == nil {
		t.Error("Listen at a path that exists = nil, want an error")
	}
}

func TestSendAndReceive(t *testing.T) {
	fd, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b := os.NewFile(uintptr(fd[0]), "a"), os.NewFile(uintptr(fd[1]), "b")
	defer b.Close()
	for _, name := range []string{"one", "two"} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.WriteString(name); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Close(), Send(a, name, r), r.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.WriteString("nothing with it"); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"one", "two"} {
		name, file, err := Receive(b)
		if name != want || err != nil {
			t.Fatalf("Receive() = %q, %v, want %q", name, err, want)
		}
		if got, err := io.ReadAll(file); string(got) != want || err != nil {
			t.Errorf("the file of %s holds %q, %v", want, got, err)
		}
		file.Close()
	}
	if _, _, err := Receive(b); err == nil || err == io.EOF {
		t.Errorf("Receive() of a message without a file = %v, want an error", err)
	}
	if _, _, err := Receive(b); err != io.EOF {
		t.Errorf("Receive() at the end = %v, want io.EOF", err)
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
