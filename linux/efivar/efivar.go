// Package efivar reads and writes EFI variables in efivarfs (Linux,
// Documentation/filesystems/efivarfs.rst). Their contents are read by
// cloison/format/efivar.
package efivar

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"cloison/format/efivar"
)

// Dir is where efivarfs is mounted.
const Dir = "/sys/firmware/efi/efivars"

// Vendors of variables.
const (
	Global = "8be4df61-93ca-11d2-aa0d-00e098032b8c" // EFI_GLOBAL_VARIABLE, UEFI 2.10 section 3.3
	Loader = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f" // Boot Loader Interface
)

// ErrMissing says that the firmware has no such variable.
var ErrMissing = errors.New("no such EFI variable")

// Store is a mounted efivarfs.
type Store struct{ Dir string }

// Read reads one variable. The error wraps ErrMissing when there is none.
func (s Store) Read(name, vendor string) (efivar.Variable, error) {
	file, err := os.ReadFile(filepath.Join(s.Dir, name+"-"+vendor))
	if errors.Is(err, syscall.ENOENT) {
		err = ErrMissing
	}
	if err != nil {
		return efivar.Variable{}, fmt.Errorf("cannot read %s: %w", name, err)
	}
	v, err := efivar.Parse(file)
	if err != nil {
		return efivar.Variable{}, fmt.Errorf("cannot read %s: %w", name, err)
	}
	return v, nil
}
