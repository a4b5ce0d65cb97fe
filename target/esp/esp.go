// Package esp mounts the EFI system partition for as long as something is
// written or read there, and at no other time. It needs vfat and /run.
package esp

import (
	"errors"
	"os"

	"cloison/linux/mount"
)

const dir = "/run/cloison-esp"

const options = "nosuid,nodev,noexec,noatime,umask=0077"

// With mounts the ESP at node for writing, for as long as do takes.
func With(node string, do func(dir string) error) error {
	return with(node, options+",errors=remount-ro", do)
}

// Look mounts the ESP at node for reading only, for as long as do takes.
func Look(node string, do func(dir string) error) error {
	return with(node, options+",ro", do)
}

func with(node, options string, do func(dir string) error) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := mount.Mount(node, dir, "vfat", options); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mount.Unmount(dir)) }()
	return do(dir)
}
