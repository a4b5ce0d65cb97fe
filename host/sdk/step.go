package sdk

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"cloison/format/hint"
)

// Bind puts a host path at a path inside.
type Bind struct {
	Host   string
	Inside string
}

// Step is one program run inside the SDK, in its own user, mount, pid, net,
// ipc and uts namespaces, without network unless it asks. What is not named is
// not there.
type Step struct {
	Args     []string // program and arguments; looked up in the SDK's PATH
	Env      []string // KEY=value, added to a fixed minimal environment
	Dir      string   // working directory inside; / if empty
	ReadOnly []string // host paths bound read-only at the same path
	Writable []string // host paths bound writable at the same path
	// Inputs and Outputs are bound at a path of their own: what ends up in a
	// build must not depend on where the builder's home is.
	Inputs  []Bind   // read-only
	Outputs []Bind   // writable
	Devices []string // device nodes, e.g. /dev/kvm
	// Network leaves it the host's network: for machines that tests talk to.
	Network bool
	Stdin   io.Reader
	Stdout  io.Writer // nil: discarded
	Stderr  io.Writer // nil: kept, and its tail told when the step fails
}

// search is PATH inside; clang's unversioned names come last on purpose.
const search = "/usr/sbin:/usr/bin:/usr/lib/llvm-22/bin"

// Command returns the step as a command that is not started yet. Killing it
// kills everything inside: bwrap is init of the pid namespace, and dies with
// the thread that started it.
func (s *SDK) Command(ctx context.Context, step Step) *exec.Cmd {
	// bwrap is the SDK's own: it needs the SDK's loader, the host may have another.
	args := []string{
		"--library-path", s.Path("usr/lib/x86_64-linux-gnu"), s.Path("usr/bin/bwrap"),
		"--unshare-user", "--unshare-all", "--uid", "0", "--gid", "0", "--hostname", "sdk", "--die-with-parent", "--cap-drop", "ALL",
		"--ro-bind", s.Path("usr"), "/usr", "--ro-bind", s.Path("etc"), "/etc", "--ro-bind", s.Path("var"), "/var",
		"--symlink", "usr/bin", "/bin", "--symlink", "usr/sbin", "/sbin", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64",
		"--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run",
		"--clearenv", "--setenv", "PATH", search, "--setenv", "HOME", "/tmp", "--setenv", "LC_ALL", "C.UTF-8", "--setenv", "TZ", "UTC",
	}
	if step.Network {
		args = append(args, "--share-net")
	}
	for _, variable := range step.Env {
		key, value, _ := strings.Cut(variable, "=")
		args = append(args, "--setenv", key, value)
	}
	bind := func(how, host, inside string) { args = append(args, how, host, inside) }
	for _, path := range step.ReadOnly {
		bind("--ro-bind", path, path)
	}
	for _, b := range step.Inputs {
		bind("--ro-bind", b.Host, b.Inside)
	}
	for _, path := range step.Writable {
		bind("--bind", path, path)
	}
	for _, b := range step.Outputs {
		bind("--bind", b.Host, b.Inside)
	}
	for _, device := range step.Devices {
		bind("--dev-bind", device, device)
	}
	dir := step.Dir
	if dir == "" {
		dir = "/"
	}
	args = append(args, "--remount-ro", "/", "--chdir", dir, "--")
	c := exec.CommandContext(ctx, s.Path("usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"), append(args, step.Args...)...)
	c.Env = []string{}
	c.Stdin, c.Stdout, c.Stderr = step.Stdin, step.Stdout, step.Stderr
	return c
}

// Run starts the step and waits for it.
func (s *SDK) Run(ctx context.Context, step Step) error {
	var kept tail
	if step.Stderr == nil {
		step.Stderr = &kept
	}
	err := s.Command(ctx, step).Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	name := filepath.Base(step.Args[0])
	err = fmt.Errorf("cannot run %s: %w%s", name, err, kept.indented())
	switch told := kept.String(); {
	case strings.Contains(strings.ToLower(told), "no space left on device"):
		return hint.Wrap(err, "free some disk space and try again: nothing half-written is kept")
	case strings.Contains(told, "bwrap: "):
		return hint.Wrap(err, "%s", namespaceAdvice())
	}
	return err
}

// Output runs the step and returns what it printed.
func (s *SDK) Output(ctx context.Context, step Step) ([]byte, error) {
	var stdout bytes.Buffer
	step.Stdout = &stdout
	err := s.Run(ctx, step)
	return stdout.Bytes(), err
}

// Check proves that steps can run on this host at all.
func (s *SDK) Check(ctx context.Context) error {
	if err := s.Run(ctx, Step{Args: []string{"true"}}); err != nil {
		return fmt.Errorf("cannot make namespaces for build steps: %w", err)
	}
	return nil
}

func namespaceAdvice() string {
	if limit, err := os.ReadFile("/proc/sys/user/max_user_namespaces"); err == nil && strings.TrimSpace(string(limit)) == "0" {
		return "user namespaces are off on this host: allow them (sysctl user.max_user_namespaces=10000)"
	}
	if allowed, err := os.ReadFile("/proc/sys/kernel/unprivileged_userns_clone"); err == nil && strings.TrimSpace(string(allowed)) == "0" {
		return "unprivileged user namespaces are off on this host: run as root, or allow them (sysctl kernel.unprivileged_userns_clone=1)"
	}
	return "build steps need user namespaces: a container may forbid them; run outside it, or allow them there"
}

// tail keeps the end of what a program wrote.
type tail struct{ text []byte }

const tailSize = 4096

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	if over := len(t.text) - tailSize; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.text) }

func (t *tail) indented() string {
	text := strings.TrimSpace(string(t.text))
	if text == "" {
		return ""
	}
	return "\n  " + strings.ReplaceAll(text, "\n", "\n  ")
}
