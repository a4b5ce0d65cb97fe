// Package entropy feeds the kernel's random number generator (random(4)).
package entropy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Node is the generator's device.
const Node = "/dev/urandom"

// Credit mixes data into the generator and has it count all of its bits as
// unknown to anybody (RNDADDENTROPY). It takes CAP_SYS_ADMIN.
func Credit(data []byte) error {
	if err := credit(data); err != nil {
		return fmt.Errorf("cannot credit a seed: %w", err)
	}
	return nil
}

func credit(data []byte) error {
	f, err := os.OpenFile(Node, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	// struct rand_pool_info: the bits, the bytes, both 32 bits in native order,
	// then the data.
	info := binary.NativeEndian.AppendUint32(nil, uint32(len(data)*8))
	info = binary.NativeEndian.AppendUint32(info, uint32(len(data)))
	info = append(info, data...)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&info[0])))
	runtime.KeepAlive(info)
	clear(info)
	if errno != 0 {
		return errors.Join(errno, f.Close())
	}
	return f.Close()
}
