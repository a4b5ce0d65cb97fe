// Package efisig reads and writes the signature databases of UEFI Secure
// Boot (PK, KEK, db, dbx) and signs changes of them: the .auth files that
// firmware and systemd-boot take. It needs a crypto.Signer, its certificate
// and a time from the caller; the same input gives the same bytes.
//
// Source: UEFI 2.10, sections 8.2.2 (time-based authenticated variables),
// 32.4.1 (signature database) and 32.6.1 (image security database).
package efisig

import (
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unicode/utf16"

	"cloison/format/pkcs7"
)

// Signature is one EFI_SIGNATURE_DATA: who put it there, and a certificate
// in DER or a digest.
type Signature struct {
	Owner GUID
	Data  []byte
}

// List is one EFI_SIGNATURE_LIST: signatures of one type and one size.
type List struct {
	Type       GUID
	Signatures []Signature
}

const listHeader = 16 + 4 + 4 + 4

// Certificates returns one list for each certificate, because every list
// has one size of signature.
func Certificates(owner GUID, certs ...*x509.Certificate) []List {
	var out []List
	for _, c := range certs {
		out = append(out, List{CertX509, []Signature{{owner, c.Raw}}})
	}
	return out
}

// Digests returns a list of SHA-256 digests, as authenticode.Digest gives
// them.
func Digests(owner GUID, digests ...[32]byte) List {
	l := List{Type: CertSHA256}
	for _, d := range digests {
		l.Signatures = append(l.Signatures, Signature{owner, d[:]})
	}
	return l
}

// Marshal returns the content of a signature database variable.
func Marshal(lists []List) ([]byte, error) {
	var out []byte
	le := binary.LittleEndian
	for _, l := range lists {
		if len(l.Signatures) == 0 || len(l.Signatures[0].Data) == 0 {
			return nil, errors.New("cannot write signature list: it is empty")
		}
		size := 16 + len(l.Signatures[0].Data)
		out = append(out, l.Type[:]...)
		out = le.AppendUint32(out, uint32(listHeader+size*len(l.Signatures)))
		out = le.AppendUint32(out, 0) // SignatureHeaderSize
		out = le.AppendUint32(out, uint32(size))
		for _, s := range l.Signatures {
			if len(s.Data) != size-16 {
				return nil, fmt.Errorf("cannot write signature list: signatures of %d and %d bytes in one list", size-16, len(s.Data))
			}
			out = append(append(out, s.Owner[:]...), s.Data...)
		}
	}
	return out, nil
}

// Parse reads the content of a signature database variable. A digest must
// have 32 bytes and a certificate must be one.
func Parse(b []byte) ([]List, error) {
	le := binary.LittleEndian
	var out []List
	for len(b) > 0 {
		if len(b) < listHeader {
			return nil, fmt.Errorf("cannot parse signature list: %d bytes left, its header has %d", len(b), listHeader)
		}
		l := List{Type: GUID(b[:16])}
		total, header, size := uint64(le.Uint32(b[16:])), le.Uint32(b[20:]), uint64(le.Uint32(b[24:]))
		if header != 0 || size <= 16 || total <= listHeader || total > uint64(len(b)) || (total-listHeader)%size != 0 {
			return nil, fmt.Errorf("cannot parse signature list: sizes %d (list), %d (header), %d (signature) do not fit in %d bytes", total, header, size, len(b))
		}
		for s := b[listHeader:total]; len(s) > 0; s = s[size:] {
			data := s[16:size:size]
			switch l.Type {
			case CertSHA256:
				if len(data) != 32 {
					return nil, fmt.Errorf("cannot parse signature list: SHA-256 digest of %d bytes", len(data))
				}
			case CertX509:
				if _, err := x509.ParseCertificate(data); err != nil {
					return nil, fmt.Errorf("cannot parse signature list: %w", err)
				}
			}
			l.Signatures = append(l.Signatures, Signature{GUID(s[:16]), data})
		}
		out = append(out, l)
		b = b[total:]
	}
	return out, nil
}

// Attributes of a variable, UEFI 2.10, section 8.2.
const (
	// Replace writes the whole variable: non-volatile, boot and run time,
	// time-based authentication.
	Replace uint32 = 0x27
	// Append adds to what the variable holds.
	Append uint32 = Replace | 0x40
)

// Variable names a Secure Boot variable.
type Variable struct {
	Name   string
	Vendor GUID
}

// The four Secure Boot variables. PK and KEK are signed by PK, db and dbx by
// KEK.
var (
	PK  = Variable{"PK", GlobalVariable}
	KEK = Variable{"KEK", GlobalVariable}
	DB  = Variable{"db", ImageSecurity}
	DBX = Variable{"dbx", ImageSecurity}
)

// Update is a signed change of a variable: EFI_VARIABLE_AUTHENTICATION_2 and
// the new content, as an .auth file holds them.
type Update struct {
	Time      time.Time // to the second, UTC
	Signature []byte    // SignedData in DER
	Payload   []byte    // signature lists
}

// WIN_CERTIFICATE_UEFI_GUID, UEFI 2.10, section 32.2.4.
const (
	timeSize         = 16
	authHeader       = timeSize + 8 + 16
	authRevision     = 0x0200
	authTypeEFIGUID  = 0x0ef1
	maxSignatureSize = 1 << 20
)

// Sign makes an update of v to the lists. Attributes is Replace or Append;
// firmware refuses a Replace whose time is not after that of the last one.
// The time is cut to the second.
func Sign(signer crypto.Signer, cert *x509.Certificate, v Variable, attributes uint32, at time.Time, lists []List) (*Update, error) {
	if attributes != Replace && attributes != Append {
		return nil, fmt.Errorf("cannot sign %s: attributes %#x are neither Replace nor Append", v.Name, attributes)
	}
	if at = at.UTC().Truncate(time.Second); at.Year() < 1900 || at.Year() > 9999 {
		return nil, fmt.Errorf("cannot sign %s: year %d is outside of 1900 to 9999", v.Name, at.Year())
	}
	payload, err := Marshal(lists)
	if err != nil {
		return nil, fmt.Errorf("cannot sign %s: %w", v.Name, err)
	}
	u := &Update{Time: at, Payload: payload}
	if u.Signature, err = pkcs7.SignDetached(signer, cert, u.message(v, attributes)); err != nil {
		return nil, fmt.Errorf("cannot sign %s: %w", v.Name, err)
	}
	return u, nil
}

// message is what the signature is over: name (UTF-16, no NUL), vendor,
// attributes, time, content (UEFI 2.10, section 8.2.2, step 3).
func (u *Update) message(v Variable, attributes uint32) []byte {
	var b []byte
	for _, c := range utf16.Encode([]rune(v.Name)) {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	b = append(b, v.Vendor[:]...)
	b = binary.LittleEndian.AppendUint32(b, attributes)
	b = appendTime(b, u.Time)
	return append(b, u.Payload...)
}

// Verify checks that u changes v with these attributes and is signed by
// cert.
func (u *Update) Verify(v Variable, attributes uint32, cert *x509.Certificate) error {
	by, err := u.signer(v, attributes)
	if err != nil {
		return err
	}
	if !by.Equal(cert) {
		return fmt.Errorf("cannot verify update of %s: signed by %q, want %q", v.Name, by.Subject.CommonName, cert.Subject.CommonName)
	}
	return nil
}

// signer returns who signed u as a change of v with these attributes.
func (u *Update) signer(v Variable, attributes uint32) (*x509.Certificate, error) {
	s, err := pkcs7.Parse(u.Signature)
	if err != nil {
		return nil, fmt.Errorf("cannot verify update of %s: %w", v.Name, err)
	}
	if s.Content != nil || !s.ContentType.Equal(pkcs7.OIDData) {
		return nil, fmt.Errorf("cannot verify update of %s: the signature is not detached", v.Name)
	}
	by, err := s.Verify(u.message(v, attributes))
	if err != nil {
		return nil, fmt.Errorf("cannot verify update of %s: %w", v.Name, err)
	}
	return by, nil
}

// Marshal returns the bytes of an .auth file.
func (u *Update) Marshal() []byte {
	le := binary.LittleEndian
	b := appendTime(nil, u.Time)
	b = le.AppendUint32(b, uint32(authHeader-timeSize+len(u.Signature)))
	b = le.AppendUint16(b, authRevision)
	b = le.AppendUint16(b, authTypeEFIGUID)
	b = append(b, certTypePKCS7[:]...)
	return append(append(b, u.Signature...), u.Payload...)
}

// ParseUpdate reads an .auth file. It checks the form, not the signature.
func ParseUpdate(b []byte) (*Update, error) {
	le := binary.LittleEndian
	if len(b) < authHeader {
		return nil, fmt.Errorf("cannot parse variable update: %d bytes, its header has %d", len(b), authHeader)
	}
	at, err := parseTime(b)
	if err != nil {
		return nil, fmt.Errorf("cannot parse variable update: %w", err)
	}
	length := uint64(le.Uint32(b[16:]))
	if le.Uint16(b[20:]) != authRevision || le.Uint16(b[22:]) != authTypeEFIGUID || GUID(b[24:40]) != certTypePKCS7 {
		return nil, errors.New("cannot parse variable update: not signed with PKCS#7")
	}
	if length < authHeader-timeSize || length > maxSignatureSize || timeSize+length > uint64(len(b)) {
		return nil, fmt.Errorf("cannot parse variable update: a signature of %d bytes does not fit in %d", length, len(b))
	}
	u := &Update{Time: at, Signature: b[authHeader : timeSize+length], Payload: b[timeSize+length:]}
	var element asn1.RawValue
	if rest, err := asn1.Unmarshal(u.Signature, &element); err != nil || len(rest) != 0 {
		return nil, errors.New("cannot parse variable update: its signature is not one DER element")
	}
	if _, err := Parse(u.Payload); err != nil {
		return nil, fmt.Errorf("cannot parse variable update: %w", err)
	}
	return u, nil
}

// appendTime appends an EFI_TIME whose nanosecond, zone and daylight fields
// are zero, as section 8.2.2 wants them.
func appendTime(b []byte, t time.Time) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(t.Year()))
	b = append(b, byte(t.Month()), byte(t.Day()), byte(t.Hour()), byte(t.Minute()), byte(t.Second()))
	return append(b, make([]byte, 9)...)
}

func parseTime(b []byte) (time.Time, error) {
	year := int(binary.LittleEndian.Uint16(b))
	t := time.Date(year, time.Month(b[2]), int(b[3]), int(b[4]), int(b[5]), int(b[6]), 0, time.UTC)
	if year < 1900 || year > 9999 || string(appendTime(nil, t)) != string(b[:timeSize]) {
		return time.Time{}, fmt.Errorf("not a time in UTC: % x", b[:timeSize])
	}
	return t, nil
}
