package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"cloison/linux/mount"
	"cloison/linux/quota"
	"cloison/test/quota/hog"
)

const at = "/mnt"

func run(args []string, out io.Writer) error {
	if len(args) == 3 && args[0] == "hog" {
		return take(args[1], args[2], out)
	}
	if len(args) < 2 {
		return errors.New("usage: share NODE OPTIONS STEP…")
	}
	if err := mount.Mount(args[0], at, "ext4", args[1]); err != nil {
		return err
	}
	for _, step := range args[2:] {
		words := strings.Split(step, " ")
		do, ok := steps[words[0]]
		if !ok {
			return fmt.Errorf("no step is called %s", words[0])
		}
		said, err := do(words[1:])
		if err != nil {
			return fmt.Errorf("%s: %w", step, err)
		}
		fmt.Fprintf(out, "%s: %s\n", step, said)
	}
	return mount.Unmount(at)
}

var steps = map[string]func([]string) (string, error){
	"enforced": func([]string) (string, error) {
		counted, held, err := quota.Enforced(at)
		return fmt.Sprint(counted, held), err
	},
	// folder NAME UID makes one that belongs to a user.
	"folder": func(w []string) (string, error) {
		folder := filepath.Join(at, w[0])
		return "made", errors.Join(os.Mkdir(folder, 0o700), os.Chown(folder, number(w[1]), number(w[1])))
	},
	// assign NAME PROJECT
	"assign": func(w []string) (string, error) {
		err := quota.Assign(filepath.Join(at, w[0]), uint32(number(w[1])))
		if errors.Is(err, quota.ErrNotEmpty) {
			return "not empty", nil
		}
		return "done", err
	},
	// limit PROJECT BYTES FILES
	"limit": func(w []string) (string, error) {
		return "done", quota.Limit(at, uint32(number(w[0])), quota.Limits{Bytes: uint64(number(w[1])), Files: uint64(number(w[2]))})
	},
	// use PROJECT
	"use": func(w []string) (string, error) {
		u, l, err := quota.Use(at, uint32(number(w[0])))
		return fmt.Sprintf("%d bytes, %d files of %d, %d", u.Bytes, u.Files, l.Bytes, l.Files), err
	},
	// hog NAME UID WHAT has a user write or make as much as he gets.
	"hog": func(w []string) (string, error) {
		c := exec.Command("/proc/self/exe", "hog", filepath.Join(at, w[0]), w[2])
		id := uint32(number(w[1]))
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
		said, err := c.Output()
		return strings.TrimSpace(string(said)), err
	},
	// remove NAME empties a folder.
	"remove": func(w []string) (string, error) {
		all, err := filepath.Glob(filepath.Join(at, w[0], "*"))
		for _, path := range all {
			err = errors.Join(err, os.Remove(path))
		}
		return fmt.Sprintf("%d files", len(all)), err
	},
}

// number reads one that the test wrote.
func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

// take is the hog itself.
func take(folder, what string, out io.Writer) error {
	var n int
	var stopped error
	if what == "files" {
		n, stopped = hog.Make(folder)
	} else {
		n, stopped = hog.Write(folder)
	}
	_, err := fmt.Fprintf(out, "%d %s, then %v\n", n, what, errors.Unwrap(flat(stopped)))
	return err
}

// flat is the first of errors that were joined.
func flat(err error) error {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		return all.Unwrap()[0]
	}
	return err
}
