package confine

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// probe is the service in the box.
func probe(arguments []string) int {
	what, arguments := arguments[0], arguments[1:]
	switch what {
	case "state":
		return state()
	case "descriptors":
		fmt.Println(descriptors())
		fmt.Println(strings.Join(os.Environ(), " "))
	case "network":
		return network()
	case "read":
		f, err := os.Open(arguments[0])
		if err != nil {
			return say(err)
		}
		b := make([]byte, 16)
		if arguments[0] == "/dev/zero" {
			b = b[:1]
		}
		n, err := f.Read(b)
		if err != nil {
			return say(err)
		}
		fmt.Println(string(b[:n]))
	case "write":
		f, err := os.OpenFile(arguments[0], os.O_WRONLY|os.O_CREATE, 0o777)
		if err == nil {
			_, err = f.WriteString("x")
		}
		return say(err)
	case "fill":
		size, _ := strconv.Atoi(arguments[1])
		return say(os.WriteFile(arguments[0], make([]byte, size), 0o600))
	case "spread":
		count, _ := strconv.Atoi(arguments[1])
		size, _ := strconv.Atoi(arguments[2])
		for i := range count {
			if err := os.WriteFile(arguments[0]+"/"+strconv.Itoa(i), make([]byte, size), 0o600); err != nil {
				return say(err)
			}
		}
		return say(nil)
	case "symlink":
		return say(os.Symlink("/", arguments[0]))
	case "list":
		entries, err := os.ReadDir(arguments[0])
		if err != nil {
			return say(err)
		}
		for _, e := range entries {
			fmt.Print(e.Name(), " ")
		}
		fmt.Println()
	case "execute":
		// A whole program, put where it can be written.
		if err := os.WriteFile(arguments[0], []byte("\x7fELF"), 0o777); err != nil {
			return say(err)
		}
		return say(syscall.Exec(arguments[0], arguments, nil))
	default:
		fmt.Println("trying")
		return say(attempt(what))
	}
	return 0
}

func say(err error) int {
	for {
		inner, ok := err.(interface{ Unwrap() error })
		if !ok {
			break
		}
		err = inner.Unwrap()
	}
	if err == nil {
		fmt.Println("ok")
	} else {
		fmt.Println(err)
	}
	return 0
}

// attempt makes one system call that a service has no use for.
func attempt(what string) error {
	call := func(number uintptr, arguments ...uintptr) error {
		var a [6]uintptr
		copy(a[:], arguments)
		if _, _, errno := syscall.RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
			return errno
		}
		return nil
	}
	text := func(s string) uintptr {
		b, _ := syscall.BytePtrFromString(s)
		return uintptr(unsafe.Pointer(b))
	}
	list := []*byte{nil}
	switch what {
	case "mount":
		return call(syscall.SYS_MOUNT, text("tmpfs"), text("/tmp"), text("tmpfs"), 0, 0)
	case "ptrace":
		return call(syscall.SYS_PTRACE, syscall.PTRACE_ATTACH, 2)
	case "unshare":
		return call(syscall.SYS_UNSHARE, syscall.CLONE_NEWNS)
	case "fork":
		return call(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD))
	case "execve":
		return call(syscall.SYS_EXECVE, text("/tmp/x"), uintptr(unsafe.Pointer(&list[0])), uintptr(unsafe.Pointer(&list[0])))
	case "execveat":
		return call(322, 31, text(""), uintptr(unsafe.Pointer(&list[0])), uintptr(unsafe.Pointer(&list[0])), 0x1000)
	case "socket":
		return call(syscall.SYS_SOCKET, syscall.AF_INET, syscall.SOCK_STREAM, 0)
	case "netlink":
		fd, _, errno := syscall.RawSyscall(syscall.SYS_SOCKET, syscall.AF_NETLINK, syscall.SOCK_RAW, 0)
		if errno != 0 {
			return errno
		}
		// Setting the loopback interface up: RTM_NEWLINK of interface 1.
		request := make([]byte, 32)
		request[0], request[4], request[6] = 32, syscall.RTM_NEWLINK, syscall.NLM_F_REQUEST|syscall.NLM_F_ACK
		request[20], request[24], request[28] = 1, syscall.IFF_UP, syscall.IFF_UP
		if err := syscall.Sendto(int(fd), request, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
			return err
		}
		answer := make([]byte, 256)
		n, err := syscall.Read(int(fd), answer)
		if err != nil || n < 20 {
			return fmt.Errorf("answer of %d bytes: %w", n, err)
		}
		if code := -int32(uint32(answer[16]) | uint32(answer[17])<<8 | uint32(answer[18])<<16 | uint32(answer[19])<<24); code != 0 {
			return syscall.Errno(code)
		}
		return nil
	case "keyctl":
		return call(syscall.SYS_KEYCTL, 0, ^uintptr(2), 0)
	case "bpf":
		return call(321, 0, 0, 0)
	case "wx":
		return call(syscall.SYS_MMAP, 0, 4096, syscall.PROT_WRITE|syscall.PROT_EXEC, syscall.MAP_PRIVATE|syscall.MAP_ANON, ^uintptr(0), 0)
	case "mprotect":
		m, err := syscall.Mmap(-1, 0, 4096, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
		if err != nil {
			return err
		}
		return call(syscall.SYS_MPROTECT, uintptr(unsafe.Pointer(&m[0])), 4096, syscall.PROT_READ|syscall.PROT_EXEC)
	case "dumpable":
		return call(syscall.SYS_PRCTL, 4, 1)
	case "setuid":
		return call(syscall.SYS_SETRESUID, 0, 0, 0)
	case "tiocsti":
		return call(syscall.SYS_IOCTL, 0, 0x5412, text("x"))
	case "io_uring":
		return call(425, 1, 0)
	case "x32":
		return call(0x40000000 + syscall.SYS_GETPID)
	case "userfaultfd":
		return call(323, 0)
	case "memfd":
		return call(319, text("x"), 0)
	case "reboot":
		return call(syscall.SYS_REBOOT, 0xfee1dead, 672274793, 0x01234567)
	case "clock":
		now := syscall.Timespec{Sec: 1}
		return call(syscall.SYS_CLOCK_SETTIME, 0, uintptr(unsafe.Pointer(&now)))
	case "chroot":
		return call(syscall.SYS_CHROOT, text("/tmp"))
	case "mknod":
		return call(syscall.SYS_MKNODAT, ^uintptr(99), text("/tmp/null"), syscall.S_IFCHR|0o666, 1<<8|3)
	}
	return fmt.Errorf("nobody knows %q", what)
}

func descriptors() string {
	var open []string
	for fd := range 1024 {
		if _, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0); errno == 0 {
			open = append(open, strconv.Itoa(fd))
		}
	}
	return strings.Join(open, " ")
}

func state() int {
	open := descriptors()
	fmt.Println("descriptors", open)
	fmt.Println("pid", os.Getpid(), "uid", os.Getuid(), os.Geteuid(), "gid", os.Getgid(), os.Getegid())
	fmt.Println("arguments", strings.Join(os.Args, "|"))
	fmt.Println("environment", strings.Join(os.Environ(), "|"))
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return say(err)
	}
	fmt.Print(string(status))
	var name syscall.Utsname
	if err := syscall.Uname(&name); err != nil {
		return say(err)
	}
	var hostname []byte
	for _, c := range name.Nodename {
		if c != 0 {
			hostname = append(hostname, byte(c))
		}
	}
	fmt.Println("hostname", string(hostname))
	for name, option := range map[string]uintptr{"securebits": 27, "mdwe": 66, "dumpable": 3} {
		value, _, _ := syscall.RawSyscall6(syscall.SYS_PRCTL, option, 0, 0, 0, 0, 0)
		fmt.Printf("%s %#x\n", name, value)
	}
	for _, resource := range []int{1, 4, 7, 8} {
		var l syscall.Rlimit
		if err := syscall.Getrlimit(resource, &l); err != nil {
			return say(err)
		}
		fmt.Println("limit", resource, l.Cur, l.Max)
	}
	return 0
}

// network says which interfaces there are, and which namespace it is.
func network() int {
	text, err := os.ReadFile("/proc/self/net/dev")
	if err != nil {
		return say(err)
	}
	fmt.Print("interfaces")
	for _, line := range strings.Split(string(text), "\n") {
		if name, _, ok := strings.Cut(line, ":"); ok {
			fmt.Print(" ", strings.TrimSpace(name))
		}
	}
	fmt.Println()
	name, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return say(err)
	}
	fmt.Println(name)
	return 0
}
