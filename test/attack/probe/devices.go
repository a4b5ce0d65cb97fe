package probe

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"syscall"
)

// devices tries to reach hardware and the kernel's own devices.
func devices() []Attempt {
	var all []Attempt
	for _, d := range []struct {
		name         string
		kind         uint32
		major, minor int
	}{
		{"null", syscall.S_IFCHR, 1, 3},
		{"memory", syscall.S_IFCHR, 1, 1},
		{"kernel log", syscall.S_IFCHR, 1, 11},
		{"first disk", syscall.S_IFBLK, 254, 0},
		{"state volume", syscall.S_IFBLK, 253, 2},
		{"serial line", syscall.S_IFCHR, 4, 64},
		{"TPM", syscall.S_IFCHR, 10, 224},
	} {
		for _, folder := range []string{"/tmp", "STATE"} {
			where := folder
			if folder == "STATE" {
				where = "the state volume"
			}
			all = append(all, way("make and open a node of the "+d.name+" in "+where, func() (string, error) {
				path := folder + "/node"
				if folder == "STATE" {
					path = state() + "/node"
				}
				if _, err := system(syscall.SYS_MKNODAT, atFDCWD, path, d.kind|0o666, d.major<<8|d.minor); err != nil {
					return "", err
				}
				f, err := os.OpenFile(path, os.O_RDWR, 0)
				if err != nil {
					return "", err
				}
				return "it is open", f.Close()
			}))
		}
	}
	for _, path := range []string{
		"/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg", "/dev/vda", "/dev/vda4", "/dev/dm-0", "/dev/mapper/control", "/dev/tpm0", "/dev/tpmrm0",
		"/dev/watchdog0", "/dev/console", "/dev/tty", "/dev/ttyS0", "/dev/ptmx", "/dev/rtc0", "/dev/fuse", "/dev/net/tun", "/dev/uinput", "/dev/loop-control",
		"/dev/kvm", "/dev/hpet", "/dev/nvram", "/dev/cpu/0/msr", "/dev/snapshot", "/dev/userfaultfd", "/dev/vhost-net", "/dev/hwrng", "/dev/null",
	} {
		all = append(all, way("open "+path, func() (string, error) {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return "", err
			}
			return "it is open", f.Close()
		}))
	}
	control := func(name string, fd int, command uintptr, arguments ...any) Attempt {
		return call(name, syscall.SYS_IOCTL, append([]any{fd, command}, arguments...)...)
	}
	return group("devices", append(
		all,
		control("type at the terminal by TIOCSTI", 0, 0x5412, "x"),
		control("paste at the console by TIOCLINUX", 0, 0x541c, []byte{3}),
		control("take the terminal", 0, 0x540e, 1),
		control("load a line discipline", 0, 0x5423, make([]byte, 4)),
		control("ask how much there is to read", 0, 0x541b, make([]byte, 4)),
		control("clone a file by its blocks", 1, 0x40049409, 0),
		control("get the attributes of a file", 1, 0x80086601, make([]byte, 8)),
		control("call a command that no driver knows", 1, 0xdead, 0),
		call("use all ports", syscall.SYS_IOPL, 3),
		call("use one port", syscall.SYS_IOPERM, 0x70, 2, 1),
		call("hang the terminal up", syscall.SYS_VHANGUP),
	)...)
}

// procfs tries what /proc and /sys of a careless box offer.
func procfs() []Attempt {
	var all []Attempt
	for _, path := range []string{
		"/proc/1/root/state/boots", "/proc/kcore", "/proc/kmsg", "/proc/kallsyms",
		"/proc/modules", "/proc/keys", "/proc/timer_list", "/proc/cmdline", "/proc/config.gz", "/proc/iomem", "/proc/slabinfo", "/proc/interrupts", "/proc/vmallocinfo",
		"/proc/diskstats", "/proc/mounts", "/proc/net/unix", "/proc/self/pagemap", "/proc/self/stack", "/proc/self/syscall", "/sys/kernel/notes", "/sys/kernel/debug",
		"/sys/kernel/tracing/trace", "/sys/firmware/efi/efivars", "/sys/firmware/acpi/tables", "/sys/fs/bpf", "/sys/class/tpm/tpm0", "/sys/module", "/sys/kernel/security/lockdown",
	} {
		all = append(all, way("read "+path, func() (string, error) { return beyond(path) }))
	}
	texts := map[string]string{
		"/proc/sysrq-trigger": "b", "/proc/sys/kernel/sysrq": "1", "/proc/sys/kernel/core_pattern": "|/tmp/x", "/proc/sys/kernel/modprobe": "/tmp/x",
		"/proc/sys/kernel/hostname": "x", "/proc/sys/vm/memfd_noexec": "0", "/proc/sys/kernel/modules_disabled": "0", "/proc/sys/kernel/yama/ptrace_scope": "0",
		"/proc/sys/kernel/dmesg_restrict": "0", "/proc/sys/vm/overcommit_memory": "1", "/proc/sys/fs/protected_symlinks": "0", "/proc/sys/net/ipv4/ip_forward": "1",
		"/proc/self/setgroups": "allow", "/proc/self/clear_refs": "1", "/proc/self/attr/current": "x", "/proc/irq/default_smp_affinity": "1",
		"/sys/power/state": "mem", "/sys/kernel/uevent_helper": "/tmp/x", "/sys/fs/cgroup/release_agent": "/tmp/x", "/sys/fs/cgroup/cgroup.procs": "0",
		"/sys/fs/cgroup/memory.max": "max", "/sys/fs/cgroup/pids.max": "max", "/sys/module/kernel/parameters/panic": "0", "/sys/bus/pci/rescan": "1",
	}
	for _, path := range slices.Sorted(maps.Keys(texts)) {
		text := texts[path]
		all = append(all, way("write to "+path, func() (string, error) {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return "", err
			}
			_, err = f.WriteString(text)
			return fmt.Sprintf("%q is written", text), err
		}))
	}
	return group("/proc and /sys", append(
		all,
		way("have a program run when a control group is empty", func() (string, error) {
			if err := os.Mkdir("/tmp/cgroup", 0o700); err != nil && !os.IsExist(err) {
				return "", err
			}
			if _, err := system(syscall.SYS_MOUNT, "x", "/tmp/cgroup", "cgroup", 0, "pids"); err != nil {
				return "", err
			}
			return "it would be told by release_agent", os.WriteFile("/tmp/cgroup/release_agent", []byte("/tmp/x"), 0o600)
		}),
		way("leave its control group", func() (string, error) {
			if _, err := system(syscall.SYS_MOUNT, "x", "/tmp", "cgroup2", 0, ""); err != nil {
				return "", err
			}
			return "it is in the first one", os.WriteFile("/tmp/cgroup.procs", []byte("0"), 0)
		}),
		way("lift the limits of its control group", func() (string, error) {
			if _, err := system(syscall.SYS_MOUNT, "x", "/tmp", "cgroup2", 0, ""); err != nil {
				return "", err
			}
			return "memory has no end", os.WriteFile("/tmp/memory.max", []byte("max"), 0)
		}),
	)...)
}
