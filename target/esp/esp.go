// Package esp mounts the EFI system partition for as long as something is
// written there, and at no other time. It needs vfat and /run.
package esp

import (
	"errors"
	"os"

	"cloison/linux/mount"
)

const dir = "/run/cloison-esp"

// With mounts the ESP at node for writing, for as long as do takes.
func With(node string, do func(dir string) error) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := mount.Mount(node, dir, "vfat", "nosuid,nodev,noexec,noatime,umask=0077,errors=remount-ro"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mount.Unmount(dir)) }()
	return do(dir)
}
