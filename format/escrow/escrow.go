// Package escrow encrypts the recovery passphrase of a volume to the
// integrator's recovery key, and reads what was encrypted. It needs nothing
// but the standard library.
//
// A record is one PEM block and nothing else:
//
//	-----BEGIN CLOISON ESCROW-----
//	Key-Id: SHA-256 of the recovery key's public part, lower-case hex
//	Product: gateway
//	Release: 0.1.0
//	Version: 1
//	Volume: UUID of the volume
//
//	base64 of the HPKE ciphertext
//	-----END CLOISON ESCROW-----
//
// HPKE (RFC 9180) in base mode with the KEM MLKEM768-X25519 (X-Wing,
// draft-connolly-cfrg-xwing-kem), HKDF-SHA-256 and AES-256-GCM. The KEM is a
// hybrid because a record may be copied today and attacked in twenty years.
// The headers are the info of HPKE: none of them can be another.
package escrow

import (
	"bytes"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
)

const (
	version     = "1"
	recordType  = "CLOISON ESCROW"
	publicType  = "CLOISON RECOVERY PUBLIC KEY"
	privateType = "CLOISON RECOVERY PRIVATE KEY"

	maxSealed = 4096 // bytes
)

// About says whose passphrase it is.
type About struct {
	Product string
	Release string // that provisioned the volume
	Volume  string // UUID
}

// Record is an encrypted passphrase.
type Record struct {
	About
	KeyID  string // of the recovery key
	Sealed []byte
}

var (
	kem  = hpke.MLKEM768X25519
	kdf  = hpke.HKDFSHA256
	aead = hpke.AES256GCM

	forms = map[string]*regexp.Regexp{
		"Key-Id":  regexp.MustCompile(`^[0-9a-f]{64}$`),
		"Product": regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`),
		"Release": regexp.MustCompile(`^[0-9]{1,5}\.[0-9]{1,5}\.[0-9]{1,5}$`),
		"Version": regexp.MustCompile(`^` + version + `$`),
		"Volume":  regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`),
	}
)

// NewKey makes a recovery key and returns its two parts in PEM.
func NewKey() (private, public []byte, err error) {
	k, err := kem().GenerateKey()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot make a recovery key: %w", err)
	}
	b, err := k.Bytes()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot make a recovery key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: privateType, Bytes: b}),
		pem.EncodeToMemory(&pem.Block{Type: publicType, Bytes: k.PublicKey().Bytes()}), nil
}

// one returns the one PEM block that text is, without headers.
func one(text []byte, kind string) ([]byte, error) {
	b, _ := pem.Decode(text)
	if b == nil || b.Type != kind {
		return nil, fmt.Errorf("it is not a PEM block %s", kind)
	}
	if !bytes.Equal(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b.Bytes}), text) {
		return nil, fmt.Errorf("it is more than a PEM block %s, or not in its usual form", kind)
	}
	return b.Bytes, nil
}

// ParsePublic reads a public part.
func ParsePublic(text []byte) (hpke.PublicKey, error) {
	b, err := one(text, publicType)
	if err != nil {
		return nil, fmt.Errorf("cannot read the recovery public key: %w", err)
	}
	k, err := kem().NewPublicKey(b)
	if err != nil {
		return nil, fmt.Errorf("cannot read the recovery public key: %w", err)
	}
	return k, nil
}

// ParsePrivate reads a private part.
func ParsePrivate(text []byte) (hpke.PrivateKey, error) {
	b, err := one(text, privateType)
	if err != nil {
		return nil, fmt.Errorf("cannot read the recovery key: %w", err)
	}
	k, err := kem().NewPrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("cannot read the recovery key: %w", err)
	}
	return k, nil
}

// KeyID is the SHA-256 of the public part, in lower-case hex.
func KeyID(k hpke.PublicKey) string {
	sum := sha256.Sum256(k.Bytes())
	return hex.EncodeToString(sum[:])
}

// Encrypt encrypts a passphrase to a recovery key.
func Encrypt(k hpke.PublicKey, about About, passphrase string) (Record, error) {
	r := Record{About: about, KeyID: KeyID(k)}
	if err := r.checkHeaders(); err != nil {
		return Record{}, fmt.Errorf("cannot encrypt the recovery passphrase: %w", err)
	}
	var err error
	if r.Sealed, err = hpke.Seal(k, kdf(), aead(), r.info(), []byte(passphrase)); err != nil {
		return Record{}, fmt.Errorf("cannot encrypt the recovery passphrase: %w", err)
	}
	return r, nil
}

// Decrypt returns the passphrase.
func (r Record) Decrypt(k hpke.PrivateKey) (string, error) {
	if id := KeyID(k.PublicKey()); id != r.KeyID {
		return "", fmt.Errorf("cannot decrypt the escrow record: it is for recovery key %s, not for %s", r.KeyID, id)
	}
	b, err := hpke.Open(k, kdf(), aead(), r.info(), r.Sealed)
	if err != nil {
		return "", errors.New("cannot decrypt the escrow record: it was changed")
	}
	return string(b), nil
}

func (r Record) headers() map[string]string {
	return map[string]string{"Version": version, "Key-Id": r.KeyID, "Product": r.Product, "Release": r.Release, "Volume": r.Volume}
}

func (r Record) checkHeaders() error {
	for name, value := range r.headers() {
		if !forms[name].MatchString(value) {
			return fmt.Errorf("%s is %q", name, value)
		}
	}
	return nil
}

// info is the record without its content: PEM with sorted headers.
func (r Record) info() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: recordType, Headers: r.headers()})
}

// Print returns the record's text.
func (r Record) Print() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: recordType, Headers: r.headers(), Bytes: r.Sealed})
}

// Parse reads the text that Print writes, and no other.
func Parse(text []byte) (Record, error) {
	if len(text) > 3*maxSealed {
		return Record{}, fmt.Errorf("cannot read the escrow record: it has %d bytes", len(text))
	}
	b, _ := pem.Decode(text)
	if b == nil || b.Type != recordType {
		return Record{}, errors.New("cannot read the escrow record: it is not a PEM block " + recordType)
	}
	if v := b.Headers["Version"]; v != version {
		return Record{}, fmt.Errorf("cannot read the escrow record: its version is %q, want %q", v, version)
	}
	r := Record{About{b.Headers["Product"], b.Headers["Release"], b.Headers["Volume"]}, b.Headers["Key-Id"], b.Bytes}
	if err := r.checkHeaders(); err != nil {
		return Record{}, fmt.Errorf("cannot read the escrow record: %w", err)
	}
	if len(r.Sealed) == 0 || len(r.Sealed) > maxSealed {
		return Record{}, fmt.Errorf("cannot read the escrow record: %d bytes are encrypted", len(r.Sealed))
	}
	if !bytes.Equal(r.Print(), text) {
		return Record{}, errors.New("cannot read the escrow record: it is not in the form that it is written in")
	}
	return r, nil
}
