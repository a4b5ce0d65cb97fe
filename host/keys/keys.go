// Package keys makes, checks and uses the keys of a Cloison installation:
// the Secure Boot keys PK, KEK and db, the key that signs releases, the one that
// signs TPM policies, and the one that recovery passphrases are encrypted to.
// It needs a folder of key files; a hardware
// token can take its place behind the interface Store.
//
// Source: UEFI 2.10, chapter 32 (Secure Boot); RFC 5208 (PKCS#8), RFC 5280
// (certificates), RFC 7468 (PEM).
package keys

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"time"

	"cloison/format/authenticode"
	"cloison/format/efisig"
)

// Role is what a key is for. No key has two roles.
type Role string

// The roles, in the order in which they are shown.
const (
	PK      Role = "PK"      // platform key: owns the machine's firmware, signs changes of PK and KEK
	KEK     Role = "KEK"     // key exchange key: signs changes of db and dbx
	DB      Role = "db"      // signs what the firmware starts: loader and UKI
	Release Role = "release" // signs the documents of a release
	Policy  Role = "policy"  // signs which PCR 11 values open the state volume
)

// Roles are all roles.
var Roles = []Role{PK, KEK, DB, Release, Policy}

// kinds says what each role's key is. RSA with 3072 bits is what firmware
// of every maker takes; TPMs are only sure to know RSA with 2048.
var kinds = map[Role]struct {
	bits    int // of the RSA modulus; 0: Ed25519
	purpose string
}{
	PK:      {3072, "Secure Boot platform key"},
	KEK:     {3072, "Secure Boot key exchange key"},
	DB:      {3072, "Secure Boot signing key"},
	Release: {0, "release signing key"},
	Policy:  {2048, "TPM policy signing key"},
}

// Store gives the keys of one installation. The private parts may be out of
// reach: a signer signs, and need not show what with.
type Store interface {
	// Signer returns the key of the role.
	Signer(Role) (crypto.Signer, error)
	// Certificate returns its certificate, with the same public key.
	Certificate(Role) (*x509.Certificate, error)
	// Recovery returns the public part of the recovery key, in PEM: what
	// machines encrypt their recovery passphrases to. Its private part is not
	// needed to build, and best kept elsewhere.
	Recovery() ([]byte, error)
	// Owner is the SignatureOwner of what this installation enrols.
	Owner() efisig.GUID
	// Development says that the keys are for development only: whatever they
	// sign must say so loudly.
	Development() bool
}

// pair returns signer and certificate of a role.
func pair(st Store, r Role) (crypto.Signer, *x509.Certificate, error) {
	signer, err := st.Signer(r)
	if err != nil {
		return nil, nil, err
	}
	cert, err := st.Certificate(r)
	if err != nil {
		return nil, nil, err
	}
	return signer, cert, nil
}

// SignPE signs a loader or UKI with the db key. The same image gives the
// same bytes.
func SignPE(st Store, pe []byte) ([]byte, error) {
	signer, cert, err := pair(st, DB)
	if err != nil {
		return nil, err
	}
	return authenticode.Sign(signer, cert, pe)
}

// VerifyPE checks that the db key signed the image.
func VerifyPE(st Store, pe []byte) error {
	cert, err := st.Certificate(DB)
	if err != nil {
		return err
	}
	return authenticode.Verify(pe, []*x509.Certificate{cert})
}

// Auth holds what systemd-boot enrols from ESP/loader/keys/NAME: signed
// updates in the form of .auth files.
type Auth struct {
	PK, KEK, DB []byte
}

// Files returns the three updates under the names that systemd-boot reads.
func (a Auth) Files() map[string][]byte {
	return map[string][]byte{"PK.auth": a.PK, "KEK.auth": a.KEK, "db.auth": a.DB}
}

// AuthFiles makes the updates that turn a machine in setup mode into one
// that starts only what the db key signed. The time becomes the variables'
// timestamp: a later change must carry a later one.
func AuthFiles(st Store, at time.Time) (Auth, error) {
	var a Auth
	for _, u := range []struct {
		variable     efisig.Variable
		content, key Role
		to           *[]byte
	}{
		{efisig.PK, PK, PK, &a.PK},
		{efisig.KEK, KEK, PK, &a.KEK},
		{efisig.DB, DB, KEK, &a.DB},
	} {
		cert, err := st.Certificate(u.content)
		if err != nil {
			return Auth{}, err
		}
		update, err := signUpdate(st, u.key, u.variable, efisig.Replace, at, efisig.Certificates(st.Owner(), cert))
		if err != nil {
			return Auth{}, err
		}
		*u.to = update
	}
	return a, nil
}

// Revocation is what must not start any more.
type Revocation struct {
	Images       [][]byte            // PE images: their digests are forbidden
	Certificates []*x509.Certificate // what they signed is forbidden
}

// Revoke makes an update of dbx, signed by the KEK. With attributes
// efisig.Append it adds to a machine's dbx at run time; with efisig.Replace
// it is the dbx.auth that systemd-boot enrols in setup mode. It refuses to
// revoke the installation's own db certificate: no machine would boot again.
func Revoke(st Store, r Revocation, attributes uint32, at time.Time) ([]byte, error) {
	db, err := st.Certificate(DB)
	if err != nil {
		return nil, err
	}
	var lists []efisig.List
	var digests [][32]byte
	for _, pe := range r.Images {
		d, err := authenticode.Digest(pe)
		if err != nil {
			return nil, err
		}
		digests = append(digests, d)
	}
	if len(digests) > 0 {
		lists = append(lists, efisig.Digests(st.Owner(), digests...))
	}
	for _, c := range r.Certificates {
		if c.Equal(db) {
			return nil, errRevokesItself
		}
		lists = append(lists, efisig.Certificates(st.Owner(), c)...)
	}
	if len(lists) == 0 {
		return nil, errNothingToRevoke
	}
	return signUpdate(st, KEK, efisig.DBX, attributes, at, lists)
}

// Allow makes an update of db, signed by the KEK: what these certificates signed
// may start. With attributes efisig.Append it adds to a machine's db at run
// time; with efisig.Replace they are the whole db.
func Allow(st Store, certificates []*x509.Certificate, attributes uint32, at time.Time) ([]byte, error) {
	if len(certificates) == 0 {
		return nil, errNothingToAllow
	}
	return signUpdate(st, KEK, efisig.DB, attributes, at, efisig.Certificates(st.Owner(), certificates...))
}

func signUpdate(st Store, key Role, v efisig.Variable, attributes uint32, at time.Time, lists []efisig.List) ([]byte, error) {
	signer, cert, err := pair(st, key)
	if err != nil {
		return nil, err
	}
	u, err := efisig.Sign(signer, cert, v, attributes, at, lists)
	if err != nil {
		return nil, err
	}
	return u.Marshal(), nil
}

// PublicKeyPEM returns the public key of a role as PEM. For Policy it is
// what a UKI's .pcrpkey section holds and systemd-measure takes.
func PublicKeyPEM(st Store, r Role) ([]byte, error) {
	cert, err := st.Certificate(r)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(cert.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("cannot write public key of %s: %w", r, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// Description is what one may know of a key.
type Description struct {
	Role        Role      `json:"role"`
	Kind        string    `json:"kind"`        // algorithm and size
	Subject     string    `json:"subject"`     // of the certificate
	Fingerprint string    `json:"fingerprint"` // SHA-256 of the certificate, lower-case hex
	KeyID       string    `json:"key_id"`      // SHA-256 of the public key (SubjectPublicKeyInfo), lower-case hex
	Expires     time.Time `json:"expires"`
}

// Describe describes every key of the store.
func Describe(st Store) ([]Description, error) {
	var out []Description
	for _, r := range Roles {
		cert, err := st.Certificate(r)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(cert.Raw)
		out = append(out, Description{
			Role: r, Kind: kindOf(cert.PublicKey), Subject: cert.Subject.CommonName,
			Fingerprint: hex.EncodeToString(sum[:]), KeyID: KeyID(cert), Expires: cert.NotAfter.UTC(),
		})
	}
	return out, nil
}

// KeyID is the SHA-256 of the certificate's public key, as
// SubjectPublicKeyInfo in DER, in lower-case hex.
func KeyID(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

func kindOf(public crypto.PublicKey) string {
	switch k := public.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA-%d", k.N.BitLen())
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return fmt.Sprintf("%T", public)
}
