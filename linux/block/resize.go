package block

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Write writes at an offset of a disk or partition, and returns when it is
// there.
func Write(node string, data []byte, at int64) error {
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, at)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("cannot write to %s: %w", node, err)
	}
	return nil
}

// Resize tells the kernel that a partition has another size, in bytes, also
// while others of the disk are in use.
//
// Source: Linux, include/uapi/linux/blkpg.h.
func Resize(disk string, number int, start, size uint64) error {
	f, err := os.OpenFile(Node(disk), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	p := unix.BlkpgPartition{Start: int64(start), Length: int64(size), Pno: int32(number)}
	arg := unix.BlkpgIoctlArg{Op: unix.BLKPG_RESIZE_PARTITION, Datalen: int32(unsafe.Sizeof(p)), Data: (*byte)(unsafe.Pointer(&p))}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		err = errno
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("cannot resize partition %d of %s: %w", number, disk, err)
	}
	return nil
}
