// Package cgroup puts processes into groups of the kernel's, limits and counts
// what a group uses, and ends all of it at once. It needs a mounted cgroup2 file
// system, the right to write there, and CONFIG_SWAP for the share of swap.
//
// Source: Linux, Documentation/admin-guide/cgroup-v2.rst; cgroups(7).
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Root is where the file system is mounted.
const Root = "/sys/fs/cgroup"

// Limits of a group. None of them may be zero: what has no limit has no bound.
type Limits struct {
	Memory uint64 // bytes, of all processes and of the kernel's for them; as much again may be swapped out
	PIDs   uint64 // processes and threads
	CPU    uint64 // per cent of one processor: 150 is one and a half
	Weight uint64 // share of the processors when they are busy: 1 to 10000, 100 is the usual
}

// period of CPU limits, in microseconds.
const period = 100_000

// Delegate makes the controllers available to the groups below dir.
func Delegate(dir string, controllers ...string) error {
	err := write(dir, "cgroup.subtree_control", "+"+strings.Join(controllers, " +"))
	if err != nil {
		return fmt.Errorf("cannot delegate controllers below %s: %w", dir, err)
	}
	return nil
}

// Group is one group.
type Group struct {
	path string
	dir  *os.File
}

// Make makes the folder of a group, or takes the one that is there.
func Make(path string) (*Group, error) {
	err := os.Mkdir(path, 0o755)
	if err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("cannot make a control group: %w", err)
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open a control group: %w", err)
	}
	return &Group{path, dir}, nil
}

// Limit sets all limits. A process that exceeds the group's memory ends the
// whole group: half a service is none.
func (g *Group) Limit(l Limits) error {
	if l.Memory == 0 || l.PIDs == 0 || l.CPU == 0 || l.Weight == 0 {
		return fmt.Errorf("cannot limit %s: a limit is missing in %+v", g.path, l)
	}
	for _, f := range []struct{ name, value string }{
		{"memory.max", strconv.FormatUint(l.Memory, 10)},
		{"memory.swap.max", strconv.FormatUint(l.Memory, 10)},
		{"memory.oom.group", "1"},
		{"pids.max", strconv.FormatUint(l.PIDs, 10)},
		{"cpu.weight", strconv.FormatUint(l.Weight, 10)},
	} {
		if err := write(g.path, f.name, f.value); err != nil {
			return fmt.Errorf("cannot limit %s: %w", g.path, err)
		}
	}
	return g.LimitCPU(l.CPU)
}

// LimitCPU sets that limit alone, in per cent of one processor.
func (g *Group) LimitCPU(percent uint64) error {
	if err := write(g.path, "cpu.max", fmt.Sprintf("%d %d", percent*period/100, period)); err != nil {
		return fmt.Errorf("cannot limit %s: %w", g.path, err)
	}
	return nil
}

// Folder is the descriptor of the group's folder, to start a process in it
// (clone3(2), CLONE_INTO_CGROUP).
func (g *Group) Folder() *os.File { return g.dir }

// Kill sends SIGKILL to every process of the group, forks meanwhile included.
func (g *Group) Kill() error {
	if err := write(g.path, "cgroup.kill", "1"); err != nil {
		return fmt.Errorf("cannot end the group %s: %w", g.path, err)
	}
	return nil
}

// Populated tells whether the group or one below it has a live process.
func (g *Group) Populated() (bool, error) {
	fields, err := flat(g.path, "cgroup.events")
	if err != nil {
		return false, err
	}
	return fields["populated"] != 0, nil
}

// Remove takes the group away, which has no process any more.
func (g *Group) Remove() error {
	if err := os.Remove(g.path); err != nil {
		return fmt.Errorf("cannot remove a control group: %w", err)
	}
	return g.Close()
}

// Usage is what a group uses now, and how often it met its limits so far.
type Usage struct {
	Memory     uint64 // bytes
	PIDs       uint64
	OOMKills   uint64 // processes that were ended because memory.max was reached
	PIDsDenied uint64 // forks that were refused because pids.max was reached
}

// Usage reads it.
func (g *Group) Usage() (u Usage, err error) {
	if u.Memory, err = number(g.path, "memory.current"); err != nil {
		return Usage{}, err
	}
	if u.PIDs, err = number(g.path, "pids.current"); err != nil {
		return Usage{}, err
	}
	memory, err := flat(g.path, "memory.events")
	if err != nil {
		return Usage{}, err
	}
	pids, err := flat(g.path, "pids.events")
	if err != nil {
		return Usage{}, err
	}
	u.OOMKills, u.PIDsDenied = memory["oom_kill"], pids["max"]
	return u, nil
}

// Close lets go of the folder; the group stays.
func (g *Group) Close() error { return g.dir.Close() }

// write writes a value to a file that exists.
func write(dir, name, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

func number(dir, name string) (uint64, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return 0, fmt.Errorf("cannot read a control group: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(string(b), "\n"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("cannot parse %s of a control group: %w", name, err)
	}
	return n, nil
}

// flat reads a file of lines "key number".
func flat(dir, name string) (map[string]uint64, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil, fmt.Errorf("cannot read a control group: %w", err)
	}
	fields := map[string]uint64{}
	for line := range strings.Lines(string(b)) {
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		n, err := strconv.ParseUint(value, 10, 64)
		if !ok || err != nil {
			return nil, fmt.Errorf("cannot parse %s of a control group: %q", name, line)
		}
		fields[key] = n
	}
	return fields, nil
}
