package machine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf16"
)

// guid is a GUID in the byte order of EFI: the first three fields little
// endian.
type guid [16]byte

// efiGlobalVariable is EFI_GLOBAL_VARIABLE (UEFI 2.10, 3.3),
// 8be4df61-93ca-11d2-aa0d-00e098032b8c.
var efiGlobalVariable = guid{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}

// authenticatedStore is gEfiAuthenticatedVariableGuid of EDK II,
// aaf32c78-947b-439a-a180-2e144ec37792.
var authenticatedStore = guid{0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43, 0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92}

// variable is one valid variable of the firmware.
type variable struct {
	Name       string
	Vendor     guid
	Attributes uint32
	Data       []byte
}

// Sizes and values of EDK II's MdeModulePkg/Include/Guid/VariableFormat.h;
// everything is little endian.
const (
	storeHeaderSize    = 28
	variableHeaderSize = 60
	variableStart      = 0x55aa
	variableAdded      = 0x3f
	// variableMoving is a variable that is being replaced and whose
	// replacement is not yet valid: it still counts.
	variableMoving = 0x3e
)

var errVariables = errors.New("not a variable store of EDK II")

// parseVariables returns the valid variables of a firmware volume image such
// as OVMF_VARS.fd.
func parseVariables(image []byte) ([]variable, error) {
	// EFI_FIRMWARE_VOLUME_HEADER (PI 1.8, volume 3, 3.2.1): signature at 40,
	// header length at 48.
	if len(image) < 56 || !bytes.Equal(image[40:44], []byte("_FVH")) {
		return nil, fmt.Errorf("%w: no firmware volume header", errVariables)
	}
	store := int(binary.LittleEndian.Uint16(image[48:]))
	if len(image) < store+storeHeaderSize {
		return nil, fmt.Errorf("%w: too short", errVariables)
	}
	header := image[store:]
	if !bytes.Equal(header[:16], authenticatedStore[:]) {
		return nil, fmt.Errorf("%w: no authenticated store", errVariables)
	}
	size := int(binary.LittleEndian.Uint32(header[16:]))
	if size < storeHeaderSize || size > len(header) {
		return nil, fmt.Errorf("%w: store of %d bytes in %d", errVariables, size, len(header))
	}
	var found []variable
	for at := storeHeaderSize; at+variableHeaderSize <= size; {
		h := header[at:size]
		if binary.LittleEndian.Uint16(h) != variableStart {
			break // free space follows the last one
		}
		nameSize := int64(binary.LittleEndian.Uint32(h[36:]))
		dataSize := int64(binary.LittleEndian.Uint32(h[40:]))
		end := variableHeaderSize + nameSize + dataSize
		if nameSize%2 != 0 || end > int64(len(h)) {
			return nil, fmt.Errorf("%w: variable at %d is cut off", errVariables, store+at)
		}
		if state := h[2]; state == variableAdded || state == variableMoving {
			name := make([]uint16, nameSize/2)
			for i := range name {
				name[i] = binary.LittleEndian.Uint16(h[variableHeaderSize+2*i:])
			}
			if n := len(name); n > 0 && name[n-1] == 0 {
				name = name[:n-1]
			}
			found = append(found, variable{
				Name:       string(utf16.Decode(name)),
				Vendor:     guid(h[44:60]),
				Attributes: binary.LittleEndian.Uint32(h[4:]),
				Data:       h[variableHeaderSize+nameSize : end],
			})
		}
		at += int(end+3) &^ 3
	}
	return found, nil
}
