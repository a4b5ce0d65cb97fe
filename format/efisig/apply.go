package efisig

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
)

// Other ways in which dbx names a certificate: by a digest of its
// TBSCertificate, and the time from which on it is forbidden (UEFI 2.10,
// section 32.4.1).
var (
	CertX509SHA256 = mustGUID("3bd2a492-96c0-4079-b420-fcf98ef103ed")
	CertX509SHA384 = mustGUID("7076876e-80c2-4ee6-aad2-28b349a6865b")
	CertX509SHA512 = mustGUID("446dbf63-2502-4cda-bcfa-2465d2b0fe9d")
)

// Attributes verifies u and returns Append or Replace: an .auth file does not
// say which, but it is signed for one of them. One of the certificates must
// have signed it.
func (u *Update) Attributes(v Variable, signers []*x509.Certificate) (uint32, error) {
	by, err := u.signer(v, Append)
	attributes := Append
	if err != nil {
		by, err = u.signer(v, Replace)
		attributes = Replace
	}
	if err != nil {
		return 0, err
	}
	for _, cert := range signers {
		if by.Equal(cert) {
			return attributes, nil
		}
	}
	// Names do not tell: two keys may have the same.
	return 0, fmt.Errorf("cannot verify update of %s: %q has signed it, a key (certificate %x) that may not", v.Name, by.Subject.CommonName, sha256.Sum256(by.Raw))
}

// Apply returns what a variable that holds current has after u. What is
// appended and there already, with the same owner, is not added again (UEFI
// 2.10, section 8.2.2), and what is new stays in lists of its own, as EDK II
// writes them.
func (u *Update) Apply(current []byte, attributes uint32) ([]byte, error) {
	switch attributes {
	case Replace:
		return bytes.Clone(u.Payload), nil
	case Append:
	default:
		return nil, fmt.Errorf("cannot apply update: attributes %#x are neither Replace nor Append", attributes)
	}
	old, err := Parse(current)
	if err != nil {
		return nil, fmt.Errorf("cannot apply update: %w", err)
	}
	lists, err := Parse(u.Payload)
	if err != nil {
		return nil, fmt.Errorf("cannot apply update: %w", err)
	}
	var added []List
	for _, l := range lists {
		fresh := List{Type: l.Type}
		for _, s := range l.Signatures {
			if !holds(old, l.Type, s) {
				fresh.Signatures = append(fresh.Signatures, s)
			}
		}
		if len(fresh.Signatures) > 0 {
			added = append(added, fresh)
		}
	}
	tail, err := Marshal(added)
	return append(bytes.Clone(current), tail...), err
}

func holds(lists []List, kind GUID, s Signature) bool {
	for _, l := range lists {
		for _, have := range l.Signatures {
			if l.Type == kind && have.Owner == s.Owner && bytes.Equal(have.Data, s.Data) {
				return true
			}
		}
	}
	return false
}

// Lost returns whether lists lack something that was in old, whoever put it
// there.
func Lost(old, lists []List) bool {
	for _, l := range old {
		for _, s := range l.Signatures {
			found := false
			for _, now := range lists {
				for _, have := range now.Signatures {
					found = found || now.Type == l.Type && bytes.Equal(have.Data, s.Data)
				}
			}
			if !found {
				return true
			}
		}
	}
	return false
}

// X509 returns the certificates of the lists.
func X509(lists []List) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for _, l := range lists {
		if l.Type != CertX509 {
			continue
		}
		for _, s := range l.Signatures {
			cert, err := x509.ParseCertificate(s.Data)
			if err != nil {
				return nil, errors.New("cannot parse signature list: a certificate that is none")
			}
			certs = append(certs, cert)
		}
	}
	return certs, nil
}
