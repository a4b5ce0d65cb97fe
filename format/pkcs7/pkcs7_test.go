package pkcs7_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/asn1"
	"strings"
	"testing"

	"cloison/format/pkcs7"
	"cloison/format/pkcs7/pkcs7test"
)

var oid = asn1.ObjectIdentifier{1, 2, 3, 4}

// element is a DER sequence, the content that tests sign.
var element = []byte{0x30, 0x03, 0x02, 0x01, 0x07}

func TestSign(t *testing.T) {
	id := pkcs7test.New(t, "signer", nil)
	der, err := pkcs7.Sign(id.Key, id.Cert, oid, element)
	if err != nil {
		t.Fatal(err)
	}
	again, err := pkcs7.Sign(id.Key, id.Cert, oid, element)
	if err != nil || !bytes.Equal(der, again) {
		t.Errorf("Sign() differs from one call to the next: %v", err)
	}
	s, err := pkcs7.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	if !s.ContentType.Equal(oid) || !bytes.Equal(s.Content, element) {
		t.Errorf("Parse(Sign()) = %v, %x, want %v, %x", s.ContentType, s.Content, oid, element)
	}
	if by, err := s.Verify(s.Content); err != nil || !by.Equal(id.Cert) {
		t.Errorf("Verify() = %v, %v, want the signer", by, err)
	}
	for _, other := range [][]byte{{0x30, 0x03, 0x02, 0x01, 0x08}, {}, element[:4], append(element[:5:5], 0)} {
		if _, err := s.Verify(other); err == nil {
			t.Errorf("Verify(%x) = nil, want a refusal", other)
		}
	}
}

func TestSignDetached(t *testing.T) {
	id := pkcs7test.New(t, "signer", nil)
	content := []byte("any bytes")
	der, err := pkcs7.SignDetached(id.Key, id.Cert, content)
	if err != nil {
		t.Fatal(err)
	}
	s, err := pkcs7.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	if !s.ContentType.Equal(pkcs7.OIDData) || s.Content != nil {
		t.Errorf("Parse(SignDetached()) = %v, %x, want no content", s.ContentType, s.Content)
	}
	if by, err := s.Verify(content); err != nil || !by.Equal(id.Cert) {
		t.Errorf("Verify() = %v, %v, want the signer", by, err)
	}
	if _, err := s.Verify([]byte("other bytes")); err == nil {
		t.Error("Verify(other) = nil, want a refusal")
	}
	// EDK2 finds the digest algorithm of a bare SignedData at this place.
	if sha256 := []byte{0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01}; der[1] != 0x82 || !bytes.Equal(der[13:22], sha256) {
		t.Errorf("SignDetached() starts with %x, want the SHA-256 OID at byte 13", der[:24])
	}
}

func TestSignRefuses(t *testing.T) {
	id, other := pkcs7test.New(t, "signer", nil), pkcs7test.New(t, "other", nil)
	_, ed, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pkcs7.SignDetached(ed, pkcs7test.Certify(t, "ed", ed, nil), nil); err == nil || !strings.Contains(err.Error(), "firmware takes RSA keys") {
		t.Errorf("SignDetached(Ed25519) = %v, want a refusal", err)
	}
	if _, err := pkcs7.SignDetached(id.Key, other.Cert, nil); err == nil || !strings.Contains(err.Error(), "not that of the certificate") {
		t.Errorf("SignDetached(wrong certificate) = %v, want a refusal", err)
	}
	if _, err := pkcs7.Sign(id.Key, id.Cert, oid, []byte("text")); err == nil {
		t.Error("Sign(no DER) = nil, want an error")
	}
}

// value is what a signature covers of an element: not its tag.
func value(t *testing.T, der []byte) []byte {
	t.Helper()
	var e asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &e); err != nil || len(rest) != 0 {
		t.Fatalf("%x is not one element: %v", der, err)
	}
	return e.Bytes
}

// TestEveryByte: whatever byte of a signature changes, what is left does not
// verify for another content or another signer.
func TestEveryByte(t *testing.T) {
	id := pkcs7test.New(t, "signer", nil)
	der, err := pkcs7.Sign(id.Key, id.Cert, oid, element)
	if err != nil {
		t.Fatal(err)
	}
	for i := range der {
		changed := bytes.Clone(der)
		changed[i] ^= 1
		s, err := pkcs7.Parse(changed)
		if err != nil {
			continue
		}
		by, err := s.Verify(s.Content)
		if err == nil && by.Equal(id.Cert) && (!bytes.Equal(value(t, s.Content), value(t, element)) || !s.ContentType.Equal(oid)) {
			t.Errorf("byte %d changed: %v, %x still verify", i, s.ContentType, s.Content)
		}
	}
	for i := range der {
		if _, err := pkcs7.Parse(der[:i]); err == nil {
			t.Errorf("Parse(first %d of %d bytes) = nil, want an error", i, len(der))
		}
	}
	if _, err := pkcs7.Parse(append(der[:len(der):len(der)], 0)); err == nil {
		t.Error("Parse(tail) = nil, want an error")
	}
}

func FuzzParse(f *testing.F) {
	id := pkcs7test.Fixed(f)
	for _, sign := range []func() ([]byte, error){
		func() ([]byte, error) { return pkcs7.Sign(id.Key, id.Cert, oid, element) },
		func() ([]byte, error) { return pkcs7.SignDetached(id.Key, id.Cert, element) },
	} {
		der, err := sign()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		s, err := pkcs7.Parse(der)
		if err != nil {
			return
		}
		if s.Content == nil {
			// The detached signature must not become one of attributes.
			if by, err := s.Verify([]byte("other")); err == nil && by.Equal(id.Cert) {
				t.Errorf("%x verifies for other content", der)
			}
		} else if by, err := s.Verify(s.Content); err == nil && by.Equal(id.Cert) && !bytes.Equal(value(t, s.Content), value(t, element)) {
			t.Errorf("%x verifies for other content", der)
		}
		// What was read, written again, is what was read.
		if again := s.Marshal(); !bytes.Equal(again, der) {
			t.Errorf("Marshal(Parse(%x)) = %x", der, again)
		}
	})
}
