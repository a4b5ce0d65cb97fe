package probe

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"unsafe"
)

// timex is a struct timex that sets the frequency.
var timex = [208]byte{0: 2}

// kernel tries to change the kernel, or to ask parts of it that have often been
// wrong.
func kernel() []Attempt {
	return group(
		"kernel",
		call("load a module from memory", syscall.SYS_INIT_MODULE, []byte("\x7fELF"), 4, ""),
		way("load a module from a file", func() (string, error) {
			if err := create("/tmp/module", []byte("\x7fELF")); err != nil {
				return "", err
			}
			f, err := os.Open("/tmp/module")
			if err != nil {
				return "", err
			}
			_, err = system(sysFinitModule, f.Fd(), "", 0)
			return "it is loaded", err
		}),
		call("remove a module", syscall.SYS_DELETE_MODULE, "virtio_blk", 0),
		call("load another kernel", syscall.SYS_KEXEC_LOAD, 0, 0, 0, 0),
		call("load another kernel from a file", sysKexecFileLoad, minusOne, minusOne, 0, 0, 0),
		call("load a BPF program", sysBPF, 5, make([]byte, 128), 128),
		call("make a BPF map", sysBPF, 0, []uint64{2 | 4<<32, 4 | 1<<32, 0, 0, 0, 0, 0, 0, 0}, 72),
		call("look at an object of BPF", sysBPF, 7, []uint64{0, 0, 0, 0}, 32),
		call("count events by perf", syscall.SYS_PERF_EVENT_OPEN, []uint64{1 | 112<<32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0, minusOne, minusOne, 0),
		call("handle page faults by userfaultfd", sysUserfaultfd, 1),
		call("handle the kernel's page faults by userfaultfd", sysUserfaultfd, 0),
		call("make an io_uring", sysIoUringSetup, 1, make([]byte, 120)),
		call("read the kernel's log", syscall.SYS_SYSLOG, 3, make([]byte, 4096), 4096),
		call("clear the kernel's log", syscall.SYS_SYSLOG, 5, 0, 0),
		call("restart the machine", syscall.SYS_REBOOT, 0xfee1dead, 672274793, 0x01234567, 0),
		call("switch the machine off", syscall.SYS_REBOOT, 0xfee1dead, 672274793, 0x4321fedc, 0),
		call("arm Ctrl-Alt-Del", syscall.SYS_REBOOT, 0xfee1dead, 672274793, 0x89abcdef, 0),
		call("set the clock", syscall.SYS_CLOCK_SETTIME, 0, []uint64{1800000000, 0}),
		call("set the clock by settimeofday", syscall.SYS_SETTIMEOFDAY, []uint64{1800000000, 0}, 0),
		call("make the clock run faster", syscall.SYS_ADJTIMEX, unsafe.Pointer(&timex)),
		call("make the clock run faster by clock_adjtime", sysClockAdjtime, 0, unsafe.Pointer(&timex)),
		call("wake the machine by an alarm", syscall.SYS_TIMERFD_CREATE, 8, 0), // CLOCK_REALTIME_ALARM
		call("look up a cookie of a path", syscall.SYS_LOOKUP_DCOOKIE, 1, make([]byte, 64), 64),
		call("call the NFS server", syscall.SYS_NFSSERVCTL, 0, 0, 0),
		call("read a sysctl by number", syscall.SYS__SYSCTL, make([]byte, 96)),
		call("ask for a system call of x32", 0x40000000+syscall.SYS_GETPID),
		call("ask for a system call that there is not", 9999),
		way("ask for a system call of 32 bits", func() (reached string, err error) {
			// By int 0x80: where the kernel has none, it is a fault.
			debug.SetPanicOnFault(true)
			defer func() {
				if recover() != nil {
					err = errors.New("segmentation fault")
				}
			}()
			return fmt.Sprintf("the kernel answers %d", int80()), nil
		}),
		call("set a memory policy", syscall.SYS_SET_MEMPOLICY, 0, 0, 0),
		call("ask what is in the page cache", sysCachestat, 0, make([]byte, 16), make([]byte, 40), 0),
		call("ask for the state of a mount", sysStatmount, []uint64{32, 1, 1, 0}, make([]byte, 512), 512, 0),
		call("set an extended attribute by the newest call", sysSetxattrat, atFDCWD, "/tmp", 0, "user.x", make([]byte, 16), 16),
		call("change quotas by a descriptor", sysQuotactlFd, 0, 0x800002<<8, 0, 0),
		call("remap pages of a file", syscall.SYS_REMAP_FILE_PAGES, 0, 4096, 0, 0, 0),
	)
}

// int80 is in assembly.
func int80() int32

// exhaustion tries to use up what all services share. What stops it has to be a
// limit of the box: the amounts are far above what any declaration allows, and
// far below what the machine has.
func exhaustion() []Attempt {
	until := func(what string, most int, once func(i int) error) func() (string, error) {
		return func() (string, error) {
			for i := range most {
				if err := once(i); err != nil {
					return "", fmt.Errorf("%w", err)
				}
			}
			return fmt.Sprintf("%d %s", most, what), nil
		}
	}
	return group(
		Wears,
		way("make processes without end", until("processes", 2000, func(int) error {
			r, err := system(syscall.SYS_CLONE, int(syscall.SIGCHLD), 0, 0, 0, 0)
			if err == nil && r == 0 {
				for {
					_, _, _ = syscall.RawSyscall(syscall.SYS_PAUSE, 0, 0, 0)
				}
			}
			return err
		})),
		way("make threads without end", func() (string, error) {
			var stacks [][]byte
			for range 2000 {
				stack := make([]byte, 4096)
				stacks = append(stacks, stack)
				held = append(held, stacks)
				if err := thread(stack); err != nil {
					return "", err
				}
			}
			return "2000 threads", nil
		}),
		way("use memory without end", until("MiB", 160, func(int) error {
			at, err := system(syscall.SYS_MMAP, 0, 1<<20, read|write, private|anonymous, minusOne, 0)
			if err != nil {
				return err
			}
			for p := uintptr(0); p < 1<<20; p += page {
				fill(at+p, []byte{1})
			}
			return nil
		})),
		way("fill /tmp", func() (string, error) { return fillUp("/tmp") }),
		way("fill the state volume", func() (string, error) { return fillUp(state()) }),
		way("make files in /tmp without end", func() (string, error) {
			return until("files", 5000, func(i int) error { return create(fmt.Sprintf("/tmp/%d", i), nil) })()
		}),
		way("write one file without end", func() (string, error) {
			f, err := os.OpenFile(state()+"/long", os.O_WRONLY|os.O_CREATE, 0o600)
			if err != nil {
				return "", err
			}
			defer f.Close() // the service ends with it
			b := make([]byte, 1<<20)
			return until("MiB in one file", 128, func(int) error { _, err := f.Write(b); return err })()
		}),
		way("open descriptors without end", until("descriptors", 5000, func(int) error {
			_, err := system(syscall.SYS_DUP, 0)
			return err
		})),
		way("make pipes without end", until("pipes", 3000, func(int) error {
			_, err := system(syscall.SYS_PIPE2, make([]byte, 8), 0)
			return err
		})),
		way("make one pipe as large as can be", func() (string, error) {
			fds := make([]int32, 2)
			if _, err := system(syscall.SYS_PIPE2, unsafe.Pointer(&fds[0]), 0); err != nil {
				return "", err
			}
			r, err := system(syscall.SYS_FCNTL, uintptr(fds[0]), 1031, 16<<20) // F_SETPIPE_SZ
			return fmt.Sprintf("%d bytes of the kernel's memory", r), err
		}),
		way("lock memory without end", until("MiB locked", 64, func(int) error {
			at, err := system(syscall.SYS_MMAP, 0, 1<<20, read|write, private|anonymous, minusOne, 0)
			if err == nil {
				_, err = system(syscall.SYS_MLOCK, at, 1<<20)
			}
			return err
		})),
		way("make timers without end", until("timers", 20000, func(int) error {
			_, err := system(syscall.SYS_TIMER_CREATE, 1, 0, make([]byte, 8))
			return err
		})),
		way("queue signals without end", until("signals", 20000, func(int) error {
			info := make([]byte, 128)
			info[8] = 0xff // SI_QUEUE is -1
			copy(info[8:], []byte{0xff, 0xff, 0xff, 0xff})
			_, err := system(syscall.SYS_RT_SIGQUEUEINFO, os.Getpid(), 40, info)
			return err
		})),
		way("flood the log", func() (string, error) {
			// All of it may be written: the log drops what is too much, and the
			// machine goes on. What is to be seen is that it does.
			line := bytes.Repeat([]byte("flood "), 170)
			for range 4000 {
				if _, err := os.Stdout.Write(append(line, '\n')); err != nil {
					return "", err
				}
			}
			return "", errors.New("4 MB written, and whoever reads it drops what is too much")
		}),
		way("overflow the stack", func() (string, error) { return strings.Repeat("x", deep(1<<26)), nil }),
	)
}

// deep calls itself n times.
func deep(n int) int {
	if n == 0 {
		return 0
	}
	var frame [64]byte
	frame[n%64] = 1
	return deep(n-1) + int(frame[(n+1)%64])
}

// fillUp writes more than any declaration allows a folder, in files that are
// each within the limit.
func fillUp(folder string) (string, error) {
	b := make([]byte, 4<<10)
	for i := range 2048 {
		f, err := os.OpenFile(fmt.Sprintf("%s/fill%d", folder, i), os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			return "", err
		}
		_, err = f.Write(b)
		if err = errors.Join(err, f.Close()); err != nil {
			return "", err
		}
	}
	return "8 MiB of files", nil
}

// thread makes a thread that sleeps for ever on a stack of its own.
func thread(stack []byte) error {
	top := uintptr(unsafe.Pointer(&stack[0])) + uintptr(len(stack)) - 64
	const flags = syscall.CLONE_VM | syscall.CLONE_FS | syscall.CLONE_FILES | syscall.CLONE_SIGHAND | syscall.CLONE_THREAD | syscall.CLONE_SYSVSEM
	if errno := sleeper(flags, top); errno != 0 {
		return errno
	}
	return nil
}

// sleeper is in assembly: a new thread has no Go runtime around it.
func sleeper(flags, stack uintptr) syscall.Errno
