// Package eventlog reads what the firmware says that it has measured into the
// TPM, and predicts from it what PCR 7 will be once the Secure Boot variables
// have other contents.
//
// The log itself is not protected: whoever could write to it could claim
// anything. It counts only where its digests lead to the value that the TPM
// has (Boot), and an event's data only where they lead to its digest.
//
// Source: TCG PC Client Platform Firmware Profile 1.06, section 10 (the
// crypto-agile log; integers are little-endian) and section 3.3.4.8 (PCR 7).
// It needs nothing but the standard library.
package eventlog

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// Types of event (section 10.4.1).
const (
	noAction                = 0x00000003
	Separator               = 0x00000004
	VariableDriverConfig    = 0x80000001
	BootServicesApplication = 0x80000003
	runtimeServicesDriver   = 0x80000005
	VariableAuthority       = 0x800000e0
)

// Algorithms by their TPM_ALG_ID.
const algorithmSHA256 = 0x000b

// Bounds: a log has a few hundred events, and pieces of a few ten thousand
// bytes.
const (
	maxLog    = 8 << 20
	maxEvents = 1 << 14
	maxPCR    = 23
)

const signature = "Spec ID Event03\x00"

// Log is a crypto-agile event log.
type Log struct {
	platform   [4]byte // platformClass
	version    [4]byte // minor, major, errata, uintnSize
	algorithms []algorithm
	vendor     []byte
	Events     []Event
}

type algorithm struct{ id, size uint16 }

// Event is one TCG_PCR_EVENT2. EV_NO_ACTION extends nothing.
type Event struct {
	PCR     uint32
	Type    uint32
	Digests [][]byte // in the order of the log's algorithms
	Data    []byte
}

// reader takes pieces off the front and remembers that there were too few.
type reader struct {
	b   []byte
	cut bool
}

func (r *reader) take(n uint64) []byte {
	if r.cut || n > uint64(len(r.b)) {
		r.cut = true
		return nil
	}
	piece := r.b[:n:n]
	r.b = r.b[n:]
	return piece
}

func (r *reader) uint(size int) uint64 {
	b := make([]byte, 8)
	copy(b, r.take(uint64(size)))
	return binary.LittleEndian.Uint64(b)
}

// Parse reads a log as Linux gives it (binary_bios_measurements). It refuses
// what Print would not have written.
func Parse(b []byte) (Log, error) {
	l, err := parse(b)
	if err != nil {
		return Log{}, fmt.Errorf("cannot read the firmware's event log: %w", err)
	}
	return l, nil
}

var errCut = errors.New("it is cut off")

func parse(b []byte) (l Log, err error) {
	if len(b) > maxLog {
		return l, fmt.Errorf("%d bytes", len(b))
	}
	r := &reader{b: b}
	// The first event is a TCG_PCClientPCREvent, with a SHA-1 digest of zeros.
	pcr, kind, digest := r.uint(4), r.uint(4), r.take(20)
	body := &reader{b: r.take(r.uint(4))}
	if r.cut {
		return l, errCut
	}
	if pcr != 0 || kind != noAction || !bytes.Equal(digest, make([]byte, 20)) || string(body.take(16)) != signature {
		return l, errors.New("it is not in the crypto-agile form")
	}
	copy(l.platform[:], body.take(4))
	copy(l.version[:], body.take(4))
	count := body.uint(4)
	if count == 0 || count > 16 {
		return l, fmt.Errorf("%d algorithms", count)
	}
	seen := map[uint16]bool{}
	for range count {
		a := algorithm{uint16(body.uint(2)), uint16(body.uint(2))}
		if seen[a.id] || a.size == 0 || a.size > 64 || a.id == algorithmSHA256 && a.size != sha256.Size {
			return l, fmt.Errorf("algorithm %#x twice, or with digests of %d bytes", a.id, a.size)
		}
		seen[a.id] = true
		l.algorithms = append(l.algorithms, a)
	}
	l.vendor = body.take(body.uint(1))
	if body.cut || len(body.b) > 0 {
		return l, errors.New("its first event is malformed")
	}
	for len(r.b) > 0 {
		e, err := l.event(r)
		if err == nil && len(l.Events) == maxEvents {
			err = errors.New("too many")
		}
		if err != nil {
			return l, fmt.Errorf("event %d: %w", len(l.Events)+1, err)
		}
		l.Events = append(l.Events, e)
	}
	return l, nil
}

func (l Log) event(r *reader) (e Event, err error) {
	e.PCR, e.Type = uint32(r.uint(4)), uint32(r.uint(4))
	if count := r.uint(4); !r.cut && count != uint64(len(l.algorithms)) {
		return e, fmt.Errorf("%d digests, want %d", count, len(l.algorithms))
	}
	for _, a := range l.algorithms {
		if id := uint16(r.uint(2)); !r.cut && id != a.id {
			return e, fmt.Errorf("a digest of algorithm %#x, want %#x", id, a.id)
		}
		e.Digests = append(e.Digests, r.take(uint64(a.size)))
	}
	e.Data = r.take(r.uint(4))
	switch {
	case r.cut:
		return e, errCut
	case e.PCR > maxPCR && e.Type != noAction:
		return e, fmt.Errorf("PCR %d", e.PCR)
	}
	return e, nil
}

// Print returns the log's bytes.
func (l Log) Print() []byte {
	le := binary.LittleEndian
	body := append([]byte(signature), l.platform[:]...)
	body = append(body, l.version[:]...)
	body = le.AppendUint32(body, uint32(len(l.algorithms)))
	for _, a := range l.algorithms {
		body = le.AppendUint16(le.AppendUint16(body, a.id), a.size)
	}
	body = append(append(body, byte(len(l.vendor))), l.vendor...)
	b := le.AppendUint32(le.AppendUint32(nil, 0), noAction)
	b = append(b, make([]byte, 20)...)
	b = append(le.AppendUint32(b, uint32(len(body))), body...)
	for _, e := range l.Events {
		b = le.AppendUint32(le.AppendUint32(b, e.PCR), e.Type)
		b = le.AppendUint32(b, uint32(len(e.Digests)))
		for i, d := range e.Digests {
			b = append(le.AppendUint16(b, l.algorithms[i].id), d...)
		}
		b = append(le.AppendUint32(b, uint32(len(e.Data))), e.Data...)
	}
	return b
}

// sha256 returns an event's digest of the SHA-256 bank.
func (l Log) sha256(e Event) (digest [32]byte, err error) {
	for i, a := range l.algorithms {
		if a.id == algorithmSHA256 {
			return [32]byte(e.Digests[i]), nil
		}
	}
	return digest, errors.New("the firmware's event log has no SHA-256 digests")
}

// Replay returns what a PCR of the SHA-256 bank is after all that the log
// says. PCR 0 may have started from another value than zero, and is not for it.
func (l Log) Replay(pcr uint32) (value [32]byte, err error) {
	for _, e := range l.Events {
		if e.PCR != pcr || e.Type == noAction {
			continue
		}
		digest, err := l.sha256(e)
		if err != nil {
			return value, err
		}
		value = extend(value, digest)
	}
	return value, nil
}

// extend is TPM2_PCR_Extend.
func extend(value, digest [32]byte) [32]byte {
	return sha256.Sum256(append(value[:], digest[:]...))
}
