package state

import (
	"fmt"
	"os"
	"path/filepath"

	"cloison/format/escrow"
	"cloison/linux/file"
	"cloison/target/esp"
)

// escrowFolder of the ESP has the record of the volume, and of no other.
const escrowFolder = "cloison/escrow"

// escrowFile of the volume has the record, too, for the console.
const escrowFile = identityFolder + "/escrow.pem"

// deposit puts the encrypted recovery passphrase where it survives the volume:
// on the ESP, and on the console of whoever stands before the machine.
func (m Machine) deposit(r escrow.Record) error {
	text := r.Print()
	err := file.WriteAtomic(filepath.Join(m.At, escrowFile), text, 0o444)
	if err == nil {
		err = esp.With(m.ESP, func(dir string) error {
			folder := filepath.Join(dir, escrowFolder)
			// Records of volumes that were never finished, and of one that this
			// one replaces, open nothing.
			if err := os.RemoveAll(folder); err != nil {
				return err
			}
			if err := os.MkdirAll(folder, 0o700); err != nil {
				return err
			}
			return file.WriteAtomic(filepath.Join(folder, r.Volume+".pem"), text, 0o600)
		})
	}
	if err != nil {
		return fmt.Errorf("cannot keep the escrow record: %w", err)
	}
	m.Say("escrow record of state volume %s: %s on the ESP; the console shows it", r.Volume, escrowFolder+"/"+r.Volume+".pem")
	return nil
}

// Escrow reads the record from the volume mounted at root.
func Escrow(root string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(root, escrowFile))
	if err == nil {
		_, err = escrow.Parse(b)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the escrow record: %w", err)
	}
	return b, nil
}
