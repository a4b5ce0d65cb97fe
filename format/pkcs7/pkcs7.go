// Package pkcs7 writes and checks the one form of PKCS#7 signature that UEFI
// firmware takes: SignedData, one signer, SHA-256, RSA PKCS#1 v1.5, the
// signer's certificate inside. It needs a crypto.Signer and its certificate.
// A signature carries no signing time, so that the same key over the same
// content always gives the same bytes.
//
// Source: RFC 2315, sections 7 and 9; UEFI 2.10, sections 8.2.2 and 32.2.4.
package pkcs7

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
)

// Object identifiers of RFC 2315, RFC 3279 and PKCS#9.
var (
	OIDData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidSHA256        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidRSA           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidSHA256WithRSA = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
)

type algorithm struct {
	Algorithm  asn1.ObjectIdentifier
	Parameters asn1.RawValue `asn1:"optional"`
}

type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"explicit,optional,tag:0"`
}

type rawField struct{ Raw asn1.RawContent }

type signedData struct {
	Version      int
	Digests      []algorithm `asn1:"set"`
	ContentInfo  contentInfo
	Certificates rawField     `asn1:"optional,tag:0"`
	CRLs         rawField     `asn1:"optional,tag:1"`
	Signers      []signerInfo `asn1:"set"`
}

type signerInfo struct {
	Version    int
	Issuer     issuerAndSerial
	Digest     algorithm
	Attributes rawField `asn1:"optional,tag:0"`
	Encryption algorithm
	Signature  []byte
	Unsigned   rawField `asn1:"optional,tag:1"`
}

type issuerAndSerial struct {
	Issuer asn1.RawValue
	Serial *big.Int
}

type attribute struct {
	Type   asn1.ObjectIdentifier
	Values []asn1.RawValue `asn1:"set"`
}

var null = asn1.RawValue{Tag: asn1.TagNull, FullBytes: []byte{asn1.TagNull, 0}}

// Sign returns a ContentInfo with a SignedData over content, one DER element
// of the given type, which goes inside. Two attributes are signed, the
// content type and the message digest (RFC 2315, section 9.2); the digest
// is over the element without its tag and length (section 9.3).
func Sign(signer crypto.Signer, cert *x509.Certificate, contentType asn1.ObjectIdentifier, content []byte) ([]byte, error) {
	var element asn1.RawValue
	if rest, err := asn1.Unmarshal(content, &element); err != nil || len(rest) != 0 {
		return nil, errors.New("cannot sign: content is not one DER element")
	}
	oid, err := asn1.Marshal(contentType)
	if err != nil {
		return nil, fmt.Errorf("cannot sign: content type: %w", err)
	}
	digest := sha256.Sum256(element.Bytes)
	octets, err := asn1.Marshal(digest[:])
	if err != nil {
		return nil, fmt.Errorf("internal error: %w", err)
	}
	attributes, err := asn1.MarshalWithParams([]attribute{
		{oidContentType, []asn1.RawValue{{FullBytes: oid}}},
		{oidMessageDigest, []asn1.RawValue{{FullBytes: octets}}},
	}, "set")
	if err != nil {
		return nil, fmt.Errorf("internal error: %w", err)
	}
	inner := contentInfo{contentType, asn1.RawValue{FullBytes: explicit(content)}}
	signed, err := sign(signer, cert, inner, attributes, attributes)
	if err != nil {
		return nil, err
	}
	outer, err := asn1.Marshal(contentInfo{oidSignedData, asn1.RawValue{FullBytes: explicit(signed)}})
	if err != nil {
		return nil, fmt.Errorf("internal error: %w", err)
	}
	return outer, nil
}

// SignDetached returns a bare SignedData, without the ContentInfo around it
// and without attributes, over content that stays outside: the form that
// UEFI 2.10, section 8.2.2, asks of authenticated variables.
func SignDetached(signer crypto.Signer, cert *x509.Certificate, content []byte) ([]byte, error) {
	return sign(signer, cert, contentInfo{Type: OIDData}, nil, content)
}

// sign makes the SignedData. attributes is their DER as a SET, or nil;
// message is what the key signs.
func sign(signer crypto.Signer, cert *x509.Certificate, inner contentInfo, attributes, message []byte) ([]byte, error) {
	public, ok := signer.Public().(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("cannot sign: firmware takes RSA keys, not %T", signer.Public())
	}
	if !public.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("cannot sign: the key is not that of the certificate %q", cert.Subject.CommonName)
	}
	digest := sha256.Sum256(message)
	signature, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("cannot sign: %w", err)
	}
	info := signerInfo{
		Version:    1,
		Issuer:     issuerAndSerial{asn1.RawValue{FullBytes: cert.RawIssuer}, cert.SerialNumber},
		Digest:     algorithm{oidSHA256, null},
		Encryption: algorithm{oidRSA, null},
		Signature:  signature,
	}
	if attributes != nil {
		info.Attributes.Raw = append([]byte{contextTag}, attributes[1:]...)
	}
	certificates, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: cert.Raw})
	if err != nil {
		return nil, fmt.Errorf("internal error: %w", err)
	}
	der, err := asn1.Marshal(signedData{
		Version:      1,
		Digests:      []algorithm{{oidSHA256, null}},
		ContentInfo:  inner,
		Certificates: rawField{certificates},
		Signers:      []signerInfo{info},
	})
	if err != nil {
		return nil, fmt.Errorf("internal error: %w", err)
	}
	return der, nil
}

// contextTag is the identifier octet of [0], constructed.
const contextTag = 0xa0

func explicit(element []byte) []byte {
	der, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: element})
	if err != nil {
		panic("internal error: " + err.Error()) // a RawValue of bytes always marshals
	}
	return der
}

// Signature is a parsed SignedData. It is not yet verified.
type Signature struct {
	ContentType asn1.ObjectIdentifier
	// Content is the element that was signed, nil where it is detached.
	Content      []byte
	Certificates []*x509.Certificate

	data       signedData
	wrapped    bool // in a ContentInfo
	info       signerInfo
	attributes []attribute
}

// Marshal returns the bytes that s was parsed from.
func (s *Signature) Marshal() []byte {
	der, err := asn1.Marshal(s.data)
	if err == nil && s.wrapped {
		der, err = asn1.Marshal(contentInfo{oidSignedData, asn1.RawValue{FullBytes: explicit(der)}})
	}
	if err != nil {
		return nil // equal to no input: Parse refuses it
	}
	return der
}

// Parse reads a SignedData, bare or in a ContentInfo. It refuses what is not
// DER, more or fewer than one signer, and algorithms other than SHA-256 with
// RSA.
func Parse(der []byte) (*Signature, error) {
	if len(der) == 0 {
		return nil, errors.New("cannot parse signature: it is empty")
	}
	var outer contentInfo
	signed, wrapped := der, false
	if _, err := asn1.Unmarshal(der, &outer); err == nil && outer.Type.Equal(oidSignedData) {
		signed, wrapped = outer.Content.Bytes, true
	}
	var sd signedData
	if _, err := asn1.Unmarshal(signed, &sd); err != nil {
		return nil, fmt.Errorf("cannot parse signature: %w", err)
	}
	if sd.Version != 1 || len(sd.Signers) != 1 || len(sd.Digests) != 1 || !isAlgorithm(sd.Digests[0], oidSHA256) {
		return nil, errors.New("cannot parse signature: want version 1, one signer, SHA-256")
	}
	s := &Signature{ContentType: sd.ContentInfo.Type, Content: sd.ContentInfo.Content.Bytes, data: sd, wrapped: wrapped, info: sd.Signers[0]}
	// What is lax or follows is lost in writing again, and so is noticed.
	if !bytes.Equal(s.Marshal(), der) {
		return nil, errors.New("cannot parse signature: not canonical DER, or bytes follow it")
	}
	if s.info.Version != 1 || !isAlgorithm(s.info.Digest, oidSHA256) ||
		!isAlgorithm(s.info.Encryption, oidRSA) && !isAlgorithm(s.info.Encryption, oidSHA256WithRSA) {
		return nil, errors.New("cannot parse signature: the signer does not use SHA-256 with RSA")
	}
	var err error
	if s.Certificates, err = parseCertificates(sd.Certificates.Raw); err != nil {
		return nil, err
	}
	if raw := s.info.Attributes.Raw; len(raw) != 0 {
		if rest, err := asn1.UnmarshalWithParams(asSet(raw), &s.attributes, "set"); err != nil || len(rest) != 0 {
			return nil, errors.New("cannot parse signature: its attributes are malformed")
		}
	}
	return s, nil
}

func isAlgorithm(a algorithm, want asn1.ObjectIdentifier) bool {
	p := a.Parameters.FullBytes
	return a.Algorithm.Equal(want) && (len(p) == 0 || bytes.Equal(p, null.FullBytes))
}

func parseCertificates(raw []byte) ([]*x509.Certificate, error) {
	if len(raw) == 0 {
		return nil, errors.New("cannot parse signature: no certificate in it")
	}
	var field asn1.RawValue
	if _, err := asn1.Unmarshal(raw, &field); err != nil {
		return nil, fmt.Errorf("cannot parse signature: certificates: %w", err)
	}
	certs, err := x509.ParseCertificates(field.Bytes)
	if err != nil {
		return nil, fmt.Errorf("cannot parse signature: certificates: %w", err)
	}
	return certs, nil
}

// asSet turns the [0] IMPLICIT of authenticated attributes into the SET OF
// that is signed (RFC 2315, section 9.3).
func asSet(raw []byte) []byte {
	return append([]byte{asn1.TagSet | 0x20}, raw[1:]...)
}

// Verify checks the signature over content, which is the detached content
// or s.Content itself, and returns the signer's certificate. Whether that
// certificate is trusted is the caller's question.
func (s *Signature) Verify(content []byte) (*x509.Certificate, error) {
	cert, err := s.signer()
	if err != nil {
		return nil, err
	}
	message := content
	if s.attributes != nil {
		var element asn1.RawValue
		if rest, err := asn1.Unmarshal(content, &element); err != nil || len(rest) != 0 {
			return nil, errors.New("cannot verify signature: content is not one DER element")
		}
		digest := sha256.Sum256(element.Bytes)
		want, err := asn1.Marshal(digest[:])
		if err != nil {
			return nil, fmt.Errorf("internal error: %w", err)
		}
		oid, err := asn1.Marshal(s.ContentType)
		if err != nil {
			return nil, fmt.Errorf("internal error: %w", err)
		}
		if !s.hasAttribute(oidMessageDigest, want) || !s.hasAttribute(oidContentType, oid) {
			return nil, errors.New("cannot verify signature: it is for other content")
		}
		message = asSet(s.info.Attributes.Raw)
	}
	if err := cert.CheckSignature(x509.SHA256WithRSA, message, s.info.Signature); err != nil {
		return nil, fmt.Errorf("cannot verify signature of %q: %w", cert.Subject.CommonName, err)
	}
	return cert, nil
}

func (s *Signature) signer() (*x509.Certificate, error) {
	for _, c := range s.Certificates {
		if bytes.Equal(c.RawIssuer, s.info.Issuer.Issuer.FullBytes) && c.SerialNumber.Cmp(s.info.Issuer.Serial) == 0 {
			return c, nil
		}
	}
	return nil, errors.New("cannot verify signature: the signer's certificate is not in it")
}

// hasAttribute says whether the attribute is there exactly once with exactly
// one value, and that one equal to value.
func (s *Signature) hasAttribute(oid asn1.ObjectIdentifier, value []byte) bool {
	count, equal := 0, false
	for _, a := range s.attributes {
		if a.Type.Equal(oid) {
			count++
			equal = len(a.Values) == 1 && bytes.Equal(a.Values[0].FullBytes, value)
		}
	}
	return count == 1 && equal
}
