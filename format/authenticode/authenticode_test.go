package authenticode_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"cloison/format/authenticode"
	"cloison/format/pecoff"
	"cloison/format/pecoff/pecofftest"
	"cloison/format/pkcs7"
	"cloison/format/pkcs7/pkcs7test"
)

const (
	checkSum = 0x58 + 64
	entry    = 0x58 + 144
)

func image() []byte {
	return pecofftest.Image(0x400, pecofftest.Section{Name: ".text", Data: []byte("code")}, pecofftest.Section{Name: ".data", Data: []byte("data")})
}

func TestDigest(t *testing.T) {
	b := image()
	want := sha256.Sum256(slices.Concat(b[:checkSum], b[checkSum+4:entry], b[entry+8:]))
	if got, err := authenticode.Digest(b); err != nil || got != want {
		t.Errorf("Digest() = %x, %v, want %x", got, err, want)
	}
	binary.LittleEndian.PutUint32(b[checkSum:], 0x1234)
	if got, err := authenticode.Digest(b); err != nil || got != want {
		t.Errorf("Digest(other checksum) = %x, %v, want %x", got, err, want)
	}
	if _, err := authenticode.Digest([]byte("text")); err == nil {
		t.Error("Digest(text) = nil, want an error")
	}
}

func TestSign(t *testing.T) {
	id := pkcs7test.New(t, "signer", nil)
	trusted := []*x509.Certificate{id.Cert}
	for _, b := range [][]byte{image(), append(image(), "tail"...)} {
		before := bytes.Clone(b)
		signed, err := authenticode.Sign(id.Key, id.Cert, b)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b, before) {
			t.Error("Sign() changed its input")
		}
		if again, err := authenticode.Sign(id.Key, id.Cert, b); err != nil || !bytes.Equal(signed, again) {
			t.Errorf("Sign() differs from one call to the next: %v", err)
		}
		if err := authenticode.Verify(signed, trusted); err != nil {
			t.Error(err)
		}
		if len(signed)%8 != 0 {
			t.Errorf("length %d is no multiple of 8", len(signed))
		}
		if got, want := binary.LittleEndian.Uint32(signed[checkSum:]), pecoff.CheckSum(signed, checkSum); got != want {
			t.Errorf("CheckSum = %#x, want %#x", got, want)
		}
		if _, err := authenticode.Sign(id.Key, id.Cert, signed); err == nil || !strings.Contains(err.Error(), "signed already") {
			t.Errorf("Sign(signed) = %v, want a refusal", err)
		}
		for i := range b {
			if i >= checkSum && i < checkSum+4 {
				continue // not signed, by the format's definition
			}
			changed := bytes.Clone(signed)
			changed[i] ^= 0x20
			if authenticode.Verify(changed, trusted) == nil {
				t.Fatalf("Verify() of an image changed at %#x = nil, want a refusal", i)
			}
		}
	}
}

func TestVerify(t *testing.T) {
	id, other := pkcs7test.New(t, "signer", nil), pkcs7test.New(t, "other", nil)
	leaf := pkcs7test.New(t, "leaf", id)
	// The same names as the true one, another key.
	impostor := pkcs7test.New(t, "signer", nil)
	sign := func(id *pkcs7test.Identity) []byte {
		b, err := authenticode.Sign(id.Key, id.Cert, image())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	signed := sign(id)
	table := int(binary.LittleEndian.Uint32(signed[entry:]))
	spoil := func(f func(b []byte) []byte) []byte {
		b := f(bytes.Clone(signed))
		binary.LittleEndian.PutUint32(b[entry+4:], uint32(len(b)-table))
		return b
	}
	// A right signature, but over something that is not an image.
	foreign, err := pkcs7.Sign(id.Key, id.Cert, pkcs7.OIDData, []byte{0x30, 0})
	if err != nil {
		t.Fatal(err)
	}
	// The signature of one image on another.
	moved := image()
	moved[0x400] ^= 1
	moved = append(moved, signed[table:]...)
	copy(moved[entry:entry+8], signed[entry:])

	tests := []struct {
		name  string
		pe    []byte
		certs []*x509.Certificate
		want  string // "": accepted
	}{
		{"right", signed, []*x509.Certificate{id.Cert}, ""},
		{"second of two", signed, []*x509.Certificate{other.Cert, id.Cert}, ""},
		{"issuer", sign(leaf), []*x509.Certificate{id.Cert}, ""},
		{"leaf itself", sign(leaf), []*x509.Certificate{leaf.Cert}, ""},
		{"two signatures", spoil(func(b []byte) []byte { return append(b, sign(other)[table:]...) }), []*x509.Certificate{other.Cert}, ""},
		{"stranger", sign(other), []*x509.Certificate{id.Cert}, "not one of the 1 trusted"},
		{"impostor", sign(impostor), []*x509.Certificate{id.Cert}, "not one of the 1 trusted"},
		{"leaf does not issue", signed, []*x509.Certificate{leaf.Cert}, "not one of the 1 trusted"},
		{"nobody trusted", signed, nil, "not one of the 0 trusted"},
		{"unsigned", image(), []*x509.Certificate{id.Cert}, "not signed"},
		{"moved signature", moved, []*x509.Certificate{id.Cert}, "changed after signing"},
		{"not an image", []byte("text"), nil, "not a PE image"},
		{"table cut", spoil(func(b []byte) []byte { return b[:len(b)-8] }), nil, "does not fit"},
		{"table header cut", spoil(func(b []byte) []byte { return append(b, 0, 0, 0, 0) }), nil, "cut short"},
		{"other revision", spoil(func(b []byte) []byte { b[table+4] = 1; return b }), nil, "revision"},
		{"other type", spoil(func(b []byte) []byte { b[table+6] = 1; return b }), nil, "type"},
		{"garbage", spoil(func(b []byte) []byte { clear(b[table+8:]); return b }), nil, "follow the signature"},
		{"no DER", spoil(func(b []byte) []byte { b[table+9] = 0xff; return b }), nil, "malformed signature"},
		{"foreign content", spoil(func(b []byte) []byte {
			b = binary.LittleEndian.AppendUint32(b[:table], uint32(8+len(foreign)))
			b = append(append(b, 0, 2, 2, 0), foreign...)
			return append(b, make([]byte, -len(b)&7)...)
		}), nil, "not for an image"},
	}
	for _, test := range tests {
		err := authenticode.Verify(test.pe, test.certs)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Verify() = %v, want %q", test.name, err, test.want)
		}
	}
	if err := authenticode.Verify(image(), nil); !errors.Is(err, authenticode.ErrUnsigned) {
		t.Errorf("Verify(unsigned) = %v, want %v", err, authenticode.ErrUnsigned)
	}
}

// FuzzVerify: no input makes Verify panic, and none with another digest than
// the signed image's is accepted.
func FuzzVerify(f *testing.F) {
	id := pkcs7test.Fixed(f)
	signed, err := authenticode.Sign(id.Key, id.Cert, image())
	if err != nil {
		f.Fatal(err)
	}
	want, err := authenticode.Digest(signed)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Add(image())
	f.Fuzz(func(t *testing.T, pe []byte) {
		if authenticode.Verify(pe, []*x509.Certificate{id.Cert}) != nil {
			return
		}
		if got, err := authenticode.Digest(pe); err != nil || got != want {
			t.Errorf("an image with digest %x, %v is accepted", got, err)
		}
	})
}
