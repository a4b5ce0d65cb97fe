package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"cloison/linux/mount"
	"cloison/test/guest/job"
)

// environment of the commands: there is no udev, so that device-mapper's tools
// make their nodes themselves.
var environment = []string{"PATH=/usr/sbin:/usr/bin", "LC_ALL=C", "DM_DISABLE_UDEV=1", "HOME=/tmp"}

func run() error {
	for _, m := range []struct{ kind, at, options string }{
		{"devtmpfs", "/dev", "mode=0755"},
		{"proc", "/proc", ""},
		{"sysfs", "/sys", ""},
		{"tmpfs", "/run", "mode=0755"},
		{"tmpfs", "/tmp", "mode=0700"},
	} {
		if err := mount.Mount(m.kind, m.at, m.kind, m.options); err != nil {
			return err
		}
	}
	console, err := os.OpenFile("/dev/console", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	os.Stdout = console // the kernel had none to give
	if err := linkDisks(); err != nil {
		return err
	}
	answer, err := os.OpenFile(filepath.Join(job.Disks, job.Answer), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	results, err := work()
	report := job.Report{Results: results}
	if err != nil {
		report.Error = err.Error()
	}
	return errors.Join(job.Write(answer, report), answer.Sync(), answer.Close())
}

// linkDisks gives each disk the name that its serial number is.
func linkDisks() error {
	const class = "/sys/class/block"
	entries, err := os.ReadDir(class)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(job.Disks, 0o755); err != nil {
		return err
	}
	for _, e := range entries {
		serial, err := os.ReadFile(filepath.Join(class, e.Name(), "serial"))
		if errors.Is(err, os.ErrNotExist) {
			continue // a partition
		}
		if err == nil {
			err = os.Symlink("/dev/"+e.Name(), filepath.Join(job.Disks, strings.TrimSpace(string(serial))))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func work() (results []job.Result, err error) {
	text, err := os.ReadFile("/" + job.File)
	if err != nil {
		return nil, err
	}
	var commands []job.Command
	if err := json.Unmarshal(text, &commands); err != nil {
		return nil, err
	}
	for _, c := range commands {
		r, err := one(c)
		if err != nil {
			return results, err
		}
		results = append(results, r)
		if r.Code != 0 && !c.MayFail {
			return results, fmt.Errorf("%s: exit %d: %s%s", strings.Join(c.Args, " "), r.Code, r.Stdout, r.Stderr)
		}
	}
	return results, nil
}

func one(c job.Command) (job.Result, error) {
	if len(c.Args) == 0 {
		return job.Result{}, errors.New("a command without a program")
	}
	var out, said bytes.Buffer
	program := exec.Cmd{Path: c.Args[0], Args: c.Args, Env: environment, Dir: "/", Stdin: bytes.NewReader(c.Stdin), Stdout: &out, Stderr: &said}
	start := time.Now()
	err := program.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return job.Result{}, fmt.Errorf("cannot run %s: %w", c.Args[0], err)
	}
	return job.Result{Stdout: out.Bytes(), Stderr: said.Bytes(), Code: program.ProcessState.ExitCode(), Took: time.Since(start)}, nil
}
