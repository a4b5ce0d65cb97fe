// Package tpm sends commands to the machine's TPM 2.0 through the kernel's
// resource manager, /dev/tpmrm0 (Linux, Documentation/security/tpm), and has
// the two commands of every boot: extend a PCR, read a PCR. A [TPM] is also a
// transport of go-tpm, which cloison/target/seal speaks the others with.
//
// Source: TCG TPM 2.0 Library, Part 3, sections 22.3 (TPM2_PCR_Event) and 22.4
// (TPM2_PCR_Read).
package tpm

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/sys/unix"

	"cloison/format/tpmpolicy"
)

// Node is the device of the first TPM.
const Node = "/dev/tpmrm0"

// Deadline is how long a TPM may take for one command. The slowest that we
// send makes an ECC key; a TPM that needs longer than this is dead, and the
// kernel would wait for it for minutes.
const Deadline = 20 * time.Second

// ErrDeadline says that the TPM gave no answer in time.
var ErrDeadline = errors.New("the TPM does not answer")

// maxResponse is larger than any TPM's buffer (TPM2_PT_MAX_RESPONSE_SIZE is 4096).
const maxResponse = 8192

// TPM is an open device.
type TPM struct {
	fd       int
	deadline time.Duration
	dead     bool // a command is still under way: the answers are not in step any more
}

// Open opens the device at node.
func Open(node string) (*TPM, error) {
	// Non-blocking: the driver then works behind our back, and poll tells when
	// it is done. A read before that would find nothing and not wait.
	fd, err := unix.Open(node, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the TPM %s: %w", node, err)
	}
	return &TPM{fd: fd, deadline: Deadline}, nil
}

// Named reports whether the firmware tells of a TPM 2.0 (TCG ACPI Specification,
// section 7.3), which may come up later. sysfs must be mounted.
func Named() (bool, error) {
	_, err := os.Stat("/sys/firmware/acpi/tables/TPM2")
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot tell whether there is a TPM: %w", err)
	}
	return true, nil
}

// EventLog reads the firmware's event log of the first TPM: securityfs must be
// mounted at its usual place (Linux, Documentation/security/tpm/tpm_event_log.rst).
func EventLog() ([]byte, error) {
	b, err := os.ReadFile("/sys/kernel/security/tpm0/binary_bios_measurements")
	if err != nil {
		return nil, fmt.Errorf("cannot read the firmware's event log: %w", err)
	}
	return b, nil
}

// Close closes the device. One whose TPM is dead stays open: to close it, the
// kernel would wait for the answer.
func (t *TPM) Close() error {
	if t.dead {
		return nil
	}
	return unix.Close(t.fd)
}

// Extend extends PCR index in every active bank with the digest of data, 1 to
// 1024 bytes.
func (t *TPM) Extend(index int, data []byte) error {
	if index < 0 || index > 15 || len(data) == 0 || len(data) > 1024 {
		return fmt.Errorf("cannot extend PCR %d with %d bytes", index, len(data))
	}
	// PCR 0 to 15 have the empty authorisation and take no other.
	_, err := tpm2.PCREvent{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(index), Auth: tpm2.PasswordAuth(nil)},
		EventData: tpm2.TPM2BEvent{Buffer: data},
	}.Execute(t)
	if err != nil {
		return fmt.Errorf("cannot extend PCR %d: %w", index, err)
	}
	return nil
}

// PCR returns the value of PCR index in the SHA-256 bank.
func (t *TPM) PCR(index int) (value [32]byte, err error) {
	if index < 0 || index > 23 {
		return value, fmt.Errorf("cannot read PCR %d", index)
	}
	selection, err := tpm2.Unmarshal[tpm2.TPMLPCRSelection](tpmpolicy.Selection(index))
	if err != nil {
		return value, fmt.Errorf("cannot read PCR %d: %w", index, err)
	}
	r, err := tpm2.PCRRead{PCRSelectionIn: *selection}.Execute(t)
	if err != nil {
		return value, fmt.Errorf("cannot read PCR %d: %w", index, err)
	}
	// A TPM without a SHA-256 bank answers with an empty selection.
	if string(tpm2.Marshal(r.PCRSelectionOut)) != string(tpmpolicy.Selection(index)) ||
		len(r.PCRValues.Digests) != 1 || len(r.PCRValues.Digests[0].Buffer) != len(value) {
		return value, fmt.Errorf("cannot read PCR %d: TPM shows no SHA-256 bank", index)
	}
	copy(value[:], r.PCRValues.Digests[0].Buffer)
	return value, nil
}

// Send writes a command in one piece and reads its response in one piece, as
// the driver wants it. After ErrDeadline the TPM is not asked again.
func (t *TPM) Send(command []byte) ([]byte, error) {
	if t.dead {
		return nil, ErrDeadline
	}
	end := time.Now().Add(t.deadline)
	if n, err := unix.Write(t.fd, command); err != nil || n != len(command) {
		return nil, errors.Join(fmt.Errorf("cannot send %d bytes to the TPM", len(command)), err)
	}
	for {
		left := time.Until(end)
		if left <= 0 {
			t.dead = true
			return nil, ErrDeadline
		}
		// Rounded up: a last fraction of a millisecond must not spin.
		ready := []unix.PollFd{{Fd: int32(t.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(ready, int(left/time.Millisecond)+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return nil, fmt.Errorf("cannot wait for the TPM: %w", err)
		}
		if n > 0 {
			break
		}
	}
	b := make([]byte, maxResponse)
	n, err := unix.Read(t.fd, b)
	if err != nil {
		return nil, fmt.Errorf("cannot read the TPM's answer: %w", err)
	}
	if n == 0 {
		return nil, errors.New("cannot read the TPM's answer: it is empty")
	}
	return b[:n], nil
}
