// Package tpm sends commands to the machine's TPM 2.0 through the kernel's
// resource manager, /dev/tpmrm0 (Linux, Documentation/security/tpm).
package tpm

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"cloison/format/tpm"
)

// Node is the device of the first TPM.
const Node = "/dev/tpmrm0"

// maxResponse is larger than any TPM's buffer (TPM2_PT_MAX_RESPONSE_SIZE is 4096).
const maxResponse = 8192

// TPM is an open device.
type TPM struct{ f *os.File }

// Open opens the device at node.
func Open(node string) (*TPM, error) {
	// Not os.OpenFile, which makes the descriptor non-blocking: the driver then
	// works behind our back, and a read that comes too early finds nothing.
	fd, err := unix.Open(node, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the TPM %s: %w", node, err)
	}
	return &TPM{os.NewFile(uintptr(fd), node)}, nil
}

// Close closes the device.
func (t *TPM) Close() error { return t.f.Close() }

// Extend extends PCR index in every active bank with the digest of data.
func (t *TPM) Extend(index int, data []byte) error {
	c, err := tpm.Event(index, data)
	if err != nil {
		return err
	}
	r, err := t.send(c)
	if err == nil {
		err = tpm.CheckEvent(r)
	}
	if err != nil {
		return fmt.Errorf("cannot extend PCR %d: %w", index, err)
	}
	return nil
}

// PCR returns the value of PCR index in the SHA-256 bank.
func (t *TPM) PCR(index int) (value [32]byte, err error) {
	c, err := tpm.Read(index)
	if err != nil {
		return value, err
	}
	r, err := t.send(c)
	if err == nil {
		value, err = tpm.ReadValue(index, r)
	}
	if err != nil {
		return value, fmt.Errorf("cannot read PCR %d: %w", index, err)
	}
	return value, nil
}

// send writes a command in one piece and reads its response in one piece, as
// the driver wants it.
func (t *TPM) send(command []byte) ([]byte, error) {
	if _, err := t.f.Write(command); err != nil {
		return nil, err
	}
	b := make([]byte, maxResponse)
	n, err := t.f.Read(b)
	if err != nil {
		return nil, err
	}
	return b[:n], nil
}
