package main

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"cloison/linux/mount"
)

const (
	programs = "/program"
	root     = "/arena"
	work     = "/test"
)

// run becomes the test, or is its shell; it returns only then, or when it could not.
func run(name string, args []string) error {
	if name == "sh" && len(args) > 1 {
		return shell(args[len(args)-1])
	}
	if len(args) != 2 {
		return errors.New("want FOLDER PROGRAM")
	}
	// The thread that has a mount namespace of its own is the one that executes.
	runtime.LockOSThread()
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		return err
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	for _, m := range []struct{ kind, at, options string }{
		{"tmpfs", "/", "mode=0755"},
		{"proc", "/proc", ""},
		{"sysfs", "/sys", ""},
		{"devtmpfs", "/dev", ""},
		{"tmpfs", "/tmp", "mode=1777"},
	} {
		at := filepath.Join(root, m.at)
		if err := errors.Join(os.MkdirAll(at, 0o755), mount.Mount(m.kind, at, m.kind, m.options)); err != nil {
			return err
		}
	}
	if err := copyPrograms(args[0], root+work); err != nil {
		return err
	}
	if err := errors.Join(os.Mkdir(filepath.Join(root, "bin"), 0o755), copyFile(filepath.Join(root, "bin/sh"), filepath.Join(programs, "arena"))); err != nil {
		return err
	}
	if err := mount.SwitchRoot(root); err != nil {
		return err
	}
	if err := os.Chdir(work); err != nil {
		return err
	}
	program := "./" + args[1]
	return syscall.Exec(program, []string{program}, os.Environ())
}

// copyPrograms copies those whose names begin with the folder's.
func copyPrograms(folder, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(programs)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), folder+".")
		if !ok {
			continue
		}
		if err := copyFile(filepath.Join(to, name), filepath.Join(programs, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}
