// Package tpm writes and reads the two TPM 2.0 commands that a boot needs
// before anything is sealed: TPM2_PCR_Event and TPM2_PCR_Read.
//
// Source: TCG Trusted Platform Module Library, Family 2.0, Part 1 section 18
// (command and response headers), Part 2 section 6 (constants) and 10 (PCR
// selections), Part 3 sections 22.3 and 22.4. Integers are big-endian.
//
// The boot programs use this instead of go-tpm, whose tpm2 package links the
// whole of net for a TCP simulator. It needs nothing but the standard library.
package tpm

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	tagNoSessions = 0x8001
	tagSessions   = 0x8002
	commandEvent  = 0x0000013c // TPM_CC_PCR_Event
	commandRead   = 0x0000017e // TPM_CC_PCR_Read
	passwordAuth  = 0x40000009 // TPM_RS_PW
	sha256        = 0x000b     // TPM_ALG_SHA256
	maxEvent      = 1024       // TPM2B_EVENT
	pcrs          = 24
)

// Event returns the command that extends PCR index, in every active bank, with
// the digest of data.
func Event(index int, data []byte) ([]byte, error) {
	if index < 0 || index >= pcrs || len(data) == 0 || len(data) > maxEvent {
		return nil, fmt.Errorf("cannot extend PCR %d with %d bytes", index, len(data))
	}
	be := binary.BigEndian
	b := be.AppendUint32(nil, uint32(index))
	// The authorisation area: the empty password. PCR 0 to 15 take no other.
	auth := be.AppendUint32(nil, passwordAuth)
	auth = append(auth, 0, 0 /* no nonce */, 0 /* attributes */, 0, 0 /* no password */)
	b = be.AppendUint32(b, uint32(len(auth)))
	b = append(b, auth...)
	b = be.AppendUint16(b, uint16(len(data)))
	b = append(b, data...)
	return command(tagSessions, commandEvent, b), nil
}

// CheckEvent checks the response to Event.
func CheckEvent(response []byte) error {
	_, err := body(response, tagSessions)
	return err
}

// Read returns the command that reads PCR index of the SHA-256 bank.
func Read(index int) ([]byte, error) {
	if index < 0 || index >= pcrs {
		return nil, fmt.Errorf("cannot read PCR %d", index)
	}
	return command(tagNoSessions, commandRead, selection(index)), nil
}

// ReadValue returns the value in the response to Read of the same index.
func ReadValue(index int, response []byte) (value [32]byte, err error) {
	b, err := body(response, tagNoSessions)
	if err != nil {
		return value, err
	}
	// pcrUpdateCounter, pcrSelectionOut, pcrValues: one digest of 32 bytes. A
	// TPM without a SHA-256 bank answers with an empty selection.
	want := append(selection(index), 0, 0, 0, 1, 0, 32)
	if len(b) != 4+len(want)+32 || string(b[4:4+len(want)]) != string(want) {
		return value, errors.New("TPM shows no SHA-256 bank")
	}
	copy(value[:], b[4+len(want):])
	return value, nil
}

// selection is a TPML_PCR_SELECTION of one PCR in the SHA-256 bank.
func selection(index int) []byte {
	b := []byte{0, 0, 0, 1, sha256 >> 8, sha256 & 0xff, pcrs / 8, 0, 0, 0}
	b[7+index/8] = 1 << (index % 8)
	return b
}

func command(tag uint16, code uint32, parameters []byte) []byte {
	be := binary.BigEndian
	b := be.AppendUint16(nil, tag)
	b = be.AppendUint32(b, uint32(10+len(parameters)))
	b = be.AppendUint32(b, code)
	return append(b, parameters...)
}

func body(response []byte, tag uint16) ([]byte, error) {
	be := binary.BigEndian
	if len(response) < 10 || uint64(be.Uint32(response[2:])) != uint64(len(response)) {
		return nil, fmt.Errorf("response of %d bytes is cut", len(response))
	}
	if rc := be.Uint32(response[6:]); rc != 0 {
		return nil, fmt.Errorf("TPM answers with error %#x", rc)
	}
	if got := be.Uint16(response); got != tag {
		return nil, fmt.Errorf("response has tag %#x, want %#x", got, tag)
	}
	return response[10:], nil
}
