// Package landlock takes from a thread the right to open files, to use ports and
// to reach beyond itself, but for what is listed (landlock(7)). It restricts the
// calling thread alone: the launcher executes another program from it.
//
// Source: Documentation/userspace-api/landlock.rst and
// include/uapi/linux/landlock.h of Linux 7.3, ABI 11.
package landlock

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ABI is what the kernel has to understand at least.
const ABI = 11

// Access is what may be done with a file, or with a folder and all below.
type Access uint64

// Sets of rights. Of those the kernel knows, a service never gets the making of
// device nodes, sockets, pipes and symbolic links.
const (
	Execute Access = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE
	Read    Access = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	Write   Access = Read | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REFER
	Ioctl   Access = unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	Connect Access = unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX // to the Unix socket at the path

	// files are the rights that a file can have.
	files = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | Ioctl | Connect
)

// Port is what may be done with a port.
type Port uint64

// The rights of ports.
const (
	BindTCP    Port = unix.LANDLOCK_ACCESS_NET_BIND_TCP
	ConnectTCP Port = unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	BindUDP    Port = unix.LANDLOCK_ACCESS_NET_BIND_UDP         // port 0: the kernel's choice
	ConnectUDP Port = unix.LANDLOCK_ACCESS_NET_CONNECT_SEND_UDP // sending, too
)

// attributes is struct landlock_ruleset_attr up to ABI 9; ABI 10 has added what
// must be zero for us.
type attributes struct{ fs, net, scoped uint64 }

// pathRule is struct landlock_path_beneath_attr, which is packed.
type pathRule [12]byte

type portRule struct{ access, port uint64 }

const rulePort = 2 // LANDLOCK_RULE_NET_PORT

// Rules is a set of rules before it is enforced.
type Rules struct {
	fd      int
	handled attributes
}

// Known returns the kernel's ABI version, 0 where it has no Landlock.
func Known() int {
	v, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(v)
}

// New makes a set that allows nothing of what abi knows. The kernel must know
// it: nothing is left out because it does not. Only tests and benchmarks on
// other kernels than ours have a use for less than ABI.
func New(abi int) (*Rules, error) {
	if known := Known(); known < abi {
		return nil, fmt.Errorf("cannot use Landlock: the kernel has ABI %d, want %d", known, abi)
	}
	r := &Rules{handled: attributes{1<<17 - 1, 1<<4 - 1, 1<<2 - 1}}
	for _, old := range []struct {
		before  int
		without attributes
	}{
		{10, attributes{0, uint64(BindUDP | ConnectUDP), 0}},
		{9, attributes{uint64(Connect), 0, 0}},
		{6, attributes{0, 0, 3}},
	} {
		if abi < old.before {
			r.handled.fs &^= old.without.fs
			r.handled.net &^= old.without.net
			r.handled.scoped &^= old.without.scoped
		}
	}
	if abi < 5 {
		return nil, fmt.Errorf("internal error: Landlock ABI %d has too few rights", abi)
	}
	fd, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&r.handled)), unsafe.Sizeof(r.handled), 0)
	if errno != 0 {
		return nil, fmt.Errorf("cannot make a Landlock rule set: %w", errno)
	}
	unix.CloseOnExec(int(fd))
	r.fd = int(fd)
	return r, nil
}

// Path allows access to what path is now; of a file, as far as it is of files.
func (r *Rules) Path(path string, access Access) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot allow %s: %w", path, err)
	}
	defer unix.Close(fd) // a name, nothing is lost
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("cannot allow %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= files
	}
	allowed := uint64(access) & r.handled.fs
	if allowed == 0 {
		return nil
	}
	var rule pathRule
	binary.LittleEndian.PutUint64(rule[:], allowed)
	binary.LittleEndian.PutUint32(rule[8:], uint32(fd))
	if _, _, errno := unix.RawSyscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(r.fd), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0); errno != 0 {
		return fmt.Errorf("cannot allow %s: %w", path, errno)
	}
	return nil
}

// Port allows the use of a port.
func (r *Rules) Port(port uint16, access Port) error {
	rule := portRule{uint64(access) & r.handled.net, uint64(port)}
	if rule.access == 0 {
		return nil
	}
	if _, _, errno := unix.RawSyscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(r.fd), rulePort, uintptr(unsafe.Pointer(&rule)), 0, 0, 0); errno != 0 {
		return fmt.Errorf("cannot allow port %d: %w", port, errno)
	}
	return nil
}

// Enforce restricts the calling thread and all that comes from it, for ever. It
// needs no_new_privs.
func (r *Rules) Enforce() error {
	// Denials of the program that is executed are told to the audit log.
	if _, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(r.fd), unix.LANDLOCK_RESTRICT_SELF_LOG_NEW_EXEC_ON, 0); errno != 0 {
		return fmt.Errorf("cannot enforce Landlock: %w", errno)
	}
	return unix.Close(r.fd)
}
