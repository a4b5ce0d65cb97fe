package efivar

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrRefused says that the firmware did not take a change: it is not signed by
// whoever may change the variable, or not later than the last change.
var ErrRefused = errors.New("the firmware refuses it: it is not signed by who may sign it, or not later than the last change")

// Write hands the firmware a new value, or a signed change. The store must be
// mounted for writing. The error wraps ErrRefused where the firmware has looked
// at it and said no.
func (s Store) Write(name, vendor string, attributes uint32, data []byte) (err error) {
	path := filepath.Join(s.Dir, name+"-"+vendor)
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot write %s: %w", name, err)
		}
	}()
	if err := mutable(path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	// The kernel wants it in one write.
	_, err = f.Write(append(binary.LittleEndian.AppendUint32(nil, attributes), data...))
	// EFI_SECURITY_VIOLATION is EACCES, EFI_WRITE_PROTECTED is EROFS and
	// EFI_INVALID_PARAMETER is EINVAL (Linux, efi_status_to_err).
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EINVAL) {
		err = fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return errors.Join(err, f.Close())
}

const immutable = 0x10 // FS_IMMUTABLE_FL

// mutable takes the flag off by which the kernel protects variables from being
// removed by mistake (efivarfs.rst). A variable that is not there has none.
func mutable(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil && flags&immutable != 0 {
		err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags&^immutable)
	}
	return errors.Join(err, f.Close())
}
