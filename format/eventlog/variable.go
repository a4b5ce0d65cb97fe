package eventlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf16"

	"cloison/format/efisig"
)

// Variable is a UEFI_VARIABLE_DATA (section 10.4.2.6): the data of an
// EV_EFI_VARIABLE_DRIVER_CONFIG or EV_EFI_VARIABLE_AUTHORITY.
type Variable struct {
	Vendor  efisig.GUID
	Name    string
	Content []byte
}

const maxName = 128 // characters

// ParseVariable reads an event's data.
func ParseVariable(b []byte) (Variable, error) {
	r := &reader{b: b}
	var v Variable
	copy(v.Vendor[:], r.take(16))
	length, size := r.uint(8), r.uint(8)
	if length > maxName {
		return Variable{}, fmt.Errorf("cannot read a measured variable: a name of %d characters", length)
	}
	name := make([]uint16, length)
	for i := range name {
		name[i] = uint16(r.uint(2))
		if name[i] == 0 || utf16.IsSurrogate(rune(name[i])) {
			return Variable{}, errors.New("cannot read a measured variable: its name is malformed")
		}
	}
	v.Name = string(utf16.Decode(name))
	v.Content = r.take(size)
	if r.cut || len(r.b) > 0 {
		return Variable{}, errors.New("cannot read a measured variable: its sizes do not fit")
	}
	return v, nil
}

// Print returns the bytes that are measured.
func (v Variable) Print() []byte {
	le := binary.LittleEndian
	name := utf16.Encode([]rune(v.Name))
	b := le.AppendUint64(v.Vendor[:len(v.Vendor):len(v.Vendor)], uint64(len(name)))
	b = le.AppendUint64(b, uint64(len(v.Content)))
	for _, c := range name {
		b = le.AppendUint16(b, c)
	}
	return append(b, v.Content...)
}
