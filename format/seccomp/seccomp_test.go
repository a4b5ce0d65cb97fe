package seccomp

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// call is one system call as a filter sees it (struct seccomp_data).
type call struct {
	arch, number uint32
	arguments    [6]uint64
}

// run is classic BPF as far as our filters use it.
func run(program []Instruction, c call) (uint32, error) {
	var a uint32
	for at := 0; at < len(program); at++ {
		i := program[at]
		taken := false
		switch i.Code {
		case load:
			switch {
			case i.K == offsetNumber:
				a = c.number
			case i.K == offsetArch:
				a = c.arch
			case i.K >= offsetArguments && i.K%4 == 0 && i.K < 64:
				a = uint32(c.arguments[(i.K-offsetArguments)/8] >> (32 * (i.K / 4 % 2)))
			default:
				return 0, fmt.Errorf("load of %d", i.K)
			}
			continue
		case and:
			a &= i.K
			continue
		case jump:
			at += int(i.K)
			continue
		case equal:
			taken = a == i.K
		case atMost:
			taken = a >= i.K
		case ret:
			return i.K, nil
		default:
			return 0, fmt.Errorf("code %#x", i.Code)
		}
		if taken {
			at += int(i.JT)
		} else {
			at += int(i.JF)
		}
	}
	return 0, fmt.Errorf("ran out of the program")
}

func TestFilter(t *testing.T) {
	const x86 = archX86
	nr := func(name string) uint32 {
		n, ok := Number(name)
		if !ok {
			t.Fatalf("no number of %s", name)
		}
		return n
	}
	program, err := Filter(Policy{Groups: []string{"runtime", "internet"}, Calls: []string{"clock_settime"}, Ioctls: []uint32{0x4024700a}, Program: 64})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		call
		want uint32
	}{
		{"read", call{x86, nr("read"), [6]uint64{}}, Allow},
		{"fchroot, the last number", call{x86, nr("fchroot"), [6]uint64{}}, Kill},
		{"a number of the future", call{x86, 473, [6]uint64{}}, Kill},
		{"a number of the far future", call{x86, 0x3fffffff, [6]uint64{}}, Kill},
		{"a negative number", call{x86, 0xffffffff, [6]uint64{}}, Kill},
		{"read of x32", call{x86, x32Bit | nr("read"), [6]uint64{}}, Kill},
		{"read of i386", call{0x40000003, 3, [6]uint64{}}, Kill},
		{"number of read on i386", call{0x40000003, nr("read"), [6]uint64{}}, Kill},
		{"named call", call{x86, nr("clock_settime"), [6]uint64{1, 2}}, Allow},
		{"other call", call{x86, nr("settimeofday"), [6]uint64{}}, Kill},
		{"clone3", call{x86, nr("clone3"), [6]uint64{}}, Missing},
		{"thread", call{x86, nr("clone"), [6]uint64{0x50f00}}, Allow},
		{"thread of libc", call{x86, nr("clone"), [6]uint64{0x3d0f00}}, Allow},
		{"fork", call{x86, nr("clone"), [6]uint64{17}}, Kill},
		{"thread in a new network", call{x86, nr("clone"), [6]uint64{0x50f00 | 0x40000000}}, Kill},
		{"mmap rw", call{x86, nr("mmap"), [6]uint64{0, 4096, 3}}, Allow},
		{"mmap rx", call{x86, nr("mmap"), [6]uint64{0, 4096, 5}}, Kill},
		{"mprotect rwx", call{x86, nr("mprotect"), [6]uint64{0, 4096, 7}}, Kill},
		{"pkey_mprotect", call{x86, nr("pkey_mprotect"), [6]uint64{}}, Kill},
		{"open to read", call{x86, nr("openat"), [6]uint64{0, 0, 0x80000}}, Allow},
		{"open to write", call{x86, nr("openat"), [6]uint64{0, 0, 0x80001}}, Kill},
		{"open to make", call{x86, nr("openat"), [6]uint64{0, 0, 0x40}}, Kill},
		{"open a nameless file", call{x86, nr("openat"), [6]uint64{0, 0, 0x410000}}, Kill},
		{"TCP", call{x86, nr("socket"), [6]uint64{2, 0x80801, 0}}, Allow},
		{"TCP over IPv6", call{x86, nr("socket"), [6]uint64{10, 1, 6}}, Allow},
		{"TCP, rubbish in the upper half", call{x86, nr("socket"), [6]uint64{1<<32 | 10, 1, 6}}, Allow},
		{"UDP", call{x86, nr("socket"), [6]uint64{2, 2, 17}}, Allow},
		{"MPTCP", call{x86, nr("socket"), [6]uint64{2, 1, 262}}, Kill},
		{"ICMP", call{x86, nr("socket"), [6]uint64{2, 2, 1}}, Kill},
		{"raw", call{x86, nr("socket"), [6]uint64{2, 3, 255}}, Kill},
		{"netlink", call{x86, nr("socket"), [6]uint64{16, 3, 0}}, Kill},
		{"packet", call{x86, nr("socket"), [6]uint64{17, 3, 0}}, Kill},
		{"unix", call{x86, nr("socket"), [6]uint64{1, 1, 0}}, Kill},
		{"ioctl of the list", call{x86, nr("ioctl"), [6]uint64{3, 0x4024700a}}, Allow},
		{"TIOCSTI", call{x86, nr("ioctl"), [6]uint64{0, 0x5412}}, Kill},
		{"TIOCSTI, rubbish in the upper half", call{x86, nr("ioctl"), [6]uint64{0, 1<<32 | 0x5412}}, Kill},
		{"a name for the thread", call{x86, nr("prctl"), [6]uint64{15}}, Allow},
		{"dumpable", call{x86, nr("prctl"), [6]uint64{4, 1}}, Kill},
		{"limits of itself", call{x86, nr("prlimit64"), [6]uint64{0, 7}}, Allow},
		{"limits of another", call{x86, nr("prlimit64"), [6]uint64{1, 7}}, Kill},
		{"execution of the program", call{x86, nr("execveat"), [6]uint64{64, 0, 0, 0, 0x1000}}, Allow},
		{"execution of another", call{x86, nr("execveat"), [6]uint64{63, 0, 0, 0, 0x1000}}, Kill},
		{"execution by name", call{x86, nr("execveat"), [6]uint64{64, 0, 0, 0, 0}}, Kill},
		{"execve", call{x86, nr("execve"), [6]uint64{}}, Kill},
	} {
		if got, err := run(program, c.call); got != c.want || err != nil {
			t.Errorf("%s: %#x, %v, want %#x", c.what, got, err, c.want)
		}
	}
}

// TestEveryCall asks a filter about every number, under every group.
func TestEveryCall(t *testing.T) {
	for _, g := range Groups {
		program, err := Filter(Policy{Groups: []string{g.Name}})
		if err != nil {
			t.Errorf("%s: %v", g.Name, err)
			continue
		}
		allowed := map[uint32]bool{}
		for _, r := range g.rules() {
			n, _ := Number(r.call)
			if r.when == nil {
				allowed[n] = true
			}
		}
		for n := range uint32(1000) {
			got, err := run(program, call{archX86, n, [6]uint64{}})
			conditional := slices.ContainsFunc(g.rules(), func(r rule) bool {
				number, _ := Number(r.call)
				return number == n && r.when != nil
			})
			if err != nil || !conditional && (got == Allow) != allowed[n] {
				t.Errorf("%s: number %d: %#x, %v", g.Name, n, got, err)
			}
		}
	}
}

// TestNeverInAGroup names what no group may have, however it grows.
func TestNeverInAGroup(t *testing.T) {
	never := strings.Fields(`ptrace process_vm_readv process_vm_writev mount umount2 pivot_root chroot fchroot unshare setns move_mount open_tree
		fsopen fsconfig fsmount mount_setattr mknod mknodat bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register
		keyctl add_key request_key kexec_load kexec_file_load init_module finit_module delete_module reboot swapon swapoff acct
		setuid setgid setreuid setregid setresuid setresgid setgroups capset sethostname setdomainname ioperm iopl modify_ldt
		personality memfd_create memfd_secret pkey_mprotect open_by_handle_at name_to_handle_at clock_settime clock_adjtime settimeofday adjtimex
		quotactl quotactl_fd file_setattr syslog seccomp landlock_create_ruleset landlock_restrict_self clone3 openat2 pidfd_getfd kcmp process_madvise`)
	for _, name := range never {
		if _, ok := Number(name); !ok {
			t.Errorf("there is no system call %s", name)
		}
		for _, g := range Groups {
			if slices.ContainsFunc(g.rules(), func(r rule) bool { return r.call == name }) {
				t.Errorf("group %s has %s", g.Name, name)
			}
		}
	}
}

func TestUnknown(t *testing.T) {
	for _, p := range []Policy{{Groups: []string{"everything"}}, {Calls: []string{"sudo"}}, {Calls: []string{"socketcall"}}} {
		if program, err := Filter(p); err == nil {
			t.Errorf("Filter(%+v) = %v", p, program)
		}
	}
	for _, c := range numbers {
		if c.number >= numbersEnd {
			t.Errorf("%s has the number %d, the end is %d", c.name, c.number, numbersEnd)
		}
	}
	if !slices.IsSortedFunc(numbers[:], func(a, b struct {
		name   string
		number uint32
	},
	) int {
		return strings.Compare(a.name, b.name)
	}) {
		t.Error("the numbers are not sorted by name")
	}
}

func BenchmarkFilter(b *testing.B) {
	for b.Loop() {
		if _, err := Filter(Policy{Groups: []string{"runtime", "files", "internet"}}); err != nil {
			b.Fatal(err)
		}
	}
}
