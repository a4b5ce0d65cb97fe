package peer_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"cloison/host/sdk"
	"cloison/host/sdk/sdktest"
)

// swtpm is a TPM in software, and the line to it. It records what goes over
// the line.
type swtpm struct {
	tools *sdk.SDK
	dir   string // its state, and its sockets
	cmd   *exec.Cmd
	conn  net.Conn
	line  bytes.Buffer
	dies  func(command []byte) bool // whether the TPM is killed before it gets this command
}

// newTPM starts one that has never been used.
func newTPM(t *testing.T) *swtpm {
	t.Helper()
	// A socket's path has 108 bytes at most: not in t.TempDir.
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	s := &swtpm{tools: sdktest.Open(t), dir: dir}
	t.Cleanup(func() {
		if err := errors.Join(s.kill(), s.conn.Close(), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	s.start(t)
	return s
}

func (s *swtpm) start(t *testing.T) {
	t.Helper()
	// swtpm gets the control socket from us, already listening: its answer
	// there tells that the other one is there too.
	control := &net.UnixAddr{Name: s.socket() + ".ctrl", Net: "unix"}
	l, err := net.ListenUnix("unix", control)
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd = s.tools.Command(context.Background(), sdk.Step{
		Args: []string{
			"swtpm", "socket", "--tpm2", "--tpmstate", "dir=" + s.dir, "--server", "type=unixio,path=" + s.socket(),
			"--ctrl", "type=unixio,fd=3", "--flags", "not-need-init,startup-clear",
		},
		Dir: s.dir, Writable: []string{s.dir}, Stdout: os.Stderr, Stderr: os.Stderr,
	})
	s.cmd.ExtraFiles = []*os.File{f}
	if err := errors.Join(s.cmd.Start(), f.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	c, err := net.DialUnix("unix", nil, control)
	if err != nil {
		t.Fatal(err)
	}
	_, err1 := c.Write([]byte{0, 0, 0, 1}) // CMD_GET_CAPABILITY
	_, err2 := c.Read(make([]byte, 64))
	if err := errors.Join(err1, err2, c.Close()); err != nil {
		t.Fatal(err)
	}
	s.connect(t)
}

func (s *swtpm) socket() string { return filepath.Join(s.dir, "tpm") }

func (s *swtpm) connect(t *testing.T) {
	t.Helper()
	var err error
	if s.conn, err = net.Dial("unix", s.socket()); err != nil {
		t.Fatal(err)
	}
}

// kill ends it, and waits until it is gone: what is killed is the sandbox, and
// the kernel ends swtpm a moment after it.
func (s *swtpm) kill() error {
	if s.cmd == nil {
		return nil
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait() // killed: no other end is possible
	s.cmd = nil
	// It holds a lock on its state for as long as it lives.
	lock, err := os.OpenFile(filepath.Join(s.dir, ".lock"), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = syscall.FcntlFlock(lock.Fd(), syscall.F_SETLKW, &syscall.Flock_t{Type: syscall.F_WRLCK})
	return errors.Join(err, lock.Close(), os.Remove(s.socket()), os.Remove(s.socket()+".ctrl"))
}

// reboot takes the power away and gives it back: PCRs start anew, NV stays.
func (s *swtpm) reboot(t *testing.T) {
	t.Helper()
	if err := errors.Join(s.kill(), s.conn.Close()); err != nil {
		t.Fatal(err)
	}
	s.start(t)
}

// Send is the transport, with a deadline as that of cloison/linux/tpm.
func (s *swtpm) Send(command []byte) ([]byte, error) {
	if s.dies != nil && s.dies(command) {
		if err := s.kill(); err != nil {
			return nil, err
		}
	}
	s.line.Write(command)
	if err := s.conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := s.conn.Write(command); err != nil {
		return nil, err
	}
	header := make([]byte, 10)
	if _, err := io.ReadFull(s.conn, header); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(header[2:])
	if size < 10 || size > 8192 {
		return nil, fmt.Errorf("response of %d bytes", size)
	}
	response := append(header, make([]byte, size-10)...)
	if _, err := io.ReadFull(s.conn, response[10:]); err != nil {
		return nil, err
	}
	s.line.Write(response)
	return response, nil
}

// extend extends a PCR with the digest of text.
func (s *swtpm) extend(t *testing.T, index int, text string) {
	t.Helper()
	_, err := tpm2.PCREvent{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(index), Auth: tpm2.PasswordAuth(nil)},
		EventData: tpm2.TPM2BEvent{Buffer: []byte(text)},
	}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
}

// tool runs a program of tpm2-tools against the TPM.
func (s *swtpm) tool(t *testing.T, args ...string) string {
	t.Helper()
	_ = s.conn.Close() // it serves one at a time
	out, err := s.tools.Output(t.Context(), sdk.Step{
		Args: args, Env: []string{"TPM2TOOLS_TCTI=swtpm:path=" + s.socket()}, Dir: s.dir, Writable: []string{s.dir},
	})
	s.connect(t)
	if err != nil {
		t.Fatalf("%s: %v", args[0], err)
	}
	return string(out)
}

// extendWith extends a PCR with a digest, as the firmware does for large data.
func (s *swtpm) extendWith(t *testing.T, index int, digest [32]byte) {
	t.Helper()
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(index), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: digest[:]}}},
	}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
}
