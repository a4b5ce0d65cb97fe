package efisig

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// GUID is an EFI_GUID in its binary form: the first three fields are little
// endian (UEFI 2.10, appendix A).
type GUID [16]byte

// GUIDs of UEFI 2.10.
var (
	GlobalVariable = mustGUID("8be4df61-93ca-11d2-aa0d-00e098032b8c") // section 3.3: PK, KEK
	ImageSecurity  = mustGUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f") // section 32.6.1: db, dbx
	CertSHA256     = mustGUID("c1c41626-504c-4092-aca9-41f936934328") // section 32.4.1
	CertX509       = mustGUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072") // section 32.4.1
	certTypePKCS7  = mustGUID("4aafd29d-68df-49ee-8aa9-347d375665a7") // section 8.2.2
)

// ParseGUID reads the text form, 8-4-4-4-12 lower-case hexadecimal digits.
func ParseGUID(text string) (GUID, error) {
	var g GUID
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return g, fmt.Errorf("cannot parse GUID %q: want 8-4-4-4-12 hexadecimal digits", text)
	}
	raw, err := hex.DecodeString(text[:8] + text[9:13] + text[14:18] + text[19:23] + text[24:])
	if err != nil {
		return g, fmt.Errorf("cannot parse GUID %q: %w", text, err)
	}
	swap(&g, [16]byte(raw))
	if g.String() != text {
		return GUID{}, fmt.Errorf("cannot parse GUID %q: want lower-case digits", text)
	}
	return g, nil
}

func mustGUID(text string) GUID {
	g, err := ParseGUID(text)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return g
}

// String returns the text form.
func (g GUID) String() string {
	var t GUID
	swap(&t, g)
	return fmt.Sprintf("%x-%x-%x-%x-%x", t[:4], t[4:6], t[6:8], t[8:10], t[10:])
}

// swap changes the byte order of the first three fields.
func swap(to *GUID, from [16]byte) {
	*to = from
	binary.BigEndian.PutUint32(to[0:], binary.LittleEndian.Uint32(from[0:]))
	binary.BigEndian.PutUint16(to[4:], binary.LittleEndian.Uint16(from[4:]))
	binary.BigEndian.PutUint16(to[6:], binary.LittleEndian.Uint16(from[6:]))
}
