package tpm

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair is a TPM whose other end is a socket: like the device, it keeps the
// borders between messages.
func pair(t *testing.T, deadline time.Duration) (*TPM, int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return &TPM{fd: fds[0], deadline: deadline}, fds[1]
}

// answer plays a TPM that answers one command.
func answer(t *testing.T, peer int, response string) <-chan string {
	t.Helper()
	b, err := hex.DecodeString(response)
	if err != nil {
		t.Fatal(err)
	}
	command := make(chan string, 1)
	go func() {
		got := make([]byte, 4096)
		n, _ := unix.Read(peer, got)
		command <- hex.EncodeToString(got[:max(n, 0)])
		if _, err := unix.Write(peer, b); err != nil {
			t.Error(err)
		}
	}()
	return command
}

func TestExtend(t *testing.T) {
	tpm, peer := pair(t, time.Minute)
	got := answer(t, peer, "80020000001300000000000000000000010000")
	if err := tpm.Extend(11, []byte("ready")); err != nil {
		t.Errorf("Extend(11, ready) = %v", err)
	}
	if got, want := <-got, "8002000000220000013c0000000b000000094000000900000000000005"+hex.EncodeToString([]byte("ready")); got != want {
		t.Errorf("Extend(11, ready) sent %s, want %s", got, want)
	}
	for _, test := range []struct {
		index int
		data  []byte
	}{{-1, []byte("x")}, {16, []byte("x")}, {11, nil}, {11, make([]byte, 1025)}} {
		if err := tpm.Extend(test.index, test.data); err == nil {
			t.Errorf("Extend(%d, %d bytes) = nil error", test.index, len(test.data))
		}
	}
	answer(t, peer, "80010000000a00000922") // TPM_RC_RETRY
	if err := tpm.Extend(11, []byte("ready")); err == nil {
		t.Error("Extend = nil error when the TPM refuses")
	}
}

func TestPCR(t *testing.T) {
	value := strings.Repeat("ab", 32)
	for _, test := range []struct {
		response string
		ok       bool
	}{
		{"80010000003e000000000000001500000001000b03001000000000010020" + value, true},
		{"80010000003e000000000000001500000001000b03000800000000010020" + value, false}, // another PCR
		{"80010000003e000000000000001500000001000403001000000000010020" + value, false}, // SHA-1
		{"80010000001c000000000000001500000001000b0300000000000000", false},             // empty
		{"80010000000a00000100", false},
		{"80", false},
	} {
		tpm, peer := pair(t, time.Minute)
		command := answer(t, peer, test.response)
		got, err := tpm.PCR(12)
		if (err == nil) != test.ok || test.ok && hex.EncodeToString(got[:]) != value {
			t.Errorf("PCR(12) with response %s = %x, %v, want ok %t", test.response, got, err, test.ok)
		}
		if got, want := <-command, "8001000000140000017e00000001000b03001000"; got != want {
			t.Errorf("PCR(12) sent %s, want %s", got, want)
		}
		if err := tpm.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestDead: a TPM that does not answer is not waited for, and one that
// vanished is an error.
func TestDead(t *testing.T) {
	tpm, peer := pair(t, 20*time.Millisecond)
	for range 2 {
		if _, err := tpm.Send([]byte("command")); !errors.Is(err, ErrDeadline) {
			t.Errorf("Send to a TPM that does not answer = %v, want %v", err, ErrDeadline)
		}
	}
	b := make([]byte, 64)
	if n, err := unix.Read(peer, b); err != nil || !bytes.Equal(b[:n], []byte("command")) {
		t.Errorf("TPM got %q, %v, want one command", b[:max(n, 0)], err)
	}
	if err := tpm.Close(); err != nil {
		t.Error(err)
	}

	tpm, peer = pair(t, time.Minute)
	if err := unix.Close(peer); err != nil {
		t.Fatal(err)
	}
	if _, err := tpm.Send([]byte("command")); err == nil {
		t.Error("Send to a closed device = nil error")
	}
}
