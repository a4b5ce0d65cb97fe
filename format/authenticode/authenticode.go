// Package authenticode signs PE images for UEFI Secure Boot and checks such
// signatures: SHA-256 over the image, in a PKCS#7 SignedData, in the image's
// certificate table. Signing is deterministic: no time, no random number. It
// needs the whole image in memory, a crypto.Signer and its certificate.
//
// Source: Microsoft, "Windows Authenticode Portable Executable Signature
// Format", version 1.0; UEFI 2.10, section 32.2.4.
package authenticode

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"cloison/format/pecoff"
	"cloison/format/pkcs7"
)

// WIN_CERTIFICATE, "PE Format", "The Attribute Certificate Table".
const (
	certificateHeader   = 8
	certificateRevision = 0x0200
	certificatePKCS7    = 0x0002
)

var (
	oidIndirectData = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 4}
	oidPEImageData  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 15}
	oidSHA256       = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
)

// indirectData is SpcIndirectDataContent, "Authenticode", page 9.
type indirectData struct {
	Data   typeAndValue
	Digest digestInfo
}

type typeAndValue struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue `asn1:"optional"`
}

type digestInfo struct {
	Algorithm struct {
		Algorithm  asn1.ObjectIdentifier
		Parameters asn1.RawValue `asn1:"optional"`
	}
	Digest []byte
}

// imageData is SpcPeImageData with empty flags and, as every signer does,
// the file link "<<<Obsolete>>>" (in UTF-16, big endian).
var imageData = append([]byte{
	0x30, 0x25, // SEQUENCE
	0x03, 0x01, 0x00, // flags: empty BIT STRING
	0xa0, 0x20, 0xa2, 0x1e, 0x80, 0x1c, // [0] { [2] { [0] unicode
}, "\x00<\x00<\x00<\x00O\x00b\x00s\x00o\x00l\x00e\x00t\x00e\x00>\x00>\x00>"...)

// Digest returns the Authenticode SHA-256 digest of a PE image, signed or
// not: everything but the checksum, the certificate table and its directory
// entry. This is what firmware compares with db and dbx.
func Digest(pe []byte) ([32]byte, error) {
	m, err := pecoff.Parse(pe)
	if err != nil {
		return [32]byte{}, fmt.Errorf("cannot compute the image digest: %w", err)
	}
	return digest(pe, m), nil
}

func digest(pe []byte, m *pecoff.Image) [32]byte {
	end := len(pe)
	if m.CertificateSize != 0 {
		end = int(m.CertificateOffset)
	}
	h := sha256.New()
	h.Write(pe[:m.CheckSumOffset()])
	h.Write(pe[m.CheckSumOffset()+4 : m.CertificateEntry()])
	// The sections follow the headers without gap and in order: package
	// pecoff refuses anything else, so the rest is one run of bytes.
	h.Write(pe[m.CertificateEntry()+8 : end])
	return [32]byte(h.Sum(nil))
}

// Sign returns a copy of the unsigned image pe with a signature at its end
// and a right checksum.
func Sign(signer crypto.Signer, cert *x509.Certificate, pe []byte) ([]byte, error) {
	m, err := pecoff.Parse(pe)
	if err != nil {
		return nil, fmt.Errorf("cannot sign the image: %w", err)
	}
	if m.CertificateSize != 0 {
		return nil, errors.New("cannot sign the image: it is signed already")
	}
	out := pad(bytes.Clone(pe))
	offset := len(out)
	sum := digest(out, m)

	content := indirectData{Data: typeAndValue{oidPEImageData, asn1.RawValue{FullBytes: imageData}}}
	content.Digest.Algorithm.Algorithm = oidSHA256
	content.Digest.Algorithm.Parameters = asn1.NullRawValue
	content.Digest.Digest = sum[:]
	der, err := asn1.Marshal(content)
	if err != nil {
		return nil, fmt.Errorf("internal error: %w", err)
	}
	signature, err := pkcs7.Sign(signer, cert, oidIndirectData, der)
	if err != nil {
		return nil, fmt.Errorf("cannot sign the image: %w", err)
	}

	le := binary.LittleEndian
	out = le.AppendUint32(out, uint32(certificateHeader+len(signature)))
	out = le.AppendUint16(out, certificateRevision)
	out = le.AppendUint16(out, certificatePKCS7)
	out = pad(append(out, signature...))
	le.PutUint32(out[m.CertificateEntry():], uint32(offset))
	le.PutUint32(out[m.CertificateEntry()+4:], uint32(len(out)-offset))
	le.PutUint32(out[m.CheckSumOffset():], pecoff.CheckSum(out, m.CheckSumOffset()))
	return out, nil
}

// pad fills b with zeroes up to a multiple of 8 bytes.
func pad(b []byte) []byte { return append(b, make([]byte, -len(b)&7)...) }

// ErrUnsigned says that an image carries no signature at all.
var ErrUnsigned = errors.New("the image is not signed")

// Verify checks that pe is signed by one of certs, or by a certificate that
// one of certs issued. Times are not looked at, as firmware has no clock to
// trust. Every signature of the image must be well formed; one must be right.
func Verify(pe []byte, certs []*x509.Certificate) error {
	m, err := pecoff.Parse(pe)
	if err != nil {
		return fmt.Errorf("cannot verify the image: %w", err)
	}
	signatures, err := parseTable(pe, m)
	if err != nil {
		return fmt.Errorf("cannot verify the image: %w", err)
	}
	sum := digest(pe, m)
	var failures []error
	for _, s := range signatures {
		if err := s.verify(sum, certs); err != nil {
			failures = append(failures, err)
			continue
		}
		return nil
	}
	return fmt.Errorf("cannot verify the image: %w", errors.Join(failures...))
}

type signature struct {
	pkcs7  *pkcs7.Signature
	digest [32]byte
}

func parseTable(pe []byte, m *pecoff.Image) ([]signature, error) {
	if m.CertificateSize == 0 {
		return nil, ErrUnsigned
	}
	le := binary.LittleEndian
	var out []signature
	for table := pe[m.CertificateOffset:]; len(table) > 0; {
		if len(table) < certificateHeader {
			return nil, errors.New("the certificate table is cut short")
		}
		length := int(le.Uint32(table))
		if length < certificateHeader || length > len(table) {
			return nil, fmt.Errorf("a certificate of %d bytes does not fit into the table", length)
		}
		if r, t := le.Uint16(table[4:]), le.Uint16(table[6:]); r != certificateRevision || t != certificatePKCS7 {
			return nil, fmt.Errorf("a certificate has revision %#04x and type %#04x, want 0x0200 and 0x0002", r, t)
		}
		padded := length + -length&7
		if padded > len(table) {
			return nil, errors.New("the certificate table is not padded to 8 bytes")
		}
		s, err := parseSignature(table[certificateHeader:length])
		if err != nil {
			return nil, err
		}
		out = append(out, s)
		table = table[padded:]
	}
	return out, nil
}

func parseSignature(der []byte) (signature, error) {
	// Some signers count the padding into the length: take one element.
	var element asn1.RawValue
	rest, err := asn1.Unmarshal(der, &element)
	if err != nil {
		return signature{}, fmt.Errorf("malformed signature: %w", err)
	}
	if len(rest) > 7 || len(bytes.Trim(rest, "\x00")) != 0 {
		return signature{}, fmt.Errorf("%d bytes follow the signature", len(rest))
	}
	p, err := pkcs7.Parse(element.FullBytes)
	if err != nil {
		return signature{}, err
	}
	if !p.ContentType.Equal(oidIndirectData) {
		return signature{}, fmt.Errorf("the signature is for content of type %v, not for an image", p.ContentType)
	}
	var content indirectData
	if rest, err := asn1.Unmarshal(p.Content, &content); err != nil || len(rest) != 0 {
		return signature{}, errors.New("the signed content is malformed")
	}
	if !content.Data.Type.Equal(oidPEImageData) || !content.Digest.Algorithm.Algorithm.Equal(oidSHA256) || len(content.Digest.Digest) != sha256.Size {
		return signature{}, errors.New("the signature is not for the SHA-256 digest of an image")
	}
	return signature{p, [32]byte(content.Digest.Digest)}, nil
}

func (s signature) verify(sum [32]byte, certs []*x509.Certificate) error {
	if s.digest != sum {
		return fmt.Errorf("the image was changed after signing: its digest is %x, the signature is for %x", sum, s.digest)
	}
	by, err := s.pkcs7.Verify(s.pkcs7.Content)
	if err != nil {
		return err
	}
	trusted := slices.ContainsFunc(certs, func(c *x509.Certificate) bool {
		return by.Equal(c) || by.CheckSignatureFrom(c) == nil
	})
	if !trusted {
		return fmt.Errorf("signed by %q, which is not one of the %d trusted certificates", by.Subject.CommonName, len(certs))
	}
	return nil
}
