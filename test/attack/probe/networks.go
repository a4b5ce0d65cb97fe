package probe

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"
)

// Victim is the abstract socket at which another box listens, and VictimPath the
// one with a path.
const (
	Victim     = "\x00cloison-victim"
	VictimPath = "/run/victim"
)

// address is a struct sockaddr_un.
func address(name string) ([]byte, int) {
	b := append([]byte{1, 0}, name...)
	if name[0] != 0 {
		b = append(b, 0)
	}
	return b, len(b)
}

// sockets are families and classes that a service has no use for.
var sockets = []struct {
	name                   string
	family, kind, protocol int
}{
	{"raw frames", 17, 3, 0x0300},
	{"cooked frames", 17, 2, 0x0300},
	{"raw IPv4", 2, 3, 255},
	{"raw ICMP", 2, 3, 1},
	{"ICMP", 2, 2, 1},
	{"raw IPv6", 10, 3, 58},
	{"TCP", 2, 1, 0},
	{"TCP over IPv6", 10, 1, 0},
	{"UDP", 2, 2, 0},
	{"UDP over IPv6", 10, 2, 0},
	{"MPTCP", 2, 1, 262},
	{"SCTP", 2, 1, 132},
	{"UDP-Lite", 2, 2, 136},
	{"netlink route", 16, 3, 0},
	{"netlink socket diagnosis", 16, 3, 4},
	{"netlink XFRM", 16, 3, 6},
	{"netlink audit", 16, 3, 9},
	{"netlink connector", 16, 3, 11},
	{"netlink netfilter", 16, 3, 12},
	{"netlink device events", 16, 3, 15},
	{"netlink generic", 16, 3, 16},
	{"netlink SCSI", 16, 3, 18},
	{"netlink crypto", 16, 3, 21},
	{"IPsec keys (PF_KEY)", 15, 3, 2},
	{"kernel crypto (AF_ALG)", 38, 5, 0},
	{"virtual machines (AF_VSOCK)", 40, 1, 0},
	{"Bluetooth", 31, 3, 1},
	{"CAN", 29, 3, 1},
	{"TIPC", 30, 1, 0},
	{"RDS", 21, 5, 0},
	{"XDP", 44, 3, 0},
	{"SMC", 43, 1, 0},
	{"QIPCRTR", 42, 2, 0},
	{"X.25", 9, 5, 0},
	{"AppleTalk", 5, 2, 0},
}

// networks tries to use networks, and sockets of others.
func networks() []Attempt {
	var all []Attempt
	for _, s := range sockets {
		all = append(all, call("make a socket of "+s.name, syscall.SYS_SOCKET, s.family, s.kind, s.protocol))
	}
	unix := func(kind int, name string) func() (string, error) {
		return func() (string, error) {
			fd, err := system(syscall.SYS_SOCKET, 1, kind, 0)
			if err != nil {
				return "", err
			}
			b, n := address(name)
			_, err = system(syscall.SYS_CONNECT, fd, b, n)
			return "somebody else answers", err
		}
	}
	inet := func(operation uintptr, kind, port int) func() (string, error) {
		return func() (string, error) {
			fd, err := system(syscall.SYS_SOCKET, 2, kind, 0)
			if err != nil {
				return "", err
			}
			_, err = system(operation, fd, []byte{2, 0, byte(port >> 8), byte(port), 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0}, 16)
			return "it is done", err
		}
	}
	return group("networks", append(
		all,
		way("connect to the abstract socket of another box", unix(1, Victim)),
		way("send to the abstract socket of another box", unix(2, Victim)),
		way("connect to the socket of another box by its path", unix(1, VictimPath)),
		way("connect to the log's socket", unix(1, "/run/services/logd/log")),
		way("wait at an abstract socket for others", func() (string, error) {
			fd, err := system(syscall.SYS_SOCKET, 1, 1, 0)
			if err != nil {
				return "", err
			}
			b, n := address("\x00cloison-trap")
			_, err = system(syscall.SYS_BIND, fd, b, n)
			return "others in the same network namespace could connect", err
		}),
		way("make a socket file in /tmp", func() (string, error) {
			fd, err := system(syscall.SYS_SOCKET, 1, 1, 0)
			if err != nil {
				return "", err
			}
			b, n := address("/tmp/socket")
			_, err = system(syscall.SYS_BIND, fd, b, n)
			return "it is there", err
		}),
		way("connect to another machine by TCP", inet(syscall.SYS_CONNECT, 1, 80)),
		way("connect to another machine by UDP", inet(syscall.SYS_CONNECT, 2, 53)),
		way("switch the loopback interface on", func() (string, error) {
			fd, err := system(syscall.SYS_SOCKET, 2, 2, 0)
			if err != nil {
				return "", err
			}
			request := make([]byte, 40)
			copy(request, "lo")
			request[16] = 1 // IFF_UP
			_, err = system(syscall.SYS_IOCTL, fd, syscall.SIOCSIFFLAGS, request)
			return "it is on", err
		}),
		way("pretend to be root to another", func() (string, error) {
			fds := make([]int32, 2)
			if _, err := system(syscall.SYS_SOCKETPAIR, 1, 2, 0, unsafe.Pointer(&fds[0])); err != nil {
				return "", err
			}
			oob := syscall.UnixCredentials(&syscall.Ucred{Pid: 1, Uid: 0, Gid: 0})
			return "the kernel vouches for it", syscall.Sendmsg(int(fds[0]), []byte("x"), oob, nil, 0)
		}),
	)...)
}

// others tries to reach the processes of other boxes.
func others() []Attempt {
	// each tries it with every process number but its own and its threads'.
	each := func(try func(pid int) error) func() (string, error) {
		return func() (string, error) {
			last := error(syscall.ESRCH)
			for pid := 1; pid <= 600; pid++ {
				if _, err := system(syscall.SYS_TGKILL, os.Getpid(), pid, 0); err == nil {
					continue
				}
				err := try(pid)
				if err == nil {
					return fmt.Sprintf("process %d", pid), nil
				}
				if !errors.Is(err, syscall.ESRCH) {
					last = err
				}
			}
			return "", last
		}
	}
	// number is that for one system call.
	number := func(number uintptr, arguments func(pid int) []any) func() (string, error) {
		return each(func(pid int) error {
			_, err := system(number, arguments(pid)...)
			return err
		})
	}
	b := []byte{0}
	vector := []uint64{uint64(uintptr(unsafe.Pointer(&b[0]))), 1}
	return group(
		"other boxes",
		way("signal any process", number(syscall.SYS_KILL, func(pid int) []any { return []any{pid, 0} })),
		way("signal all processes", func() (string, error) {
			_, err := system(syscall.SYS_KILL, minusOne, 0)
			return "there are others", err
		}),
		way("signal any thread", number(syscall.SYS_TKILL, func(pid int) []any { return []any{pid, 0} })),
		way("signal a process group", number(syscall.SYS_KILL, func(pid int) []any { return []any{-pid, 0} })),
		way("queue a signal", number(syscall.SYS_RT_SIGQUEUEINFO, func(pid int) []any { return []any{pid, 0, make([]byte, 128)} })),
		way("signal by a descriptor", each(func(pid int) error {
			fd, err := system(sysPidfdOpen, pid, 0)
			if err == nil {
				_, err = system(sysPidfdSendSignal, fd, 0, 0, 0)
			}
			return err
		})),
		way("take a descriptor of another", each(func(pid int) error {
			fd, err := system(sysPidfdOpen, pid, 0)
			if err == nil {
				_, err = system(sysPidfdGetfd, fd, 0, 0)
			}
			return err
		})),
		way("attach to a process by ptrace", number(syscall.SYS_PTRACE, func(pid int) []any { return []any{16, pid, 0, 0} })),
		way("seize a process by ptrace", number(syscall.SYS_PTRACE, func(pid int) []any { return []any{0x4206, pid, 0, 0} })),
		call("be traced", syscall.SYS_PTRACE, 0, 0, 0, 0),
		way("read the memory of a process", number(sysProcessVMReadv, func(pid int) []any { return []any{pid, vector, 1, []uint64{0x400000, 1}, 1, 0} })),
		way("write the memory of a process", number(sysProcessVMWritev, func(pid int) []any { return []any{pid, vector, 1, []uint64{0x400000, 1}, 1, 0} })),
		way("read the memory of a process by /proc", each(func(pid int) error {
			f, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
			if err != nil {
				return err
			}
			_, err = f.ReadAt(b, 0x400000)
			return err
		})),
		way("list the processes of others", each(func(pid int) error {
			_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
			if errors.Is(err, os.ErrNotExist) {
				return syscall.ESRCH
			}
			return err
		})),
		way("compare descriptors with a process", number(sysKcmp, func(pid int) []any { return []any{pid, os.Getpid(), 0, 0, 0} })),
		way("change the limits of a process", number(syscall.SYS_PRLIMIT64, func(pid int) []any { return []any{pid, 7, []uint64{1, 1}, 0} })),
		way("bind a process to a processor", number(syscall.SYS_SCHED_SETAFFINITY, func(pid int) []any { return []any{pid, 8, []uint64{1}} })),
		way("change the priority of a process", number(syscall.SYS_SETPRIORITY, func(pid int) []any { return []any{0, pid, 19} })),
		way("move the memory of a process", number(syscall.SYS_MIGRATE_PAGES, func(pid int) []any { return []any{pid, 64, []uint64{1}, []uint64{1}} })),
		way("find the locks of a process", number(syscall.SYS_GET_ROBUST_LIST, func(pid int) []any { return []any{pid, make([]uint64, 1), make([]uint64, 1)} })),
		way("tell when a process waits, by its session", number(syscall.SYS_GETSID, func(pid int) []any { return []any{pid} })),
		call("make System V shared memory", syscall.SYS_SHMGET, 1, 4096, 0o1666),
		call("make a System V semaphore", syscall.SYS_SEMGET, 1, 1, 0o1666),
		call("make a System V queue", syscall.SYS_MSGGET, 1, 0o1666),
		call("make a POSIX queue", syscall.SYS_MQ_OPEN, "x", 0o102, 0o666, 0),
		call("use the keyring of a user", syscall.SYS_KEYCTL, 0, minusOne-3, 1), // KEYCTL_GET_KEYRING_ID, user keyring
		call("use the keyring of the session", syscall.SYS_KEYCTL, 0, minusOne-2, 1),
		call("join a session of keys", syscall.SYS_KEYCTL, 1, "x"),
		call("add a key", syscall.SYS_ADD_KEY, "user", "x", "x", 1, minusOne-2),
		call("request a key", syscall.SYS_REQUEST_KEY, "user", "x", 0, 0),
		way("read any key by its number", number(syscall.SYS_KEYCTL, func(id int) []any { return []any{11, id << 20, make([]byte, 64), 64} })),
	)
}
