package seccomp

import "slices"

// The values below are those of the kernel's headers for x86-64.
const (
	cloneThread = 0x00010000 // CLONE_THREAD
	cloneSpaces = 0x7e020000 // CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET
	protExec    = 0x4        // PROT_EXEC
	openWrites  = 0x3 | 0x40 | 0x200 | 0x400000
	emptyPath   = 0x1000 // AT_EMPTY_PATH

	unixFamily, inet, inet6, netlink = 1, 2, 10, 16
	stream, datagram, raw            = 1, 2, 3
	tcp, udp                         = 6, 17
	typeMask                         = 0xf // SOCK_TYPE_MASK
	int32Mask                        = 0xffffffff
)

// condition holds when the argument, with the mask, is the value.
type condition struct {
	argument    int
	mask, value uint64
}

// rule allows a system call when all conditions hold.
type rule struct {
	call string
	when []condition
}

// Group is a named set of rules.
type Group struct {
	Name  string
	About string
	rules func() []rule
}

// Calls returns the names of the system calls that a group allows, at least with
// some arguments, each once.
func (g Group) Calls() []string {
	var names []string
	for _, r := range g.rules() {
		if !slices.Contains(names, r.call) {
			names = append(names, r.call)
		}
	}
	return names
}

func plain(calls ...string) []rule {
	var rules []rule
	for _, c := range calls {
		rules = append(rules, rule{call: c})
	}
	return rules
}

// values allows a call for some values of one 32-bit argument.
func values(call string, argument int, allowed ...uint64) []rule {
	var rules []rule
	for _, v := range allowed {
		rules = append(rules, rule{call, []condition{{argument, int32Mask, v}}})
	}
	return rules
}

// internet allows TCP and UDP of one family, and neither MPTCP, which Landlock
// does not know, nor ICMP, nor raw sockets.
func internet(family uint64) []rule {
	var rules []rule
	for _, s := range []struct{ kind, protocol uint64 }{{stream, 0}, {stream, tcp}, {datagram, 0}, {datagram, udp}} {
		rules = append(rules, rule{"socket", []condition{{0, int32Mask, family}, {1, typeMask, s.kind}, {2, int32Mask, s.protocol}}})
	}
	return rules
}

func join(parts ...[]rule) []rule {
	var rules []rule
	for _, p := range parts {
		rules = append(rules, p...)
	}
	return rules
}

// Groups are all that there are.
var Groups = []Group{
	{"runtime", "what any program needs: memory that is not executable, threads, time, waiting, the descriptors that it has, reading files", func() []rule {
		return join(
			plain("read", "readv", "write", "writev", "close", "close_range", "dup", "dup3", "fcntl", "pipe2",
				"fstat", "newfstatat", "statx", "lseek", "readlinkat", "pread64", "preadv",
				"brk", "munmap", "madvise", "mincore", "mremap", "mlock", "munlock",
				"futex", "set_robust_list", "set_tid_address", "rseq", "membarrier",
				"arch_prctl", "sched_yield", "sched_getaffinity", "getcpu", "exit", "exit_group",
				"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "sigaltstack", "restart_syscall", "tgkill",
				"nanosleep", "clock_nanosleep", "clock_gettime", "clock_getres", "gettimeofday", "time",
				"timer_create", "timer_settime", "timer_delete", "setitimer", "timerfd_create", "timerfd_settime",
				"epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_wait", "ppoll", "poll", "pselect6", "eventfd2", "signalfd4",
				"getpid", "getppid", "gettid", "getuid", "geteuid", "getgid", "getegid", "getrandom", "uname", "getcwd"),
			// A socket that it was handed is used by these.
			plain("accept4", "recvfrom", "recvmsg", "recvmmsg", "sendto", "sendmsg", "sendmmsg", "shutdown", "getsockname", "getpeername", "getsockopt", "setsockopt"),
			// Neither new memory nor old becomes executable.
			[]rule{{"mmap", []condition{{2, protExec, 0}}}, {"mprotect", []condition{{2, protExec, 0}}}},
			// Threads, no processes and no namespaces.
			[]rule{{"clone", []condition{{0, cloneThread | cloneSpaces, cloneThread}}}},
			// Reading; O_PATH, too.
			[]rule{{"openat", []condition{{2, openWrites, 0}}}, {"open", []condition{{1, openWrites, 0}}}},
			plain("access", "faccessat", "stat", "lstat", "readlink"),
			// Limits and names of itself only.
			values("prlimit64", 0, 0), plain("getrlimit"),
			values("prctl", 0, 15, 16, 0x53564d41), // PR_SET_NAME, PR_GET_NAME, PR_SET_VMA
		)
	}},
	{"directories", "listing folders", func() []rule {
		return plain("getdents64")
	}},
	{"files", "writing, making and removing files where root and Landlock let it", func() []rule {
		return plain(
			"openat", "open", "pwrite64", "pwritev", "ftruncate", "fsync", "fdatasync", "sync_file_range", "fallocate", "flock", "fadvise64",
			"mkdirat", "mkdir", "unlinkat", "unlink", "rmdir", "renameat", "renameat2", "rename", "linkat", "symlinkat", "fchmod", "fchmodat", "utimensat",
			"getdents64", "copy_file_range", "sendfile", "splice", "statfs", "fstatfs", "umask")
	}},
	{"unix", "sockets to other services", func() []rule {
		return join(
			[]rule{
				{"socket", []condition{{0, int32Mask, unixFamily}}},
				{"socketpair", []condition{{0, int32Mask, unixFamily}}},
			},
			plain("connect"))
	}},
	{"internet", "TCP and UDP", func() []rule {
		return join(
			internet(inet), internet(inet6),
			plain("connect", "bind"))
	}},
	{"netlink", "asking and, with CAP_NET_ADMIN, changing its network namespace", func() []rule {
		return join(
			[]rule{{"socket", []condition{{0, int32Mask, netlink}, {1, typeMask, raw}, {2, int32Mask, 0}}}}, // NETLINK_ROUTE
			plain("bind"))
	}},
	{"listen", "waiting for connections at sockets that it makes", func() []rule {
		return plain("bind", "listen")
	}},
	{"libraries", "the dynamic linker of a C program: memory that is executable from a file that is", func() []rule {
		return join(
			[]rule{{"mmap", nil}, {"mprotect", nil}},
			plain("getdents64", "statfs"))
	}},
	{"terminal", "the settings of a terminal", func() []rule {
		return join(
			// TCGETS, TCSETS, TCSETSW, TCSETSF, TIOCGWINSZ
			values("ioctl", 1, 0x5401, 0x5402, 0x5403, 0x5404, 0x5413))
	}},
	{"processes", "starting other programs of its root", func() []rule {
		return plain(
			"clone", "fork", "vfork", "execve", "wait4", "waitid", "kill", "pidfd_open", "pidfd_send_signal", "setpgid", "getpgid", "setsid")
	}},
}

// missing are calls that programs try first and do without: they are told that
// the kernel does not have them (ENOSYS). clone3 and openat2 hide their flags in
// memory, where no filter sees them.
var missing = []string{"clone3", "openat2", "faccessat2", "epoll_pwait2", "fchmodat2"}
