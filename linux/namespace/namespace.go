// Package namespace gives a thread namespaces of its own (namespaces(7)), and a
// root made of detached mounts (open_tree(2), move_mount(2), pivot_root(2)). The
// thread must be locked, and must not be used for anything else afterwards.
package namespace

import (
	"errors"
	"fmt"
	"os"
	paths "path"
	"runtime"

	"golang.org/x/sys/unix"
)

// Unshare leaves the mount, UTS, cgroup and IPC namespaces for new ones. A PID
// namespace is made where a process is.
func Unshare() error {
	const flags = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP
	err := unix.Unshare(flags | unix.CLONE_NEWIPC)
	if errors.Is(err, unix.EINVAL) && !hasIPC() {
		err = unix.Unshare(flags)
	}
	if err != nil {
		return fmt.Errorf("cannot make namespaces: %w", err)
	}
	return nil
}

// hasIPC reports whether the kernel has System V IPC or message queues: one
// without has no namespace of them either.
func hasIPC() bool {
	_, _, shared := unix.RawSyscall(unix.SYS_SHMGET, 0, 0, 0)
	_, _, queues := unix.RawSyscall(unix.SYS_MQ_OPEN, 0, 0, 0)
	return shared != unix.ENOSYS || queues != unix.ENOSYS
}

// JoinNetwork enters the network namespace that is kept at path.
func JoinNetwork(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot enter the network namespace %s: %w", path, err)
	}
	defer unix.Close(fd) // only a name
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("cannot enter the network namespace %s: %w", path, err)
	}
	return nil
}

// OwnNetwork enters the network namespace that is kept at path, or makes it,
// empty, and keeps it there. It needs /proc.
func OwnNetwork(path string) error {
	err := JoinNetwork(path)
	if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return err
	}
	// The file is not there, or is none yet: somebody was killed here.
	err = unix.Unshare(unix.CLONE_NEWNET)
	if err == nil {
		err = os.MkdirAll(paths.Dir(path), 0o700)
	}
	if err == nil {
		err = os.WriteFile(path, nil, 0o400)
	}
	if err == nil {
		err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	}
	if err != nil {
		return fmt.Errorf("cannot make the network namespace %s: %w", path, err)
	}
	return nil
}

// KeepNetwork makes an empty network namespace and keeps it at path, which must
// not exist. prepare is called in it, before anybody else can be. It needs /proc.
func KeepNetwork(path string, prepare func() error) error {
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread ends with the goroutine: it is never unlocked.
		runtime.LockOSThread()
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			err = prepare()
		}
		if err == nil {
			err = os.MkdirAll(paths.Dir(path), 0o700)
		}
		if err == nil {
			err = newFile(path)
		}
		if err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		}
	}()
	<-done
	if err != nil {
		return fmt.Errorf("cannot make the network namespace %s: %w", path, err)
	}
	return nil
}

// InNetwork calls do in the network namespace that is kept at path. What it makes
// there, such as a socket, belongs there wherever it is used.
func InNetwork(path string, do func() error) error {
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread ends with the goroutine: it is never unlocked.
		runtime.LockOSThread()
		if err = JoinNetwork(path); err == nil {
			err = do()
		}
	}()
	<-done
	return err
}

func newFile(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return err
	}
	return f.Close()
}

// First reports whether this is the first process of its PID namespace.
func First() bool { return unix.Getpid() == 1 }

// SetHostname sets the name of the UTS namespace.
func SetHostname(name string) error {
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("cannot set the host name: %w", err)
	}
	return nil
}

// Attributes of a mount. Set-user-ID bits count nowhere.
type Attributes uint64

// Attributes.
const (
	ReadOnly  Attributes = unix.MOUNT_ATTR_RDONLY
	NoDevices Attributes = unix.MOUNT_ATTR_NODEV
	NoExec    Attributes = unix.MOUNT_ATTR_NOEXEC
)

// Isolate cuts this namespace's mounts off from those of others: nothing that is
// mounted or unmounted goes from one to the other any more.
func Isolate() error {
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("cannot isolate the mounts: %w", err)
	}
	return nil
}

// Bind puts what is at from, without what is mounted below it, also to to. The
// new mount has its attributes before anybody can see it.
func Bind(from, to string, a Attributes) error {
	fd, err := unix.OpenTree(unix.AT_FDCWD, from, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return fmt.Errorf("cannot take %s: %w", from, err)
	}
	defer unix.Close(fd) // attached by then
	attr := unix.MountAttr{Attr_set: uint64(a) | unix.MOUNT_ATTR_NOSUID}
	if a&ReadOnly == 0 {
		attr.Attr_clr = unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return fmt.Errorf("cannot restrict %s: %w", from, err)
	}
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, to, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("cannot mount %s on %s: %w", from, to, err)
	}
	return nil
}

// CopyDevice makes at to the device that is at from, for its owner alone.
func CopyDevice(from, to string, mode, owner uint32) error {
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return fmt.Errorf("cannot look at %s: %w", from, err)
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFCHR && kind != unix.S_IFBLK {
		return fmt.Errorf("%s is no device", from)
	}
	if err := unix.Mknod(to, kind|mode, int(st.Rdev)); err != nil {
		return fmt.Errorf("cannot make %s: %w", to, err)
	}
	if err := unix.Chown(to, int(owner), int(owner)); err != nil {
		return fmt.Errorf("cannot give %s to its owner: %w", to, err)
	}
	return nil
}

// PivotRoot makes the mount at root the root of this process, and lets go of all
// others in this namespace.
func PivotRoot(root string) error {
	if err := os.Chdir(root); err != nil {
		return fmt.Errorf("cannot enter the new root: %w", err)
	}
	// The old root lands on top of the new one (pivot_root(2), notes), where
	// nothing can look at it before it is gone.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("cannot change the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("cannot let go of the old root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("cannot enter the root: %w", err)
	}
	return nil
}

// Own gives the folder at path, which must be no link, to its owner alone.
func Own(path string, owner uint32) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot open %s: %w", path, err)
	}
	defer unix.Close(fd) // nothing is written
	if err := unix.Fchown(fd, int(owner), int(owner)); err != nil {
		return fmt.Errorf("cannot give %s to its owner: %w", path, err)
	}
	if err := unix.Fchmod(fd, 0o700); err != nil {
		return fmt.Errorf("cannot close %s to others: %w", path, err)
	}
	return nil
}
