package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"cloison/format/seccomp"
	"cloison/format/service"
	"cloison/linux/mount"
	"cloison/linux/namespace"
)

const (
	// rounds is how often each competitor starts; the first few are not counted.
	rounds, warm = 200, 10
	// bound is how many times slower runc has to be at least.
	bound = 3
)

// contender is one way to run the program in a box.
type contender struct {
	Name  string
	Took  []time.Duration // sorted
	args  []string
	files []*os.File // from descriptor 0 on
	first bool       // it is the first process of a PID namespace, in a group made before
}

// run prepares, and starts itself again in a mount namespace of its own, where it
// measures.
func run(ctx context.Context, args []string, out io.Writer) error {
	switch {
	case len(args) == 2 && args[0] == "inside":
		return inside(ctx, args[1], out)
	case len(args) != 0:
		return errors.New("usage: go run ./bench/confine")
	case os.Getuid() != 0:
		return errors.New("cannot make boxes: run it as root")
	}
	dir, err := os.MkdirTemp("", "cloison-bench-confine-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := errors.Join(os.Chmod(dir, 0o755), prepare(ctx, dir)); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c := exec.CommandContext(ctx, self, "inside", dir)
	c.Stderr = os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	text, err := c.Output()
	if err != nil {
		return err
	}
	var all []contender
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	return errors.Join(report(out, all), host(ctx, dir, out))
}

func report(out io.Writer, all []contender) error {
	fmt.Fprintf(out, "start and end of a confined /bin/true, median of %d, %d cores, Linux with its own Landlock\n", rounds, runtime.NumCPU())
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\tmedian\tfastest\t90 %\twant\t")
	wants := map[string]string{"bubblewrap": "not faster than ours", "runc": fmt.Sprintf("at least %d times ours", bound)}
	medians := map[string]time.Duration{}
	for _, c := range all {
		medians[c.Name] = c.Took[len(c.Took)/2]
		ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
		fmt.Fprintf(table, "%s\t%.2f ms\t%.2f ms\t%.2f ms\t%s\t\n", c.Name, ms(medians[c.Name]), ms(c.Took[0]), ms(c.Took[len(c.Took)*9/10]), wants[c.Name])
	}
	if err := table.Flush(); err != nil {
		return err
	}
	ours := medians["cloison"]
	if medians["bubblewrap"] < ours {
		return fmt.Errorf("bubblewrap takes %v, the launcher %v", medians["bubblewrap"], ours)
	}
	if medians["runc"] < bound*ours {
		return fmt.Errorf("runc takes %v, want at least %d times the launcher's %v", medians["runc"], bound, ours)
	}
	return nil
}

// inside makes dir the root and measures.
func inside(ctx context.Context, dir string, out io.Writer) error {
	if err := enter(dir); err != nil {
		return err
	}
	all, err := contenders()
	if err != nil {
		return err
	}
	group, err := os.Open(groups + "/launcher")
	if err != nil {
		return err
	}
	defer group.Close()
	for i := range rounds + warm {
		for j := range all {
			if err := ctx.Err(); err != nil {
				return err
			}
			took, err := all[j].once(group)
			if err != nil {
				return fmt.Errorf("%s: %w", all[j].Name, err)
			}
			if i >= warm {
				all[j].Took = append(all[j].Took, took)
			}
		}
	}
	for _, c := range all {
		slices.Sort(c.Took)
	}
	if err := os.Remove(groups + "/launcher"); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(all)
}

const groups = "/sys/fs/cgroup"

func enter(dir string) error {
	if err := namespace.Isolate(); err != nil {
		return err
	}
	if err := namespace.Bind(dir, dir, 0); err != nil {
		return err
	}
	for _, m := range []struct{ kind, at string }{
		{"proc", "proc"}, {"sysfs", "sys"}, {"cgroup2", "sys/fs/cgroup"}, {"devtmpfs", "dev"}, {"tmpfs", "run"}, {"tmpfs", "tmp"},
	} {
		if err := mount.Mount(m.kind, filepath.Join(dir, m.at), m.kind, "nosuid,noexec"); err != nil {
			return err
		}
	}
	if err := namespace.PivotRoot(dir); err != nil {
		return err
	}
	if err := os.Mkdir(groups+"/launcher", 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

func contenders() ([]contender, error) {
	s := boxed()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	// bubblewrap installs its filter before it executes the program.
	program, err := seccomp.Filter(seccomp.Policy{Groups: s.Seccomp.Groups, Calls: []string{"execve"}, Program: s.Limits.Descriptors})
	if err != nil {
		return nil, err
	}
	var filter []byte
	for _, i := range program {
		filter = binary.LittleEndian.AppendUint16(filter, i.Code)
		filter = append(filter, i.JT, i.JF)
		filter = binary.LittleEndian.AppendUint32(filter, i.K)
	}
	if err := os.WriteFile("/tmp/filter", filter, 0o600); err != nil {
		return nil, err
	}
	standard := []*os.File{null, null, os.Stderr}
	root := service.RootPath(s.Name)
	return []contender{
		{Name: "cloison", args: []string{"/usr/lib/cloison/launcher", s.Name}, files: append(slices.Clone(standard), null), first: true},
		{Name: "bubblewrap", args: []string{
			"/usr/bin/bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup", "--as-pid-1", "--hostname", s.Name,
			// Its only way to a user of the box's own.
			"--unshare-user", "--uid", strconv.Itoa(int(s.ID)), "--gid", strconv.Itoa(int(s.ID)),
			"--ro-bind", root, "/", "--proc", "/proc", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--clearenv", "--chdir", "/", "--seccomp", "3", s.Program,
		}, files: standard},
		{Name: "runc", args: []string{"/usr/sbin/runc", "run", "--bundle", "/bundle", "box"}, files: standard},
	}, nil
}

// once starts the program and waits for its end.
func (c *contender) once(group *os.File) (time.Duration, error) {
	files := slices.Clone(c.files)
	if c.Name == "bubblewrap" {
		// It reads the filter to its end, each time.
		f, err := os.Open("/tmp/filter")
		if err != nil {
			return 0, err
		}
		defer f.Close()
		files = append(files, f)
	}
	var fds []uintptr
	for _, f := range files {
		fds = append(fds, f.Fd())
	}
	attributes := &syscall.ProcAttr{Dir: "/", Files: fds, Env: []string{"PATH=/usr/sbin:/usr/bin"}, Sys: &syscall.SysProcAttr{}}
	if c.first {
		attributes.Env = []string{service.Threads}
		attributes.Sys = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, UseCgroupFD: true, CgroupFD: int(group.Fd())}
	}
	start := time.Now()
	pid, err := syscall.ForkExec(c.args[0], c.args, attributes)
	if err != nil {
		return 0, err
	}
	var status syscall.WaitStatus
	for {
		if _, err = syscall.Wait4(pid, &status, 0, nil); err != syscall.EINTR {
			break
		}
	}
	took := time.Since(start)
	if err == nil && (!status.Exited() || status.ExitStatus() != 0) {
		err = fmt.Errorf("it did not end well: %#x", uint32(status))
	}
	return took, err
}

// runcConfig is the same box in runc's words (OCI runtime specification 1.0).
func runcConfig(s *service.Service) map[string]any {
	type m = map[string]any
	names := []string{"execve", "execveat", "prctl", "openat2", "getdents64", "faccessat2", "fstatfs", "clone3", "clone", "mprotect", "mmap", "socket", "ioctl"}
	for _, g := range seccomp.Groups {
		if slices.Contains(s.Seccomp.Groups, g.Name) {
			names = append(names, g.Calls()...)
		}
	}
	slices.Sort(names)
	var namespaces []m
	for _, n := range strings.Fields("pid network ipc uts mount cgroup") {
		namespaces = append(namespaces, m{"type": n})
	}
	none := []string{}
	return m{
		"ociVersion": "1.0.2",
		"hostname":   s.Name,
		"root":       m{"path": service.RootPath(s.Name), "readonly": true},
		"process": m{
			"terminal": false, "user": m{"uid": s.ID, "gid": s.ID}, "args": []string{s.Program}, "env": none, "cwd": "/", "noNewPrivileges": true,
			"capabilities": m{"bounding": none, "effective": none, "inheritable": none, "permitted": none, "ambient": none},
			"rlimits":      []m{{"type": "RLIMIT_NOFILE", "hard": s.Limits.Descriptors, "soft": s.Limits.Descriptors}},
		},
		"mounts": []m{
			{"destination": "/proc", "type": "proc", "source": "proc"},
			{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "nodev", "noexec", "size=1m"}},
		},
		"linux": m{
			"namespaces": namespaces,
			"seccomp":    m{"defaultAction": "SCMP_ACT_KILL_PROCESS", "architectures": []string{"SCMP_ARCH_X86_64"}, "syscalls": []m{{"names": slices.Compact(names), "action": "SCMP_ACT_ALLOW"}}},
		},
	}
}
