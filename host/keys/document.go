package keys

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// A document signature is one PEM block and nothing else:
//
//	-----BEGIN CLOISON SIGNATURE-----
//	Key-Id: SHA-256 of the signer's SubjectPublicKeyInfo, lower-case hex
//
//	base64 of the 64-byte Ed25519 signature (RFC 8032) over the document
//	-----END CLOISON SIGNATURE-----
//
// The signature is over the document's bytes as they are, so that OpenSSL
// alone can check it: decode the base64, then pkeyutl -verify -rawin.
const (
	signatureType = "CLOISON SIGNATURE"
	keyIDHeader   = "Key-Id"
)

// SignDocument signs doc with the release key and returns the detached
// signature. The same document gives the same bytes.
func SignDocument(st Store, doc []byte) ([]byte, error) {
	signer, cert, err := pair(st, Release)
	if err != nil {
		return nil, err
	}
	if _, ok := signer.Public().(ed25519.PublicKey); !ok {
		return nil, fmt.Errorf("cannot sign document: the release key is of kind %s, want Ed25519", kindOf(signer.Public()))
	}
	sig, err := signer.Sign(rand.Reader, doc, crypto.Hash(0))
	if err != nil {
		return nil, fmt.Errorf("cannot sign document: %w", err)
	}
	return encodeSignature(KeyID(cert), sig), nil
}

// VerifyDocument checks a signature of SignDocument against the certificate
// of the release key.
func VerifyDocument(cert *x509.Certificate, doc, signature []byte) error {
	public, ok := cert.PublicKey.(ed25519.PublicKey)
	if !ok {
		return fmt.Errorf("cannot verify document: the certificate's key is of kind %s, want Ed25519", kindOf(cert.PublicKey))
	}
	id, sig, err := decodeSignature(signature)
	if err != nil {
		return fmt.Errorf("cannot verify document: %w", err)
	}
	if id != KeyID(cert) {
		return fmt.Errorf("cannot verify document: signed by key %s, want %s", id, KeyID(cert))
	}
	if !ed25519.Verify(public, doc, sig) {
		return errors.New("cannot verify document: it was changed after signing")
	}
	return nil
}

func encodeSignature(id string, sig []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: signatureType, Headers: map[string]string{keyIDHeader: id}, Bytes: sig})
}

// decodeSignature takes the one form that encodeSignature writes.
func decodeSignature(text []byte) (id string, sig []byte, err error) {
	b, _ := pem.Decode(text)
	if b == nil || b.Type != signatureType {
		return "", nil, errors.New("the signature is not a PEM block " + signatureType)
	}
	id = b.Headers[keyIDHeader]
	if len(id) != 64 || len(b.Bytes) != ed25519.SignatureSize || !bytes.Equal(encodeSignature(id, b.Bytes), text) {
		return "", nil, errors.New("the signature is malformed")
	}
	return id, b.Bytes, nil
}
