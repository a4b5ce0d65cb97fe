package keys

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"cloison/format/efisig"
	"cloison/format/hint"
)

// Validity is how long the certificates hold. Firmware has no clock to check
// it by; it bounds how long the tools go on with a key.
const Validity = 20 * 365 * 24 * time.Hour

const (
	ownerFile       = "owner.guid"
	developmentFile = "DEVELOPMENT"
	developmentUnit = "development"
	developmentText = "These keys are for development only. Whatever they sign says so.\nMake others for machines that matter: cloison keys init DIR\n"
)

// keyFile and certificateFile are the names of a role's two files.
func keyFile(r Role) string         { return string(r) + ".key" }
func certificateFile(r Role) string { return string(r) + ".pem" }

// Init makes a new set of keys in the folder dir, which must not exist or be
// empty; folders above it are made. The certificates are valid from now on.
// The folder appears complete or not at all.
func Init(dir string, development bool, now time.Time) error {
	dir = filepath.Clean(dir)
	if err := checkEmpty(dir); err != nil {
		return err
	}
	files, err := generate(development, now)
	if err != nil {
		return fmt.Errorf("cannot make keys: %w", err)
	}
	if err := writeFolder(dir, files); err != nil {
		return fmt.Errorf("cannot write keys to %s: %w", dir, err)
	}
	return nil
}

func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("cannot make keys in %s: %w", dir, err)
	case len(entries) > 0:
		return hint.Wrap(fmt.Errorf("cannot make keys in %s: the folder is not empty", dir),
			"keys are never overwritten; name a new folder, or look at these with: cloison keys show %s", dir)
	}
	return nil
}

type file struct {
	name string
	mode fs.FileMode
	data []byte
}

func generate(development bool, now time.Time) ([]file, error) {
	var files []file
	for _, r := range Roles {
		signer, err := newKey(r)
		if err != nil {
			return nil, err
		}
		cert, err := selfSign(r, signer, development, now)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(signer)
		if err != nil {
			return nil, err
		}
		files = append(
			files,
			file{keyFile(r), 0o600, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})},
			file{certificateFile(r), 0o644, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})},
		)
	}
	recovery, err := generateRecovery()
	if err != nil {
		return nil, err
	}
	files = append(files, recovery...)
	owner, err := newGUID()
	if err != nil {
		return nil, err
	}
	files = append(files, file{ownerFile, 0o644, []byte(owner.String() + "\n")})
	if development {
		files = append(files, file{developmentFile, 0o644, []byte(developmentText)})
	}
	return files, nil
}

func newKey(r Role) (crypto.Signer, error) {
	if bits := kinds[r].bits; bits != 0 {
		return rsa.GenerateKey(rand.Reader, bits)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return key, err
}

// selfSign returns a self-signed certificate: trust in it comes from being
// enrolled, not from an issuer.
func selfSign(r Role, signer crypto.Signer, development bool, now time.Time) ([]byte, error) {
	// RFC 5280, section 4.1.2.2: positive, at most 20 bytes.
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now = now.UTC().Truncate(time.Second)
	t := &x509.Certificate{
		SerialNumber:          serial.Add(serial, big.NewInt(1)),
		Subject:               pkix.Name{CommonName: "Cloison " + kinds[r].purpose},
		NotBefore:             now,
		NotAfter:              now.Add(Validity),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
	}
	if development {
		t.Subject.CommonName += " (development)"
		t.Subject.OrganizationalUnit = []string{developmentUnit}
	}
	return x509.CreateCertificate(rand.Reader, t, t, signer.Public(), signer)
}

// newGUID returns a random GUID (RFC 9562, version 4).
func newGUID() (efisig.GUID, error) {
	var g efisig.GUID
	if _, err := rand.Read(g[:]); err != nil {
		return g, err
	}
	g[7] = g[7]&0x0f | 0x40 // the version's byte comes second: little endian
	g[8] = g[8]&0x3f | 0x80
	return g, nil
}

// writeFolder makes dir with the files in it: written and synced under
// another name first, then renamed, so that a kill leaves no half of it.
func writeFolder(dir string, files []file) (err error) {
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	temporary, err := os.MkdirTemp(parent, "."+filepath.Base(dir)+".new-") // mode 0700
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(temporary))
		}
	}()
	for _, f := range files {
		if err := writeSynced(filepath.Join(temporary, f.name), f.mode, f.data); err != nil {
			return err
		}
	}
	if err := syncFolder(temporary); err != nil {
		return err
	}
	// An empty folder makes room; one that was filled meanwhile stays.
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(temporary, dir); err != nil {
		return err
	}
	return syncFolder(parent)
}

func writeSynced(path string, mode fs.FileMode, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// WriteFile writes data to path: a temporary file, synced, then renamed, so
// that path holds the old content or the new one.
func WriteFile(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".new-")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("cannot write %s: %w", path, err), os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}
