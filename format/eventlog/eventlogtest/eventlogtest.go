// Package eventlogtest writes event logs for tests, with SHA-256 alone. It needs
// nothing.
package eventlogtest

import (
	"crypto/sha256"
	"encoding/binary"
)

// Event is something that was measured.
type Event struct {
	PCR, Type uint32
	Data      []byte
}

// Print returns the bytes of the log (TCG PC Client Platform Firmware Profile
// 1.06, section 10.2).
func Print(events ...Event) []byte {
	le := binary.LittleEndian
	body := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 106, 2)
	body = le.AppendUint32(body, 1) // algorithms
	body = le.AppendUint16(le.AppendUint16(body, 0x000b), sha256.Size)
	body = append(body, 0) // vendor's bytes
	b := le.AppendUint32(le.AppendUint32(nil, 0), 3)
	b = append(b, make([]byte, 20)...)
	b = append(le.AppendUint32(b, uint32(len(body))), body...)
	for _, e := range events {
		digest := sha256.Sum256(e.Data)
		b = le.AppendUint32(le.AppendUint32(b, e.PCR), e.Type)
		b = le.AppendUint16(le.AppendUint32(b, 1), 0x000b)
		b = append(b, digest[:]...)
		b = append(le.AppendUint32(b, uint32(len(e.Data))), e.Data...)
	}
	return b
}
