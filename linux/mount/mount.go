// Package mount mounts file systems and moves the root (mount(2), chroot(2)).
package mount

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

var flags = map[string]uintptr{
	"ro":       unix.MS_RDONLY,
	"nodev":    unix.MS_NODEV,
	"nosuid":   unix.MS_NOSUID,
	"noexec":   unix.MS_NOEXEC,
	"noatime":  unix.MS_NOATIME,
	"remount":  unix.MS_REMOUNT,
	"dirsync":  unix.MS_DIRSYNC,
	"relatime": unix.MS_RELATIME,
}

// Mount mounts source at target. Options are separated by commas: flags by
// their usual names (ro, nodev, nosuid, noexec, noatime, relatime, dirsync,
// remount), everything else is for the file system itself.
func Mount(source, target, kind, options string) error {
	var f uintptr
	var data []string
	for o := range strings.SplitSeq(options, ",") {
		if bit, ok := flags[o]; ok {
			f |= bit
		} else if o != "" {
			data = append(data, o)
		}
	}
	if err := unix.Mount(source, target, kind, f, strings.Join(data, ",")); err != nil {
		return fmt.Errorf("cannot mount %s on %s: %w", kind, target, err)
	}
	return nil
}

// Bind makes the folder from appear at to as well, with the restrictions that
// its mount has.
func Bind(from, to string) error {
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cannot bind %s to %s: %w", from, to, err)
	}
	return nil
}

// Unmount unmounts target; it fails while something below it is in use.
func Unmount(target string) error {
	if err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("cannot unmount %s: %w", target, err)
	}
	return nil
}

// ReadOnly makes the mounted file system at target read-only and writes it out.
func ReadOnly(target string) error {
	if err := unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("cannot make %s read-only: %w", target, err)
	}
	return nil
}

// Move moves the mount at from to to.
func Move(from, to string) error {
	if err := unix.Mount(from, to, "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("cannot move %s to %s: %w", from, to, err)
	}
	return nil
}

// SwitchRoot makes the mount at root the root of this process and of all
// that it starts. The old root stays below it, out of reach: the caller has
// emptied it (the initramfs cannot be unmounted).
func SwitchRoot(root string) error {
	// 1. Stand in the new root first: after the move only "." still names it.
	if err := os.Chdir(root); err != nil {
		return fmt.Errorf("cannot enter the new root: %w", err)
	}
	// 2. Lay it over the old one.
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("cannot move the new root to /: %w", err)
	}
	// 3. The process's own root still is the old one.
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("cannot change the root: %w", err)
	}
	// 4. Leave no way back through the working directory.
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("cannot enter /: %w", err)
	}
	return nil
}

// Device returns the device that path lies on.
func Device(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0, fmt.Errorf("cannot look at %s: %w", path, err)
	}
	return st.Dev, nil
}

// Temporary reports whether path lies on a file system in memory (tmpfs or
// ramfs, which is what an initramfs is).
func Temporary(path string) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return false, fmt.Errorf("cannot look at the file system of %s: %w", path, err)
	}
	return st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC, nil
}
