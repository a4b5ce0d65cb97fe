package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"strings"
	"syscall"
)

func splitLines(s string) iter.Seq[string] { return strings.SplitSeq(s, "\n") }

// states are the folders of the state volume that a service may have.
var states = []string{"/state/probe", "/state/time", "/state/log", "/state/entropy", "/var/lib/probe"}

// state is the one that this service has.
func state() string {
	for _, path := range states {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return states[0]
}

func written(name string) func() (string, error) {
	return func() (string, error) {
		path := strings.Replace(name, "STATE", state(), 1)
		if err := create(path, program()); err != nil {
			return "", err
		}
		return execute(path)
	}
}

// files tries to execute a file that was written, and to change what is
// executed.
func files() []Attempt {
	script := func(folder, interpreter string) func() (string, error) {
		return func() (string, error) {
			path := strings.Replace(folder, "STATE", state(), 1) + "/script"
			if err := create(path, []byte("#!"+interpreter+"\n")); err != nil {
				return "", err
			}
			return execute(path)
		}
	}
	const own = "/usr/lib/cloison/probe"
	return group(
		"files",
		way("execute a file written to the root", written("/written")),
		way("execute a file written beside the program", written("/usr/lib/cloison/written")),
		way("execute a file written to /etc", written("/etc/written")),
		way("execute a file written to /tmp", written("/tmp/written")),
		way("execute a file written to the state volume", written("STATE/written")),
		way("execute a file written to /dev", written("/dev/written")),
		way("execute a file written to /dev/shm", written("/dev/shm/written")),
		way("execute a file written to /run", written("/run/written")),
		way("execute a file written to /proc", written("/proc/written")),
		way("execute a file written to /sys", written("/sys/written")),
		way("execute a written file by its descriptor", func() (string, error) {
			if err := create("/tmp/written", program()); err != nil {
				return "", err
			}
			f, err := os.Open("/tmp/written")
			if err != nil {
				return "", err
			}
			_, err = system(sysExecveat, f.Fd(), "", []uint64{0}, []uint64{0}, emptyPath)
			return "", err
		}),
		way("execute a written file through /proc/self/fd", func() (string, error) {
			if err := create("/tmp/written", program()); err != nil {
				return "", err
			}
			f, err := os.Open("/tmp/written")
			if err != nil {
				return "", err
			}
			return execute(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		}),
		way("execute a file without a name", func() (string, error) {
			fd, err := syscall.Open("/tmp", syscall.O_RDWR|0x410000, 0o700) // O_TMPFILE
			if err != nil {
				return "", err
			}
			if _, err := syscall.Write(fd, program()); err != nil {
				return "", err
			}
			_, err = system(sysExecveat, fd, "", []uint64{0}, []uint64{0}, emptyPath)
			return "", err
		}),
		way("execute a written file through the dynamic loader", func() (string, error) {
			if err := create("/tmp/written", program()); err != nil {
				return "", err
			}
			return execute("/lib64/ld-linux-x86-64.so.2", "/tmp/written")
		}),
		way("execute this program once more", func() (string, error) { return execute("/proc/self/exe", again) }),
		way("execute this program once more by its name", func() (string, error) { return execute(own, again) }),
		way("execute the program of PID 1", func() (string, error) { return execute("/usr/lib/cloison/init") }),
		way("execute the launcher", func() (string, error) { return execute("/usr/lib/cloison/launch", "console") }),
		way("execute a shell", func() (string, error) { return execute("/bin/sh") }),
		way("execute a script of /tmp", script("/tmp", own)),
		way("execute a script of the state volume", script("STATE", own)),
		way("execute a script of /tmp with a written interpreter", func() (string, error) {
			if err := create("/tmp/interpreter", program()); err != nil {
				return "", err
			}
			return script("/tmp", "/tmp/interpreter")()
		}),
		way("write to this program", func() (string, error) {
			f, err := os.OpenFile(own, os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteString("x")
			}
			return "the program is another", err
		}),
		way("read this program", func() (string, error) {
			b, err := os.ReadFile(own)
			return fmt.Sprintf("%d bytes to look for weak places in", len(b)), err
		}),
		way("delete this program", func() (string, error) { return "it is gone", os.Remove(own) }),
		way("rename this program", func() (string, error) { return "it is elsewhere", os.Rename(own, own+"2") }),
		way("link this program into /tmp", func() (string, error) { return "it is there as well", os.Link(own, "/tmp/link") }),
		way("make a set-user-ID file and execute it", func() (string, error) {
			if err := create("/tmp/setuid", program()); err != nil {
				return "", err
			}
			if err := os.Chmod("/tmp/setuid", 0o777|fs.ModeSetuid); err != nil {
				return "", err
			}
			return execute("/tmp/setuid")
		}),
		way("give a file capabilities", func() (string, error) {
			if err := create("/tmp/capable", program()); err != nil {
				return "", err
			}
			value := []byte{0x01, 0, 0, 2, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0} // VFS_CAP_REVISION_2, effective
			return "it has all of them", syscall.Setxattr("/tmp/capable", "security.capability", value, 0)
		}),
		way("make a symbolic link out of the root", func() (string, error) {
			if err := os.Symlink("/proc/1/root", "/tmp/out"); err != nil {
				return "", err
			}
			entries, err := os.ReadDir("/tmp/out/state")
			return fmt.Sprintf("%d entries of the state volume", len(entries)), err
		}),
		way("climb out of the root by ..", func() (string, error) { return beyond("/" + strings.Repeat("../", 60) + "state/boots") }),
		way("read the state volume", func() (string, error) { return beyond("/state/boots") }),
		way("read the folder of the machine's identity", func() (string, error) { return beyond("/state/identity/host-key.pem") }),
		way("read the state of another service", func() (string, error) { return beyond("/state/services") }),
		way("read the declarations of the services", func() (string, error) { return beyond("/usr/lib/cloison/services") }),
		way("read the note of the initramfs", func() (string, error) { return beyond("/run/cloison/boot") }),
		way("list the sockets of all services", func() (string, error) { return beyond("/run/services") }),
		way("enter another's network namespace by its file", func() (string, error) { return beyond("/run/netns") }),
		way("use a descriptor that was left open", func() (string, error) {
			var open []string
			for fd := 3; fd < 4096; fd++ {
				if _, err := system(syscall.SYS_FCNTL, fd, syscall.F_GETFD, 0); err != nil {
					continue
				}
				// Go's own are an epoll and an eventfd: no files.
				if target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil && strings.HasPrefix(target, "anon_inode:") {
					continue
				}
				if kind := kindOf(fd); kind != "" {
					open = append(open, fmt.Sprintf("%d (%s)", fd, kind))
				}
			}
			if len(open) == 0 {
				return "", errors.New("there is none")
			}
			return strings.Join(open, ", "), nil
		}),
	)
}

// kindOf tells what a descriptor is, or "" for those that have no type, as an
// epoll or eventfd has not.
func kindOf(fd int) string {
	var s syscall.Stat_t
	if err := syscall.Fstat(fd, &s); err != nil {
		return ""
	}
	return map[uint32]string{
		syscall.S_IFREG: "file", syscall.S_IFDIR: "folder", syscall.S_IFCHR: "device", syscall.S_IFBLK: "disk",
		syscall.S_IFIFO: "pipe", syscall.S_IFSOCK: "socket",
	}[s.Mode&syscall.S_IFMT]
}

// beyond looks at something that is outside of every box.
func beyond(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close() // only read
	if entries, err := f.ReadDir(-1); err == nil {
		return must(len(entries) > 0, fmt.Sprintf("%d entries", len(entries)))
	}
	b := make([]byte, 1<<10)
	n, err := f.Read(b)
	return fmt.Sprintf("%d bytes", n), err
}
