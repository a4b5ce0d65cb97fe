package supervise

import (
	"errors"
	"fmt"
	"os"

	"cloison/linux/cgroup"
	"cloison/linux/efivar"
	"cloison/linux/kmsg"
	"cloison/linux/mount"
	"cloison/linux/sysctl"
)

// mounts is what is mounted in the core, in this order. /dev, /run and /sys with
// the EFI variables come from the initramfs; all places but those below /dev, /run and /sys are folders of
// the verified image.
var mounts = []struct{ kind, at, options, why string }{
	{"proc", "/proc", "nosuid,nodev,noexec,hidepid=invisible", "a process sees only its own user's"},
	{"sysfs", "/sys", "remount,nosuid,nodev,noexec,ro", "nobody configures devices by files"},
	{"cgroup2", cgroup.Root, "nosuid,nodev,noexec,nsdelegate", "groups of the services; PID 1 alone sees them"},
	{"efivarfs", efivar.Dir, "remount,nosuid,nodev,noexec,ro", "Secure Boot's state; written by nobody"},
	{"devtmpfs", "/dev", "remount,nosuid,noexec,mode=0755", "device nodes, nothing to execute"},
	{"devpts", "/dev/pts", "nosuid,noexec,mode=0600,ptmxmode=0000", "terminals; none can be opened yet"},
	{"tmpfs", "/dev/shm", "nosuid,nodev,noexec,mode=1777,size=16m", "POSIX shared memory"},
	{"tmpfs", "/run", "remount,nosuid,nodev,noexec,mode=0755,size=16m", "state until the next boot"},
	{"tmpfs", "/tmp", "nosuid,nodev,noexec,mode=1777,size=64m", "scratch files until the next boot"},
}

func mountAll() error {
	for _, m := range mounts {
		if m.at == "/dev/pts" || m.at == "/dev/shm" {
			if err := os.MkdirAll(m.at, 0o755); err != nil {
				return fmt.Errorf("cannot make %s: %w", m.at, err)
			}
		}
		if err := mount.Mount(m.kind, m.at, m.kind, m.options); err != nil {
			return err
		}
	}
	return nil
}

// parameter is one of the kernel's. One that the kernel does not have is an error,
// unless absent says why it may be missing.
type parameter struct{ name, value, why, absent string }

// sysctls is what is set for the whole system.
var sysctls = []parameter{
	// What the kernel tells.
	{"kernel.kptr_restrict", "2", "no kernel addresses, not even to root", ""},
	{"kernel.dmesg_restrict", "1", "its log is not for services", ""},
	{"kernel.perf_event_paranoid", "3", "no counters without privilege", "perf is not built in"},
	{"kernel.unprivileged_bpf_disabled", "1", "no BPF programs without privilege", "BPF is not built in"},
	{"net.core.bpf_jit_harden", "2", "constants in compiled filters are blinded", "the BPF compiler is not built in"},
	{"kernel.printk", kmsg.ConsoleLevels, "the console shows what its reader must see", ""},
	// What is closed for good.
	{"kernel.modules_disabled", "1", "nothing is loaded any more", "modules are not built in"},
	{"kernel.kexec_load_disabled", "1", "no second kernel", "kexec is not built in"},
	{"kernel.sysrq", "0", "no commands by a key or a break", "it is not built in"},
	{"kernel.ftrace_enabled", "0", "no tracing of the kernel", "tracing is not built in"},
	// What a process may do to another.
	{"kernel.yama.ptrace_scope", "3", "nobody traces, and nobody takes this back", ""},
	{"kernel.io_uring_disabled", "2", "it escapes seccomp", "io_uring is not built in"},
	{"user.max_user_namespaces", "0", "most escapes begin there", "user namespaces are not built in"},
	{"dev.tty.ldisc_autoload", "0", "no line disciplines by request", ""},
	{"dev.tty.legacy_tiocsti", "0", "no typing into another's terminal", ""},
	// Memory.
	{"kernel.randomize_va_space", "2", "stack, mappings and heap at random places", ""},
	{"vm.mmap_min_addr", "65536", "a null pointer stays one", ""},
	{"vm.mmap_rnd_bits", "32", "the most random bits that x86-64 takes", ""},
	{"vm.memfd_noexec", "2", "what can be written is not executed: memfd is no way around it", ""},
	{"vm.unprivileged_userfaultfd", "0", "it stretches races", "userfaultfd is not built in"},
	{"fs.suid_dumpable", "0", "no memory of privileged programs on a disk", ""},
	// Files.
	{"fs.protected_symlinks", "1", "no following planted links in shared folders", ""},
	{"fs.protected_hardlinks", "1", "no linking to others' files", ""},
	{"fs.protected_fifos", "2", "no planted pipes in shared folders", ""},
	{"fs.protected_regular", "2", "no planted files in shared folders", ""},
	// A broken kernel does not limp.
	{"kernel.panic", "-1", "restart at once", ""},
	{"kernel.panic_on_oops", "1", "an oops is a panic", ""},
}

// networkSysctls is what is set in each network namespace: the initial one and
// those with a name. The empty ones have no use for them.
var networkSysctls = []parameter{
	// No routing, no redirects, no sources that cannot be.
	{"net.ipv4.ip_forward", "0", "no router", ""},
	{"net.ipv4.conf.all.rp_filter", "1", "no packets from where they cannot come from", ""},
	{"net.ipv4.conf.default.rp_filter", "1", "likewise", ""},
	{"net.ipv4.conf.all.accept_redirects", "0", "others do not change our routes", ""},
	{"net.ipv4.conf.default.accept_redirects", "0", "likewise", ""},
	{"net.ipv4.conf.all.secure_redirects", "0", "not even gateways", ""},
	{"net.ipv4.conf.default.secure_redirects", "0", "likewise", ""},
	{"net.ipv4.conf.all.send_redirects", "0", "we change no one's routes", ""},
	{"net.ipv4.conf.default.send_redirects", "0", "likewise", ""},
	{"net.ipv4.conf.all.accept_source_route", "0", "the sender does not choose the way", ""},
	{"net.ipv4.conf.default.accept_source_route", "0", "likewise", ""},
	{"net.ipv4.conf.all.log_martians", "1", "impossible sources are logged", ""},
	{"net.ipv4.icmp_echo_ignore_broadcasts", "1", "no amplifier", ""},
	{"net.ipv4.tcp_syncookies", "1", "a flood does not fill the table", ""},
	{"net.ipv4.tcp_rfc1337", "1", "no killing of closing connections", ""},
	{"net.ipv6.conf.all.forwarding", "0", "no router", ""},
	{"net.ipv6.conf.all.accept_ra", "0", "no configuration from the link", ""},
	{"net.ipv6.conf.default.accept_ra", "0", "likewise", ""},
	{"net.ipv6.conf.all.accept_redirects", "0", "others do not change our routes", ""},
	{"net.ipv6.conf.default.accept_redirects", "0", "likewise", ""},
	{"net.ipv6.conf.all.accept_source_route", "0", "the sender does not choose the way", ""},
	{"net.ipv6.conf.default.accept_source_route", "0", "likewise", ""},
	// IPv6 comes with the firewall that knows it: until then no interface has an
	// address that nobody gave it.
	{"net.ipv6.conf.all.disable_ipv6", "1", "no addresses by themselves", ""},
	{"net.ipv6.conf.default.disable_ipv6", "1", "likewise", ""},
}

func setSysctls(root string, all []parameter) error {
	for _, s := range all {
		err := sysctl.Set(root, s.name, s.value)
		if s.absent != "" && errors.Is(err, sysctl.ErrMissing) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%w (it is wanted because: %s)", err, s.why)
		}
	}
	return nil
}
