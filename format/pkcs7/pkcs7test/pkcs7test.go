// Package pkcs7test makes keys and certificates for tests. It needs only the
// test that asks for them.
package pkcs7test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"
)

// Identity is a key with its certificate.
type Identity struct {
	Key  crypto.Signer
	Cert *x509.Certificate
}

// New makes an RSA-2048 key and a certificate with the given name, signed by
// issuer, or by itself where issuer is nil.
func New(t testing.TB, name string, issuer *Identity) *Identity {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return &Identity{key, Certify(t, name, key, issuer)}
}

// Certify makes a certificate for key, as New does.
func Certify(t testing.TB, name string, key crypto.Signer, issuer *Identity) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(name))), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0),
		BasicConstraintsValid: true, IsCA: issuer == nil,
	}
	parent, by := template, key
	if issuer != nil {
		parent, by = issuer.Cert, issuer.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
