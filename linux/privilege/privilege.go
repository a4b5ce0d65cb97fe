// Package privilege takes rights away from the calling thread, for ever, and
// executes another program from it (capabilities(7), prctl(2), execveat(2)). The
// thread must be locked: Go's own calls for these things change all threads, and
// the others end when the program is executed.
package privilege

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// capabilities are the names of the ones that a service can have.
var capabilities = map[string]uint{
	"CAP_NET_BIND_SERVICE": unix.CAP_NET_BIND_SERVICE,
	"CAP_NET_ADMIN":        unix.CAP_NET_ADMIN,
	"CAP_NET_RAW":          unix.CAP_NET_RAW,
	"CAP_IPC_LOCK":         unix.CAP_IPC_LOCK,
	"CAP_SYS_NICE":         unix.CAP_SYS_NICE,
	"CAP_SYS_TIME":         unix.CAP_SYS_TIME,
	"CAP_WAKE_ALARM":       unix.CAP_WAKE_ALARM,
	"CAP_AUDIT_READ":       unix.CAP_AUDIT_READ,
}

// Set is a set of capabilities, a bit each.
type Set uint64

// SetOf returns the set of the named capabilities.
func SetOf(names ...string) (Set, error) {
	var s Set
	for _, n := range names {
		c, ok := capabilities[n]
		if !ok {
			return 0, fmt.Errorf("no service can have the capability %q", n)
		}
		s |= 1 << c
	}
	return s, nil
}

// Limit bounds a resource of this process; it cannot be raised again without
// CAP_SYS_RESOURCE.
func Limit(resource int, value uint64) error {
	if err := unix.Prlimit(0, resource, &unix.Rlimit{Cur: value, Max: value}, nil); err != nil {
		return fmt.Errorf("cannot set resource limit %d: %w", resource, err)
	}
	return nil
}

// Resources of Limit.
const (
	Descriptors  = unix.RLIMIT_NOFILE
	FileSize     = unix.RLIMIT_FSIZE
	CoreSize     = unix.RLIMIT_CORE
	LockedMemory = unix.RLIMIT_MEMLOCK
	Processes    = unix.RLIMIT_NPROC
	Queues       = unix.RLIMIT_MSGQUEUE
	Signals      = unix.RLIMIT_SIGPENDING
	RealTime     = unix.RLIMIT_RTPRIO
)

// NewKeyring leaves the session keyring of the parent for an empty one. A kernel
// without keyrings has none to leave.
func NewKeyring() error {
	_, _, errno := unix.RawSyscall(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0)
	if errno != 0 && errno != unix.ENOSYS {
		return fmt.Errorf("cannot leave the session keyring: %w", errno)
	}
	return nil
}

// NoNewPrivileges makes that no executed file gives rights.
func NoNewPrivileges() error { return prctl("set no_new_privs", unix.PR_SET_NO_NEW_PRIVS, 1) }

// Undumpable keeps others of the same user from looking into this process. The
// kernel sets it anew when a program is executed: one that cannot be read, only
// executed, stays so.
func Undumpable() error { return prctl("become undumpable", unix.PR_SET_DUMPABLE, 0) }

// DenyWriteExecute makes that no memory is writable and executable, nor becomes
// executable when it was not, here and in what is executed (PR_SET_MDWE).
func DenyWriteExecute() error {
	return prctl("deny memory that is written and executed", unix.PR_SET_MDWE, unix.PR_MDWE_REFUSE_EXEC_GAIN)
}

// securebits, all with their locks (include/uapi/linux/securebits.h):
//
//	NOROOT                 0   user 0 has no rights for being 0
//	NO_SETUID_FIXUP        2   a change of user changes no capability: we do that
//	KEEP_CAPS              4   locked, and off
//	NO_CAP_AMBIENT_RAISE   6   no capability becomes ambient
//	EXEC_RESTRICT_FILE     8   interpreters take files that may be executed only
//	EXEC_DENY_INTERACTIVE 10   and nothing that is not a file
const (
	noSetuidFixup = 1 << 2
	noRoot        = 1<<0 | 1<<1
	locked        = noRoot | 1<<2 | 1<<3 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<9 | 1<<10 | 1<<11
)

// Become makes the thread user and group id, in no other group, with the
// capabilities in keep and no other in any of the five sets, and locks the
// securebits.
func Become(id uint32, keep Set) error {
	// 1. A change of user takes no capability away, for it is still needed.
	if err := prctl("set securebits", unix.PR_SET_SECUREBITS, noSetuidFixup); err != nil {
		return err
	}
	// 2. Groups first: a user who is not root cannot leave them.
	for _, call := range []struct {
		what          string
		number        uintptr
		first, second uintptr
	}{
		{"leave all groups", unix.SYS_SETGROUPS, 0, 0},
		{"change the group", unix.SYS_SETRESGID, uintptr(id), uintptr(id)},
		{"change the user", unix.SYS_SETRESUID, uintptr(id), uintptr(id)},
	} {
		if _, _, errno := unix.RawSyscall(call.number, call.first, call.second, uintptr(id)); errno != 0 {
			return fmt.Errorf("cannot %s: %w", call.what, errno)
		}
	}
	// 3. The bounding set, while CAP_SETPCAP is there: what is out of it cannot
	// be had again. The kernel ends the list with EINVAL.
	for c := uintptr(0); ; c++ {
		if c < 64 && keep>>c&1 == 1 {
			continue
		}
		_, _, errno := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0)
		if errno == unix.EINVAL && c > unix.CAP_LAST_CAP {
			break
		}
		if errno != 0 || c >= 64 {
			return fmt.Errorf("cannot drop capability %d from the bounding set: %w", c, errno)
		}
	}
	// 4. What is kept becomes inheritable, then ambient: only so it is there
	// after the execution of a file without capabilities.
	const setpcap = 1 << unix.CAP_SETPCAP
	if err := capset(keep|setpcap, keep|setpcap, keep); err != nil {
		return err
	}
	for c := uintptr(0); c < 64; c++ {
		if keep>>c&1 == 0 {
			continue
		}
		if _, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, c, 0, 0, 0); errno != 0 {
			return fmt.Errorf("cannot make capability %d ambient: %w", c, errno)
		}
	}
	// 5. Lock, which closes the way of step 4.
	if err := prctl("lock securebits", unix.PR_SET_SECUREBITS, locked); err != nil {
		return err
	}
	// 6. Last, CAP_SETPCAP itself.
	return capset(keep, keep, keep)
}

func capset(effective, permitted, inheritable Set) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	for i := range data {
		data[i] = unix.CapUserData{Effective: uint32(effective >> (32 * i)), Permitted: uint32(permitted >> (32 * i)), Inheritable: uint32(inheritable >> (32 * i))}
	}
	// The raw call: it is about this thread.
	if _, _, errno := unix.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0); errno != 0 {
		return fmt.Errorf("cannot drop capabilities: %w", errno)
	}
	return nil
}

func prctl(what string, option, value uintptr) error {
	if _, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, option, value, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("cannot %s: %w", what, errno)
	}
	return nil
}

// HandedOn says what is wrong with a descriptor that the parent should have
// left open: one that closes when a program is executed was opened since then,
// by the Go runtime for example.
func HandedOn(fd int) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC != 0 {
		return fmt.Errorf("descriptor %d was not handed on", fd)
	}
	return nil
}

// OnlyDescriptors makes that an executed program finds the descriptors below n
// and no others. Each of those must have been handed on.
func OnlyDescriptors(n int) error {
	for fd := range n {
		if err := HandedOn(fd); err != nil {
			return err
		}
	}
	if err := unix.CloseRange(uint(n), 1<<31-1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("cannot close the other descriptors: %w", err)
	}
	return nil
}

// Program is a program that is ready to be executed.
type Program struct {
	descriptor uintptr
	empty      *byte
	argv, envv []*byte
}

// NewProgram opens the file at path, which must be no link, as descriptor at. It
// leaves the process with a limit of at descriptors: no other can get that
// number afterwards.
func NewProgram(path string, at int, arguments, environment []string) (*Program, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open %s: %w", path, err)
	}
	if err := Limit(Descriptors, uint64(at)+1); err != nil {
		return nil, err
	}
	if err := unix.Dup3(fd, at, unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("cannot open %s as descriptor %d: %w", path, at, err)
	}
	if err := Limit(Descriptors, uint64(at)); err != nil {
		return nil, err
	}
	if err := unix.Close(fd); err != nil {
		return nil, fmt.Errorf("cannot open %s: %w", path, err)
	}
	p := &Program{descriptor: uintptr(at), empty: new(byte)}
	if p.argv, err = syscall.SlicePtrFromStrings(append([]string{path}, arguments...)); err != nil {
		return nil, fmt.Errorf("cannot pass arguments: %w", err)
	}
	if p.envv, err = syscall.SlicePtrFromStrings(environment); err != nil {
		return nil, fmt.Errorf("cannot pass the environment: %w", err)
	}
	return p, nil
}

// Execute becomes the program; it returns only when it could not. It makes no
// other system call.
func (p *Program) Execute() error {
	_, _, errno := unix.RawSyscall6(unix.SYS_EXECVEAT, p.descriptor, uintptr(unsafe.Pointer(p.empty)),
		uintptr(unsafe.Pointer(&p.argv[0])), uintptr(unsafe.Pointer(&p.envv[0])), unix.AT_EMPTY_PATH, 0)
	return os.NewSyscallError("execveat", errno)
}

// PrivateFiles makes that new files are for their owner alone.
func PrivateFiles() { unix.Umask(0o077) }
