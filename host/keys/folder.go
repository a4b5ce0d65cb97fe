package keys

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cloison/format/efisig"
	"cloison/format/hint"
)

var (
	errRevokesItself = hint.Wrap(errors.New("cannot revoke the db certificate of these same keys: no machine would boot again"),
		"make new keys, enrol them, then revoke the old certificate with the new keys")
	errNothingToAllow  = hint.Wrap(errors.New("cannot allow nobody"), "name whose programs may boot: --certificate FILE.pem")
	errNothingToRevoke = hint.Wrap(errors.New("cannot revoke nothing"), "name what must not boot any more: --image FILE.efi or --certificate FILE.pem")
)

// maxFile bounds what is read from a key folder, in bytes per file.
const maxFile = 64 << 10

// folder is a Store in files, as Init writes them.
type folder struct {
	signers      map[Role]crypto.Signer
	certificates map[Role]*x509.Certificate
	owner        efisig.GUID
	development  bool
	recovery     []byte // nil: there is none
	dir          string
}

// OpenDir opens the keys that Init wrote to dir. It refuses a set that is
// not complete, a file that others may read, a key that is not that of its
// certificate or not of its role's kind, and a certificate that has expired.
func OpenDir(dir string) (Store, error) {
	return openDir(dir, time.Now())
}

func openDir(dir string, now time.Time) (Store, error) {
	st, err := readFolder(dir, now)
	if err != nil {
		return nil, fmt.Errorf("cannot open keys in %s: %w", dir, err)
	}
	return st, nil
}

func readFolder(dir string, now time.Time) (*folder, error) {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, hint.Wrap(errors.New("the folder does not exist"), "make keys with: cloison keys init %s", dir)
	case err != nil:
		return nil, err
	case !info.IsDir():
		return nil, hint.Wrap(errors.New("it is not a folder"), "name the folder that cloison keys init made")
	case info.Mode().Perm()&0o077 != 0:
		return nil, hint.Wrap(fmt.Errorf("others may enter the folder: its mode is %04o, want 0700", info.Mode().Perm()), "chmod 0700 %s", dir)
	}
	st := &folder{signers: map[Role]crypto.Signer{}, certificates: map[Role]*x509.Certificate{}, dir: dir}
	for _, r := range Roles {
		if st.certificates[r], err = readCertificate(dir, r, now); err != nil {
			return nil, err
		}
		if st.signers[r], err = readKey(dir, r, st.certificates[r]); err != nil {
			return nil, err
		}
	}
	if st.owner, err = readOwner(dir); err != nil {
		return nil, err
	}
	if st.recovery, err = readRecovery(dir); err != nil {
		return nil, err
	}
	if st.development, err = readDevelopment(dir, st.certificates); err != nil {
		return nil, err
	}
	return st, nil
}

func (f *folder) Signer(r Role) (crypto.Signer, error) {
	s, ok := f.signers[r]
	if !ok {
		return nil, fmt.Errorf("cannot sign as %q: no such role", r)
	}
	return s, nil
}

func (f *folder) Certificate(r Role) (*x509.Certificate, error) {
	c, ok := f.certificates[r]
	if !ok {
		return nil, fmt.Errorf("cannot get the certificate of %q: no such role", r)
	}
	return c, nil
}

func (f *folder) Owner() efisig.GUID { return f.owner }

func (f *folder) Development() bool { return f.development }

// read reads a regular file of the folder and says, where it is missing,
// which one and what to do.
func read(dir, name string, private bool) ([]byte, error) {
	path := filepath.Join(dir, name)
	// Not through a link: the mode that is checked is that of the file read.
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, hint.Wrap(fmt.Errorf("%s is missing", name), "put %s back from a backup, or make new keys with: cloison keys init DIR", name)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read from: nothing to lose
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case private && info.Mode().Perm()&0o077 != 0:
		return nil, hint.Wrap(fmt.Errorf("others may read %s: its mode is %04o, want 0600", name, info.Mode().Perm()), "chmod 0600 %s; if others had access, make new keys", path)
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%s has %d bytes, the limit is %d", name, info.Size(), maxFile)
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// block returns the one PEM block of the given type that data is.
func block(name string, data []byte, kind string) ([]byte, error) {
	b, rest := pem.Decode(data)
	switch {
	case b == nil:
		return nil, fmt.Errorf("%s is not PEM", name)
	case b.Type != kind:
		return nil, fmt.Errorf("%s holds a PEM block %q, want %q", name, b.Type, kind)
	case len(bytes.TrimSpace(rest)) != 0:
		return nil, fmt.Errorf("%s holds more than one PEM block", name)
	}
	return b.Bytes, nil
}

func readCertificate(dir string, r Role, now time.Time) (*x509.Certificate, error) {
	name := certificateFile(r)
	data, err := read(dir, name, false)
	if err != nil {
		return nil, err
	}
	cert, err := ParseCertificate(name, data)
	if err != nil {
		return nil, err
	}
	if now.After(cert.NotAfter) {
		return nil, hint.Wrap(fmt.Errorf("%s has expired on %s", name, cert.NotAfter.UTC().Format(time.DateOnly)), "make new keys with: cloison keys init DIR")
	}
	return cert, checkKind(name, r, cert.PublicKey)
}

// ParseCertificate reads one certificate in PEM; name is for the error.
func ParseCertificate(name string, data []byte) (*x509.Certificate, error) {
	der, err := block(name, data, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%s is not a certificate: %w", name, err)
	}
	return cert, nil
}

func readKey(dir string, r Role, cert *x509.Certificate) (crypto.Signer, error) {
	name := keyFile(r)
	data, err := read(dir, name, true)
	if err != nil {
		return nil, err
	}
	der, err := block(name, data, "PRIVATE KEY")
	if err != nil {
		return nil, hint.Wrap(err, "%s must be an unencrypted PKCS#8 private key in PEM, as cloison keys init writes it", name)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%s is not a private key: %w", name, err)
	}
	signer, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s cannot sign: it is a %T", name, parsed)
	}
	if err := checkKind(name, r, signer.Public()); err != nil {
		return nil, err
	}
	if !samePublic(signer.Public(), cert.PublicKey) {
		return nil, hint.Wrap(fmt.Errorf("%s is not the key of the certificate %s", name, certificateFile(r)),
			"the two files were made at different times or for different roles; put both back from one backup")
	}
	return signer, nil
}

func checkKind(name string, r Role, public crypto.PublicKey) error {
	want := "Ed25519"
	ok := false
	if bits := kinds[r].bits; bits != 0 {
		want = fmt.Sprintf("RSA-%d", bits)
		k, isRSA := public.(*rsa.PublicKey)
		ok = isRSA && k.N.BitLen() == bits
	} else {
		_, ok = public.(ed25519.PublicKey)
	}
	if !ok {
		return fmt.Errorf("%s is of kind %s, want %s for the %s", name, kindOf(public), want, kinds[r].purpose)
	}
	return nil
}

func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

func readOwner(dir string) (efisig.GUID, error) {
	data, err := read(dir, ownerFile, false)
	if err != nil {
		return efisig.GUID{}, err
	}
	g, err := efisig.ParseGUID(strings.TrimSuffix(string(data), "\n"))
	if err != nil {
		return efisig.GUID{}, fmt.Errorf("%s: %w", ownerFile, err)
	}
	return g, nil
}

// readDevelopment says whether these are development keys. The marker file
// and the certificates must agree: neither losing nor adding the file can
// turn one kind into the other.
func readDevelopment(dir string, certs map[Role]*x509.Certificate) (bool, error) {
	_, err := os.Lstat(filepath.Join(dir, developmentFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	marked := err == nil
	for _, r := range Roles {
		if slices.Contains(certs[r].Subject.OrganizationalUnit, developmentUnit) == marked {
			continue
		}
		if marked {
			return false, fmt.Errorf("the file %s is there, but %s is not a development certificate", developmentFile, certificateFile(r))
		}
		return false, fmt.Errorf("%s is a development certificate, but the file %s is missing", certificateFile(r), developmentFile)
	}
	return marked, nil
}
