package keys

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"cloison/format/escrow"
	"cloison/format/hint"
)

// The recovery key signs nothing, so it has no certificate (package escrow).
const (
	recoveryKeyFile    = "recovery.key"
	recoveryPublicFile = "recovery.pub"
)

func generateRecovery() ([]file, error) {
	private, public, err := escrow.NewKey()
	if err != nil {
		return nil, err
	}
	return []file{{recoveryKeyFile, 0o600, private}, {recoveryPublicFile, 0o644, public}}, nil
}

// AddRecovery makes a recovery key in a folder of keys that has none, as those
// made before there were volumes.
func AddRecovery(dir string) error {
	if _, err := OpenDir(dir); err != nil {
		return err
	}
	for _, name := range []string{recoveryKeyFile, recoveryPublicFile} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return hint.Wrap(fmt.Errorf("cannot make a recovery key in %s: there is a %s", dir, name), "keys are never overwritten: what is encrypted to them would be lost")
		}
	}
	files, err := generateRecovery()
	if err != nil {
		return fmt.Errorf("cannot make a recovery key: %w", err)
	}
	// The private part first: a public part alone would lock people out.
	for _, f := range files {
		if err := writeSynced(filepath.Join(dir, f.name), f.mode, f.data); err != nil {
			return fmt.Errorf("cannot write keys to %s: %w", dir, err)
		}
	}
	return syncFolder(dir)
}

// readRecovery reads the public part of the recovery key, or nothing.
func readRecovery(dir string) ([]byte, error) {
	if _, err := os.Lstat(filepath.Join(dir, recoveryPublicFile)); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	text, err := read(dir, recoveryPublicFile, false)
	if err != nil {
		return nil, err
	}
	public, err := escrow.ParsePublic(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", recoveryPublicFile, err)
	}
	// The private part may be elsewhere; if it is here, it must be the right one.
	if _, err := os.Lstat(filepath.Join(dir, recoveryKeyFile)); errors.Is(err, fs.ErrNotExist) {
		return text, nil
	}
	secret, err := read(dir, recoveryKeyFile, true)
	if err != nil {
		return nil, err
	}
	private, err := escrow.ParsePrivate(secret)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", recoveryKeyFile, err)
	}
	if escrow.KeyID(private.PublicKey()) != escrow.KeyID(public) {
		return nil, hint.Wrap(fmt.Errorf("%s is not the key of %s", recoveryKeyFile, recoveryPublicFile), "put both back from one backup")
	}
	return text, nil
}

func (f *folder) Recovery() ([]byte, error) {
	if f.recovery == nil {
		return nil, hint.Wrap(fmt.Errorf("these keys have no %s: nobody could open a volume whose TPM is lost", recoveryPublicFile),
			"make one with: cloison keys recovery %s", f.dir)
	}
	return f.recovery, nil
}
