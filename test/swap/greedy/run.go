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

	"cloison/linux/cgroup"
	"cloison/linux/mount"
	"cloison/target/swap"
)

const (
	pageSize = 4096
	group    = cgroup.Root + "/greedy"
)

func run(args []string, out io.Writer) error {
	switch {
	case len(args) == 2 && args[0] == "take":
		return take(args[1])
	case len(args) < 3:
		return errors.New("usage: greedy PARTITION LIMIT MIB…")
	}
	limit, err := strconv.ParseUint(args[1], 10, 20)
	if err != nil {
		return err
	}
	if _, err := swap.Open(args[0]); err != nil {
		return err
	}
	if err := mount.Mount("cgroup2", cgroup.Root, "cgroup2", ""); err != nil {
		return err
	}
	if err := cgroup.Delegate(cgroup.Root, "cpu", "memory", "pids"); err != nil {
		return err
	}
	g, err := cgroup.Make(group)
	if err != nil {
		return err
	}
	if err := g.Limit(cgroup.Limits{Memory: limit << 20, PIDs: 50, CPU: 100, Weight: 100}); err != nil {
		return err
	}
	for _, size := range args[2:] {
		c := exec.Command("/proc/self/exe", "take", size)
		c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(g.Folder().Fd())}
		how := "done"
		if err := c.Run(); err != nil {
			how = err.Error()
		}
		usage, err := g.Usage()
		if err != nil {
			return err
		}
		peak, err := os.ReadFile(filepath.Join(group, "memory.swap.peak"))
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "%s %d %s\n", strings.ReplaceAll(how, " ", "-"), usage.OOMKills, strings.TrimSpace(string(peak))); err != nil {
			return err
		}
	}
	return nil
}

// take writes to each page of so much memory: the kernel keeps pages of zeros
// without swapping them out.
func take(mib string) error {
	size, err := strconv.ParseUint(mib, 10, 20)
	if err != nil {
		return err
	}
	memory := make([]byte, size<<20)
	for at := 0; at < len(memory); at += pageSize {
		copy(memory[at:], fmt.Appendf(nil, "page %d", at))
	}
	return nil
}
