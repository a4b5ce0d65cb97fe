// Package swap hands areas to the kernel that it may swap to, and takes them
// back. It needs CONFIG_SWAP and CAP_SYS_ADMIN.
//
// Source: swapon(2).
package swap

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// On makes the kernel swap to a device, whose first page has the header.
func On(node string) error {
	if err := call(unix.SYS_SWAPON, node); err != nil {
		return fmt.Errorf("cannot swap to %s: %w", node, err)
	}
	return nil
}

// Off brings everything back into memory and gives the device free. It fails
// where there is not enough memory for it.
func Off(node string) error {
	if err := call(unix.SYS_SWAPOFF, node); err != nil {
		return fmt.Errorf("cannot stop swapping to %s: %w", node, err)
	}
	return nil
}

func call(number uintptr, node string) error {
	path, err := unix.BytePtrFromString(node)
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(number, uintptr(unsafe.Pointer(path)), 0, 0); errno != 0 {
		return errno
	}
	return nil
}
