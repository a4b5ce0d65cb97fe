// Package pcrsig reads, prints, makes and checks what the integrator signs for
// the TPM of every machine that starts a release: the content of the UKI's
// .pcrsig section. It needs nothing but the standard library.
//
// systemd-stub hands the section to the initramfs as
// /.extra/tpm2-pcr-signature.json and does not measure it, so that it can hold
// a signature over PCR 11 (systemd-stub(7)). systemd's own format of the file
// has no place for a policy of more than PCRs; this is our own
// (docs/decisions/0006-seal.md).
package pcrsig

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"cloison/format/tpmpolicy"
)

// Version of the format.
const Version = 1

// Signed is the content of the section.
type Signed struct {
	SecurityVersion uint64           // of the release, from 1
	Floor           uint64           // to which a good boot raises the floor; 0: it stays
	PCR11           tpmpolicy.Digest // after enter-initrd
	Unseal          []byte           // RSASSA signatures of 256 bytes, over Policies.Unseal, …
	Init            []byte
	Raise           []byte // none if Floor is 0
}

const signatureSize = 256

// document is the JSON. Digests and signatures are lower-case hex.
type document struct {
	Version         int    `json:"version"`
	SecurityVersion uint64 `json:"security_version"`
	Floor           uint64 `json:"floor"`
	PCR11           string `json:"pcr11"`
	Unseal          string `json:"unseal"`
	Init            string `json:"init"`
	Raise           string `json:"raise"`
}

// Print returns the one text of s.
func (s Signed) Print() []byte {
	text, err := json.MarshalIndent(document{
		Version, s.SecurityVersion, s.Floor, hex.EncodeToString(s.PCR11[:]),
		hex.EncodeToString(s.Unseal), hex.EncodeToString(s.Init), hex.EncodeToString(s.Raise),
	}, "", "  ")
	if err != nil {
		panic(err) // numbers and strings of hex have a JSON form
	}
	return append(text, '\n')
}

// Parse reads the text that Print writes, and no other.
func Parse(text []byte) (Signed, error) {
	var d document
	if err := json.Unmarshal(text, &d); err != nil {
		return Signed{}, fmt.Errorf("cannot read the policy's signature: %w", err)
	}
	if d.Version != Version {
		return Signed{}, fmt.Errorf("cannot read the policy's signature: it is of version %d, want %d", d.Version, Version)
	}
	s := Signed{SecurityVersion: d.SecurityVersion, Floor: d.Floor}
	pcr11, err0 := hex.DecodeString(d.PCR11)
	var err1, err2, err3 error
	s.Unseal, err1 = hex.DecodeString(d.Unseal)
	s.Init, err2 = hex.DecodeString(d.Init)
	s.Raise, err3 = hex.DecodeString(d.Raise)
	if err := errors.Join(err0, err1, err2, err3); err != nil {
		return Signed{}, fmt.Errorf("cannot read the policy's signature: %w", err)
	}
	if len(pcr11) != len(s.PCR11) {
		return Signed{}, errors.New("cannot read the policy's signature: pcr11 is not 32 bytes")
	}
	copy(s.PCR11[:], pcr11)
	if err := s.check(); err != nil {
		return Signed{}, fmt.Errorf("cannot read the policy's signature: %w", err)
	}
	if !bytes.Equal(s.Print(), text) {
		return Signed{}, errors.New("cannot read the policy's signature: it is not in the form that it is written in")
	}
	return s, nil
}

func (s Signed) check() error {
	raise := signatureSize
	if s.Floor == 0 {
		raise = 0
	}
	switch {
	case s.SecurityVersion == 0:
		return errors.New("security_version is missing: it counts from 1")
	case s.Floor > s.SecurityVersion:
		return fmt.Errorf("floor is %d, above the release's own security version %d", s.Floor, s.SecurityVersion)
	case len(s.Unseal) != signatureSize, len(s.Init) != signatureSize, len(s.Raise) != raise:
		return fmt.Errorf("signatures have %d, %d and %d bytes, want %d, %d and %d", len(s.Unseal), len(s.Init), len(s.Raise), signatureSize, signatureSize, raise)
	}
	return nil
}

// Sign signs for a release: securityVersion and floor as in Signed, pcr11
// after enter-initrd.
func Sign(signer crypto.Signer, pcr11 tpmpolicy.Digest, securityVersion, floor uint64) (Signed, error) {
	public, ok := signer.Public().(*rsa.PublicKey)
	if !ok {
		return Signed{}, fmt.Errorf("cannot sign the policy: the policy key is a %T, want RSA-2048", signer.Public())
	}
	p, err := For(public)
	if err != nil {
		return Signed{}, fmt.Errorf("cannot sign the policy: %w", err)
	}
	s := Signed{SecurityVersion: securityVersion, Floor: floor, PCR11: pcr11}
	for _, part := range s.parts(p) {
		if *part.signature, err = signer.Sign(rand.Reader, tpmpolicy.SignedDigest(part.policy, part.ref), crypto.SHA256); err != nil {
			return Signed{}, fmt.Errorf("cannot sign the policy: %w", err)
		}
	}
	if err := s.check(); err != nil {
		return Signed{}, fmt.Errorf("cannot sign the policy: %w", err)
	}
	return s, nil
}

// Verify checks the signatures.
func (s Signed) Verify(key *rsa.PublicKey) error {
	p, err := For(key)
	if err != nil {
		return fmt.Errorf("cannot verify the policy: %w", err)
	}
	for _, part := range s.parts(p) {
		if rsa.VerifyPKCS1v15(key, crypto.SHA256, tpmpolicy.SignedDigest(part.policy, part.ref), *part.signature) != nil {
			return fmt.Errorf("cannot verify the policy: the signature %q is not of the policy key", part.name)
		}
	}
	return nil
}

type part struct {
	name      string
	policy    tpmpolicy.Digest
	ref       []byte
	signature *[]byte
}

// parts are what is signed.
func (s *Signed) parts(p Policies) []part {
	parts := []part{
		{"unseal", p.Unseal(s.PCR11, s.SecurityVersion), UnsealRef, &s.Unseal},
		{"init", p.Init(), FloorRef, &s.Init},
	}
	if s.Floor > 0 {
		parts = append(parts, part{"raise", p.Raise(s.Floor), FloorRef, &s.Raise})
	}
	return parts
}

// ParseKey reads a policy key in PEM: the content of .pcrpkey.
func ParseKey(text []byte) (*rsa.PublicKey, error) {
	b, rest := pem.Decode(text)
	if b == nil || b.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) != 0 {
		return nil, errors.New("cannot read the policy key: it is not one PEM block PUBLIC KEY")
	}
	parsed, err := x509.ParsePKIXPublicKey(b.Bytes)
	if err != nil {
		return nil, fmt.Errorf("cannot read the policy key: %w", err)
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("cannot read the policy key: it is a %T, want RSA-2048", parsed)
	}
	return key, nil
}
