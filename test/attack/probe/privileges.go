package probe

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"unsafe"
)

// capabilityHeader and capabilityData are struct __user_cap_header_struct and
// two __user_cap_data_struct with all capabilities.
var (
	capabilityHeader = [2]uint32{0x20080522, 0}
	capabilityData   = [6]uint32{0xffffffff, 0xffffffff, 0xffffffff, 0x1ff, 0x1ff, 0x1ff}
)

// privileges tries to get rights that the service has not.
func privileges() []Attempt {
	root := func(number uintptr, arguments ...any) func() (string, error) {
		return func() (string, error) {
			_, err := system(number, arguments...)
			return fmt.Sprintf("user %d, group %d", os.Geteuid(), os.Getegid()), err
		}
	}
	const prctl = syscall.SYS_PRCTL
	return group(
		"privileges",
		way("become root by setuid", root(syscall.SYS_SETUID, 0)),
		way("become root by setresuid", root(syscall.SYS_SETRESUID, 0, 0, 0)),
		way("become root by setreuid", root(syscall.SYS_SETREUID, 0, 0)),
		way("become group root by setgid", root(syscall.SYS_SETGID, 0)),
		way("become group root by setresgid", root(syscall.SYS_SETRESGID, 0, 0, 0)),
		way("join group root by setgroups", root(syscall.SYS_SETGROUPS, 1, make([]byte, 4))),
		way("become the user of another service", root(syscall.SYS_SETRESUID, 901, 901, 901)),
		way("look at files as root by setfsuid", func() (string, error) {
			if _, err := system(syscall.SYS_SETFSUID, 0); err != nil {
				return "", err
			}
			now, err := system(syscall.SYS_SETFSUID, minusOne)
			if err != nil {
				return "", err
			}
			return must(now == 0, "files are looked at as root")
		}),
		call("take all capabilities by capset", syscall.SYS_CAPSET, unsafe.Pointer(&capabilityHeader), unsafe.Pointer(&capabilityData)),
		call("raise an ambient capability", prctl, 47, 2, 21, 0, 0), // PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN
		way("have a capability in the bounding set", func() (string, error) {
			for c := range 41 {
				if there, err := system(prctl, 23, c, 0, 0, 0); err != nil { // PR_CAPBSET_READ
					return "", err
				} else if there == 1 {
					return fmt.Sprintf("capability %d could come back", c), nil
				}
			}
			return must(false, "")
		}),
		call("allow scripts without a check again", prctl, 28, 0, 0, 0, 0), // PR_SET_SECUREBITS
		call("keep capabilities over a change of user", prctl, 8, 1, 0, 0, 0),
		call("allow new privileges again", prctl, 38, 0, 0, 0, 0),
		call("become dumpable", prctl, 4, 1, 0, 0, 0),
		call("allow any process to trace this one", prctl, 0x59616d61, minusOne, 0, 0, 0), // PR_SET_PTRACER_ANY
		call("become a subreaper", prctl, 36, 1, 0, 0, 0),
		call("switch speculation mitigations off", prctl, 53, 0, 1<<1, 0, 0), // PR_SPEC_STORE_BYPASS, PR_SPEC_ENABLE
		call("allow the time stamp counter to be hidden", prctl, 26, 2, 0, 0, 0),
		call("put a filter before the filter", sysSeccomp, 1, 0, unsafe.Pointer(&allowAll)),
		call("have a filter ask this process", sysSeccomp, 1, 8, unsafe.Pointer(&allowAll)), // SECCOMP_FILTER_FLAG_NEW_LISTENER
		call("go into strict mode", sysSeccomp, 0, 1, 0),
		call("set an attribute of a security module", sysLsmSetSelfAttr, 100, make([]byte, 32), 32, 0),
		way("read another service's limits", root(syscall.SYS_PRLIMIT64, 1, 7, 0, make([]byte, 16))),
		way("raise its own limit of processes", root(syscall.SYS_PRLIMIT64, 0, 6, []uint64{1 << 20, 1 << 20}, 0)),
		way("raise its own limit of descriptors", root(syscall.SYS_PRLIMIT64, 0, 7, []uint64{1 << 20, 1 << 20}, 0)),
		way("allow itself core dumps", root(syscall.SYS_PRLIMIT64, 0, 4, []uint64{1 << 20, 1 << 20}, 0)),
		way("raise its own limit of file sizes", root(syscall.SYS_PRLIMIT64, 0, 1, []uint64{1 << 40, 1 << 40}, 0)),
		call("run before everybody by sched_setscheduler", syscall.SYS_SCHED_SETSCHEDULER, 0, 1, []byte{50, 0, 0, 0}), // SCHED_FIFO
		call("run before everybody by sched_setattr", sysSchedSetattr, 0, []uint64{48 | 1<<32, 0, 50 << 32, 0, 0, 0}, 0),
		call("run before others by setpriority", syscall.SYS_SETPRIORITY, 0, 0, -20&0xffffffff),
		call("lock all memory", syscall.SYS_MLOCKALL, 3),
		call("read and write before others by ioprio_set", syscall.SYS_IOPRIO_SET, 1, 0, 1<<13), // IOPRIO_CLASS_RT
		way("be killed last", func() (string, error) {
			f, err := os.OpenFile("/proc/self/oom_score_adj", os.O_WRONLY, 0)
			if err != nil {
				return "", err
			}
			_, err = f.WriteString("-1000")
			return "others are killed before it", err
		}),
		way("map users by /proc/self/uid_map", func() (string, error) {
			f, err := os.OpenFile("/proc/self/uid_map", os.O_WRONLY, 0)
			if err != nil {
				return "", err
			}
			_, err = f.WriteString("0 0 4294967295")
			return "it is root of its own", err
		}),
	)
}

// allowAll is a struct sock_fprog of one instruction, which allows all.
var (
	allowing = [1]uint64{0x7fff0000<<32 | 0x06}
	allowAll = struct {
		length uint16
		_      [6]byte
		filter unsafe.Pointer
	}{1, [6]byte{}, unsafe.Pointer(&allowing)}
)

// child makes a child process with flags, which says that it is there and ends.
func child(flags uintptr) (string, error) {
	r, err := system(syscall.SYS_CLONE, flags|uintptr(syscall.SIGCHLD), 0, 0, 0, 0)
	if err != nil {
		return "", err
	}
	if r == 0 {
		// One of two: only system calls from here on.
		_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
	}
	return fmt.Sprintf("a child %d", r), nil
}

var spaces = []struct {
	name string
	flag uintptr
}{
	{"mount", syscall.CLONE_NEWNS},
	{"cgroup", 0x02000000},
	{"UTS", syscall.CLONE_NEWUTS},
	{"IPC", syscall.CLONE_NEWIPC},
	{"user", syscall.CLONE_NEWUSER},
	{"PID", syscall.CLONE_NEWPID},
	{"network", syscall.CLONE_NEWNET},
	{"time", 0x00000080},
}

// namespaces tries to leave the namespaces of the box, or to make new ones.
func namespaces() []Attempt {
	var all []Attempt
	for _, s := range spaces {
		all = append(all, call("unshare the "+s.name+" namespace", syscall.SYS_UNSHARE, s.flag))
		if s.name != "time" { // no flag of clone, only of clone3
			all = append(all, way("clone with a "+s.name+" namespace", func() (string, error) { return child(s.flag) }))
		}
		all = append(all, way("clone3 with a "+s.name+" namespace", func() (string, error) {
			r, err := system(sysClone3, []uint64{uint64(s.flag), 0, 0, 0, uint64(syscall.SIGCHLD), 0, 0, 0}, 64)
			if err == nil && r == 0 {
				_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
			}
			return fmt.Sprintf("a child %d", r), err
		}))
	}
	for _, name := range []string{"mnt", "net", "pid", "user", "uts", "cgroup"} {
		all = append(all, way("enter the "+name+" namespace of process 1", func() (string, error) {
			fd, err := syscall.Open("/proc/1/ns/"+name, syscall.O_RDONLY, 0)
			if err != nil {
				return "", err
			}
			_, err = system(sysSetns, fd, 0)
			return "it is in it", err
		}))
	}
	return group("namespaces", append(
		all,
		call("enter the namespaces of a process by its descriptor", sysSetns, 0, syscall.CLONE_NEWNET|syscall.CLONE_NEWNS),
		way("make a child", func() (string, error) { return child(0) }),
		way("make a child that shares everything but is no thread", func() (string, error) {
			return child(syscall.CLONE_FILES | syscall.CLONE_FS)
		}),
		way("make a child in another control group", func() (string, error) {
			fd, err := syscall.Open("/sys/fs/cgroup", syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
			if err != nil {
				return "", err
			}
			r, err := system(sysClone3, []uint64{1 << 33, 0, 0, 0, uint64(syscall.SIGCHLD), 0, 0, 0, 0, 0, uint64(fd)}, 88)
			if err == nil && r == 0 {
				_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
			}
			return fmt.Sprintf("a child %d", r), err
		}),
		call("set the host name", syscall.SYS_SETHOSTNAME, "changed", 7),
		call("set the domain name", syscall.SYS_SETDOMAINNAME, "changed", 7),
	)...)
}

// mounts tries to change what is mounted, and to leave the root.
func mounts() []Attempt {
	const (
		bind, remount, move, detach = 0x1000, 0x20, 0x2000, 2
	)
	mount := func(name, source, target, kind string, flags uintptr, more ...func() (string, error)) Attempt {
		return way(name, func() (string, error) {
			if _, err := system(syscall.SYS_MOUNT, source, target, kind, flags, ""); err != nil {
				return "", err
			}
			for _, then := range more {
				if _, err := then(); err != nil {
					return "", err
				}
			}
			return "it is mounted", nil
		})
	}
	return group(
		"mounts",
		mount("mount memory over /tmp", "x", "/tmp", "tmpfs", 0),
		mount("mount memory over the root", "x", "/", "tmpfs", 0),
		mount("mount /proc", "x", "/tmp", "proc", 0),
		mount("mount /sys", "x", "/tmp", "sysfs", 0),
		mount("mount all devices", "x", "/tmp", "devtmpfs", 0),
		mount("mount pseudo-terminals", "x", "/tmp", "devpts", 0),
		mount("mount the control groups", "x", "/tmp", "cgroup2", 0),
		mount("mount the control groups of version 1", "x", "/tmp", "cgroup", 0),
		mount("mount debugfs", "x", "/tmp", "debugfs", 0),
		mount("mount tracefs", "x", "/tmp", "tracefs", 0),
		mount("mount securityfs", "x", "/tmp", "securityfs", 0),
		mount("mount the firmware's variables", "x", "/tmp", "efivarfs", 0),
		mount("mount BPF's file system", "x", "/tmp", "bpf", 0),
		mount("mount a disk", "/dev/vda1", "/tmp", "vfat", 0),
		mount("mount an overlay", "x", "/tmp", "overlay", 0),
		mount("bind the root to /tmp", "/", "/tmp", "", bind|syscall.MS_REC),
		mount("make the root writable", "", "/", "", remount),
		mount("make the root's mount writable", "", "/", "", remount|bind),
		mount("make /tmp executable", "", "/tmp", "", remount|bind, written("/tmp/written")),
		mount("make the state volume executable", "", state(), "", remount|bind, written("STATE/written")),
		mount("move a mount", "/tmp", "/usr", "", move),
		mount("share mounts with others again", "", "/", "", syscall.MS_SHARED|syscall.MS_REC),
		call("unmount /tmp", syscall.SYS_UMOUNT2, "/tmp", detach),
		call("unmount /proc", syscall.SYS_UMOUNT2, "/proc", detach),
		call("unmount the root", syscall.SYS_UMOUNT2, "/", detach),
		call("exchange the root by pivot_root", syscall.SYS_PIVOT_ROOT, ".", "."),
		call("clone a tree of mounts by open_tree", sysOpenTree, atFDCWD, "/", 1), // OPEN_TREE_CLONE
		call("clone a tree of mounts by open_tree_attr", sysOpenTreeAttr, atFDCWD, "/", 1, make([]byte, 32), 32),
		call("open a file system by fsopen", sysFsopen, "tmpfs", 0),
		call("open a file system that is mounted by fspick", sysFspick, atFDCWD, "/", 0),
		call("move a mount by move_mount", sysMoveMount, atFDCWD, "/tmp", atFDCWD, "/usr", 0),
		call("change the attributes of a mount", sysMountSetattr, atFDCWD, "/tmp", 0, []uint64{0, 8, 0, 0}, 32), // clear MOUNT_ATTR_NOEXEC
		way("list the mounts of the machine", func() (string, error) {
			b := make([]uint64, 64)
			n, err := system(sysListmount, []uint64{32, minusOne64, 0, 0}, b, 64, 0) // LSMT_ROOT
			return fmt.Sprintf("%d mounts", n), err
		}),
		way("change the root by chroot", func() (string, error) {
			if _, err := system(syscall.SYS_CHROOT, "/tmp"); err != nil {
				return "", err
			}
			return "the root is another", nil
		}),
		way("climb out of a root by chroot", func() (string, error) {
			if err := os.MkdirAll("/tmp/a", 0o700); err != nil {
				return "", err
			}
			if _, err := system(syscall.SYS_CHROOT, "/tmp/a"); err != nil {
				return "", err
			}
			if _, err := system(syscall.SYS_CHDIR, strings.Repeat("../", 60)); err != nil {
				return "", err
			}
			if _, err := system(syscall.SYS_CHROOT, "."); err != nil {
				return "", err
			}
			return beyond("/state/boots")
		}),
		way("open a file of the core by its handle", func() (string, error) {
			handle := make([]byte, 136)
			handle[0] = 128
			at := make([]byte, 4)
			if _, err := system(303, atFDCWD, "/", handle, at, 0); err != nil {
				return "", err
			}
			fd, err := syscall.Open("/", syscall.O_RDONLY, 0)
			if err != nil {
				return "", err
			}
			_, err = system(304, fd, handle, 0)
			return "a file without a path", err
		}),
		call("swap to a file", syscall.SYS_SWAPON, "/tmp/swap", 0),
		call("stop swapping", syscall.SYS_SWAPOFF, "/dev/vda4"),
		call("change quotas", syscall.SYS_QUOTACTL, 0x800002<<8, "/dev/vda4", 0, 0),
		call("account processes to a file", syscall.SYS_ACCT, "/tmp/account"),
		call("watch all of a file system", syscall.SYS_FANOTIFY_INIT, 0, 0),
	)
}

const minusOne64 = ^uint64(0)
