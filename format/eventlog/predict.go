package eventlog

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"

	"cloison/format/efisig"
)

// Boot is how the firmware came to PCR 7, as far as its log and the TPM agree.
type Boot struct {
	// Contents are those of PK, KEK, db and dbx at this boot. Nil or empty: no
	// such variable.
	Contents map[string][]byte
	// Authorities are the entries of db that let something start: a loader, a
	// UKI, a driver. Each stands there once.
	Authorities []efisig.Signature
	// Started are the digests of what the firmware itself started
	// (authenticode.Digest).
	Started [][32]byte

	pieces []piece
}

// piece is one event of PCR 7.
type piece struct {
	digest    [32]byte
	variable  string // one of the names in variables, or ""
	authority int    // number among Authorities, or -1
}

// variables are those that PCR 7 depends on and that can be changed.
var variables = map[string]efisig.Variable{"PK": efisig.PK, "KEK": efisig.KEK, "db": efisig.DB, "dbx": efisig.DBX}

// ErrReplay says that the log and the TPM tell different stories.
var ErrReplay = errors.New("the firmware's event log does not lead to what the TPM has measured")

// PCRs are those that Boot must be given: drivers, loaders, and Secure Boot.
var PCRs = []uint32{2, 4, 7}

// Boot holds the log against the TPM's values of PCRs.
func (l Log) Boot(values map[uint32][32]byte) (Boot, error) {
	for _, index := range PCRs {
		value, err := l.Replay(index)
		if err != nil {
			return Boot{}, err
		}
		if now, ok := values[index]; !ok || value != now {
			return Boot{}, fmt.Errorf("%w: PCR %d should be %x, and is %x", ErrReplay, index, value, now)
		}
	}
	b := Boot{Contents: map[string][]byte{}}
	for i, e := range l.Events {
		digest, err := l.sha256(e)
		switch {
		case err != nil:
			return Boot{}, err
		case e.Type == noAction:
		case e.PCR == 7:
			if err := b.add(e, digest); err != nil {
				return Boot{}, fmt.Errorf("cannot understand the firmware's event log: event %d: %w", i+1, err)
			}
		case (e.PCR == 2 || e.PCR == 4) && e.Type >= BootServicesApplication && e.Type <= runtimeServicesDriver:
			b.Started = append(b.Started, digest)
		}
	}
	for name := range variables {
		if _, ok := b.Contents[name]; !ok {
			return Boot{}, fmt.Errorf("cannot understand the firmware's event log: it has no %s", name)
		}
	}
	if len(b.Authorities) == 0 {
		return Boot{}, errors.New("cannot understand the firmware's event log: nobody let anything start")
	}
	return b, nil
}

// add understands one event of PCR 7.
func (b *Boot) add(e Event, digest [32]byte) error {
	p := piece{digest: digest, authority: -1}
	if e.Type == VariableDriverConfig || e.Type == VariableAuthority {
		if sha256.Sum256(e.Data) != digest {
			return errors.New("its digest is not that of its data")
		}
		v, err := ParseVariable(e.Data)
		if err != nil {
			return err
		}
		known, ok := variables[v.Name]
		ok = ok && known.Vendor == v.Vendor
		switch {
		case e.Type == VariableAuthority && (!ok || v.Name != "db" || len(v.Content) <= len(efisig.GUID{})):
			return fmt.Errorf("something was allowed by %s, which is not known", v.Name)
		case e.Type == VariableAuthority:
			p.authority = len(b.Authorities)
			b.Authorities = append(b.Authorities, efisig.Signature{Owner: efisig.GUID(v.Content[:16]), Data: v.Content[16:]})
		case ok && b.has(v.Name):
			return fmt.Errorf("%s was measured twice: it was changed during this boot", v.Name)
		case ok:
			p.variable, b.Contents[v.Name] = v.Name, v.Content
		}
	}
	b.pieces = append(b.pieces, p)
	return nil
}

func (b *Boot) has(name string) bool {
	_, ok := b.Contents[name]
	return ok
}

// Predict returns what PCR 7 will be when the same is started with these
// contents of PK, KEK, db or dbx; those that are not named stay. It refuses
// contents with which something that was started now would not start any more,
// or with which it cannot be said what the firmware will measure.
func (b Boot) Predict(changed map[string][]byte) (value [32]byte, err error) {
	contents := maps.Clone(b.Contents)
	for name, content := range changed {
		if _, ok := variables[name]; !ok {
			return value, fmt.Errorf("cannot predict PCR 7: %s is no variable of Secure Boot", name)
		}
		contents[name] = content
	}
	db, err := efisig.Parse(contents["db"])
	if err != nil {
		return value, fmt.Errorf("cannot predict PCR 7: db: %w", err)
	}
	dbx, err := efisig.Parse(contents["dbx"])
	if err != nil {
		return value, fmt.Errorf("cannot predict PCR 7: dbx: %w", err)
	}
	if err := b.startable(db, dbx); err != nil {
		return value, err
	}
	for _, p := range b.pieces {
		digest := p.digest
		switch {
		case p.variable != "":
			v := variables[p.variable]
			digest = sha256.Sum256(Variable{v.Vendor, v.Name, contents[p.variable]}.Print())
		case p.authority >= 0:
			entry, err := authority(db, b.Authorities[p.authority])
			if err != nil {
				return value, err
			}
			content := append(entry.Owner[:], entry.Data...)
			digest = sha256.Sum256(Variable{efisig.DB.Vendor, efisig.DB.Name, content}.Print())
		}
		value = extend(value, digest)
	}
	return value, nil
}

// startable checks what was started against the new databases, by digests and
// by certificates.
func (b Boot) startable(db, dbx []efisig.List) error {
	for _, l := range dbx {
		for _, s := range l.Signatures {
			if err := b.revoked(l.Type, s.Data); err != nil {
				return err
			}
		}
	}
	for _, l := range db {
		if l.Type != efisig.CertX509 && l.Type != efisig.CertSHA256 {
			return fmt.Errorf("db would have a list of type %s, which is not known", l.Type)
		}
		for _, s := range l.Signatures {
			if l.Type == efisig.CertSHA256 && b.started(s.Data) {
				return fmt.Errorf("db would list the digest %x of what this machine starts: firmware may then measure either the digest or the certificate", s.Data)
			}
		}
	}
	return nil
}

func (b Boot) started(digest []byte) bool {
	for _, d := range b.Started {
		if bytes.Equal(d[:], digest) {
			return true
		}
	}
	return false
}

// revoked refuses an entry of dbx that forbids what was started.
func (b Boot) revoked(kind efisig.GUID, data []byte) error {
	digests := map[efisig.GUID]crypto.Hash{
		efisig.CertX509SHA256: crypto.SHA256, efisig.CertX509SHA384: crypto.SHA384, efisig.CertX509SHA512: crypto.SHA512,
	}
	hash, byDigest := digests[kind]
	switch {
	case kind == efisig.CertSHA256:
		if b.started(data) {
			return fmt.Errorf("dbx would forbid what this machine starts: digest %x", data)
		}
		return nil
	case kind != efisig.CertX509 && !byDigest:
		return fmt.Errorf("dbx would have a list of type %s, which is not known", kind)
	}
	for _, a := range b.Authorities {
		ours, err := x509.ParseCertificate(a.Data)
		if err != nil {
			continue // an image was allowed by its digest: that is looked for above
		}
		forbidden := false
		if byDigest {
			forbidden = bytes.HasPrefix(data, sum(hash, ours.RawTBSCertificate))
		} else if forbidden, err = stands(data, ours); err != nil {
			return fmt.Errorf("dbx: %w", err)
		}
		if forbidden {
			return fmt.Errorf("dbx would forbid the certificate %q, which lets this machine start", ours.Subject.CommonName)
		}
	}
	return nil
}

func sum(hash crypto.Hash, b []byte) []byte {
	switch hash {
	case crypto.SHA384:
		d := sha512.Sum384(b)
		return d[:]
	case crypto.SHA512:
		d := sha512.Sum512(b)
		return d[:]
	}
	d := sha256.Sum256(b)
	return d[:]
}

// stands reports whether firmware could take a signature by ours for one that
// the certificate stands for: it is the same, has the same key, or issued it.
func stands(der []byte, ours *x509.Certificate) (bool, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return false, err
	}
	same := bytes.Equal(cert.Raw, ours.Raw) || bytes.Equal(cert.RawSubjectPublicKeyInfo, ours.RawSubjectPublicKeyInfo)
	return same || cert.CheckSignature(ours.SignatureAlgorithm, ours.RawTBSCertificate, ours.Signature) == nil, nil
}

// authority finds the entry of db that firmware will take in place of one that
// it took now. It goes through db from its start, and takes the first that fits.
func authority(db []efisig.List, now efisig.Signature) (efisig.Signature, error) {
	ours, err := x509.ParseCertificate(now.Data)
	if err != nil {
		return now, errors.New("something was allowed by its digest and not by a certificate: it cannot be said what the firmware will measure")
	}
	for _, l := range db {
		if l.Type != efisig.CertX509 {
			continue
		}
		for _, s := range l.Signatures {
			if bytes.Equal(s.Data, now.Data) {
				return s, nil
			}
			if ambiguous, err := stands(s.Data, ours); err != nil || ambiguous {
				return now, fmt.Errorf("db would have another certificate before %q that could stand for it: it cannot be said which one the firmware will measure", ours.Subject.CommonName)
			}
		}
	}
	return now, fmt.Errorf("db would no longer have the certificate %q, which lets this machine start", ours.Subject.CommonName)
}
