// Package quota bounds what the files below a folder take together: the folder
// belongs to a project, which all that is made in it inherits, and the project has
// limits. It needs ext4 with the features project and quota, mounted with
// prjquota, CONFIG_QFMT_V2 and CAP_SYS_ADMIN.
//
// Who has CAP_SYS_RESOURCE is not bound by any limit. Who owns a file may give it
// to another project, unless ioctl(2) and file_setattr(2) are kept from him.
//
// Source: quotactl(2); Linux, include/uapi/linux/{quota,dqblk_xfs,fs}.h,
// fs/quota/quota.c and fs/ext4/ioctl.c.
package quota

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Limits of a project; 0 is no limit.
type Limits struct {
	Bytes uint64 // in whole KiB
	Files uint64 // and folders
}

// Usage is what a project's files take now.
type Usage struct{ Bytes, Files uint64 }

const (
	project    = 2        // PRJQUOTA
	setQuota   = 0x800008 // Q_SETQUOTA
	getQuota   = 0x800007 // Q_GETQUOTA
	getState   = 0x5808   // Q_XGETQSTATV
	setLimits  = 1 | 4    // QIF_BLIMITS, QIF_ILIMITS
	limitUnit  = 1024     // of limits of blocks; usage is in bytes
	version    = 1        // FS_QSTATV_VERSION1
	accounting = 1 << 4   // FS_QUOTA_PDQ_ACCT
	enforcing  = 1 << 5   // FS_QUOTA_PDQ_ENFD

	getAttributes = 0x801c581f // FS_IOC_FSGETXATTR
	setAttributes = 0x401c5820 // FS_IOC_FSSETXATTR
	inherit       = 0x200      // FS_XFLAG_PROJINHERIT
)

// block is struct if_dqblk.
type block struct {
	hardBytes, softBytes, bytes uint64
	hardFiles, softFiles, files uint64
	bytesTime, filesTime        uint64
	valid, _                    uint32
}

// attributes are struct fsxattr.
type attributes struct {
	flags, extent, extents, project, cow uint32
	_                                    [8]byte
}

// Enforced reports whether the file system at path counts what projects take,
// and whether it holds them to their limits.
func Enforced(path string) (counted, held bool, err error) {
	var state [256]byte // struct fs_quota_statv, which has 160
	state[0] = version
	err = control(path, getState, 0, unsafe.Pointer(&state))
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ESRCH) {
		return false, false, nil // it knows no quotas, or has none switched on
	}
	if err != nil {
		return false, false, fmt.Errorf("cannot tell whether %s has quotas: %w", path, err)
	}
	flags := binary.LittleEndian.Uint16(state[2:])
	return flags&accounting != 0, flags&enforcing != 0, nil
}

// Limit sets the limits of a project on the file system at path.
func Limit(path string, number uint32, l Limits) error {
	if l.Bytes%limitUnit != 0 {
		return fmt.Errorf("cannot limit project %d: %d bytes are not whole KiB", number, l.Bytes)
	}
	b := block{hardBytes: l.Bytes / limitUnit, hardFiles: l.Files, valid: setLimits}
	if err := control(path, setQuota, number, unsafe.Pointer(&b)); err != nil {
		return fmt.Errorf("cannot limit project %d on %s: %w", number, path, err)
	}
	return nil
}

// Use returns what a project takes, and its limits.
func Use(path string, number uint32) (Usage, Limits, error) {
	var b block
	if err := control(path, getQuota, number, unsafe.Pointer(&b)); err != nil {
		return Usage{}, Limits{}, fmt.Errorf("cannot tell what project %d takes on %s: %w", number, path, err)
	}
	return Usage{b.bytes, b.files}, Limits{b.hardBytes * limitUnit, b.hardFiles}, nil
}

func control(path string, command uint32, number uint32, data unsafe.Pointer) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, f.Fd(), uintptr(command)<<8|project, uintptr(number), uintptr(data), 0, 0); errno != 0 {
		err = errno
	}
	return errors.Join(err, f.Close())
}

// ErrNotEmpty says that a folder has files already, which would count for nobody.
var ErrNotEmpty = errors.New("it has files that belong to another project")

// Assign makes an empty folder belong to a project, and all that is made in it
// later. A folder that does already is left as it is.
func Assign(folder string, number uint32) error {
	f, err := os.OpenFile(folder, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err == nil {
		err = errors.Join(assign(f, number), f.Close())
	}
	if err != nil {
		return fmt.Errorf("cannot give %s to project %d: %w", folder, number, err)
	}
	return nil
}

func assign(f *os.File, number uint32) error {
	var a attributes
	if err := attribute(f, getAttributes, &a); err != nil {
		return err
	}
	if a.project == number && a.flags&inherit != 0 {
		return nil
	}
	if _, err := f.Readdirnames(1); !errors.Is(err, io.EOF) {
		return errors.Join(ErrNotEmpty, err)
	}
	a.project = number
	a.flags |= inherit
	return attribute(f, setAttributes, &a)
}

func attribute(f *os.File, command uintptr, a *attributes) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), command, uintptr(unsafe.Pointer(a))); errno != 0 {
		return errno
	}
	return nil
}
