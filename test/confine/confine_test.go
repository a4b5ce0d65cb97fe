package confine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cloison/format/service"
	"cloison/linux/landlock"
	"cloison/linux/mount"
	"cloison/target/confine"
)

const program = "/usr/lib/cloison/probe"

// TestMain is also the launcher, and the service in the box.
func TestMain(m *testing.M) {
	switch {
	case os.Args[0] == program:
		os.Exit(probe(os.Args[1:]))
	case len(os.Args) == 4 && os.Args[1] == "launch":
		confine.Core{Prefix: os.Args[2], Landlock: min(landlock.ABI, landlock.Known())}.Launch(os.Args[3])
	}
	os.Exit(m.Run())
}

// declaration is of a service that may do next to nothing.
func declaration() *service.Service {
	return &service.Service{
		Name: "probe", About: "tries things", ID: 905, Program: program, Stdio: service.Log,
		Network: service.None, Proc: service.None,
		Seccomp: service.Seccomp{Groups: []string{"runtime"}},
		Limits:  service.Limits{Memory: 32 << 20, Processes: 32, CPU: 100, Descriptors: 32},
		Start: service.Start{
			Ready: service.Started, Timeout: service.Duration(time.Minute), Restart: service.Never, Stop: service.Duration(time.Second),
		},
	}
}

// core makes the part of a core that a service needs.
func core(t *testing.T, s *service.Service) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("this test makes boxes for real: run it as root")
	}
	text, err := s.Print()
	if err != nil {
		t.Fatal(err)
	}
	prefix := t.TempDir()
	t.Cleanup(func() {
		// Where the launcher came so far, it is kept.
		kept := prefix + service.EmptyNetworks + "/" + s.Name
		if _, err := os.Stat(kept); err == nil {
			if err := mount.Unmount(kept); err != nil {
				t.Error(err)
			}
		}
	})
	if err := os.Chmod(filepath.Dir(prefix), 0o755); err != nil { // of this test's own
		t.Fatal(err)
	}
	root := prefix + service.RootPath(s.Name)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	folders := []string{root + filepath.Dir(s.Program), root + "/proc", root + "/sys", root + "/dev", root + "/etc"}
	for _, w := range s.Writable {
		folders = append(folders, root+w.Path)
	}
	for _, p := range append(s.State, s.Sys...) {
		folders = append(folders, root+p)
	}
	for _, c := range s.Config {
		folders = append(folders, root+c.Path, prefix+c.Source)
	}
	for _, d := range folders {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range map[string][]byte{prefix + service.SealedPath(s.Name): []byte(text), root + s.Program: binary, root + "/etc/plain": []byte("in the root")} {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(root+s.Program, 0o511); err != nil {
		t.Fatal(err)
	}
	return prefix
}

// start runs the service to its end.
func start(t *testing.T, s *service.Service, prefix string, descriptors ...*os.File) (out, status string, err error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), self, "launch", prefix, s.Name)
	c.Env = []string{"HOST=leaks"}
	c.ExtraFiles = append(descriptors, w)
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	err = c.Wait()
	return said.String(), string(text), err
}

// try runs one thing that the probe knows, which must end well.
func try(t *testing.T, s *service.Service, what ...string) string {
	t.Helper()
	s.Arguments = what
	out, status, err := start(t, s, core(t, s))
	if err != nil || status != "" {
		t.Fatalf("%v: %v, status %q, said %q", what, err, status, out)
	}
	return out
}

// killed runs one thing that the kernel must answer with the end of the service.
func killed(t *testing.T, s *service.Service, what ...string) {
	t.Helper()
	s.Arguments = what
	out, status, err := start(t, s, core(t, s))
	var exit *exec.ExitError
	if status != "" || !errors.As(err, &exit) || !exit.Sys().(syscall.WaitStatus).Signaled() || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGSYS || out != "trying\n" {
		t.Errorf("%v: %v, status %q, said %q, want that it is killed by SIGSYS", what, err, status, out)
	}
}

func TestState(t *testing.T) {
	s := declaration()
	s.Proc = service.Own
	s.Landlock.Read = []string{"/proc"}
	s.Environment = []service.Variable{{Name: "A", Value: "b c"}}
	s.Seccomp.Calls = []service.Reasoned{{Name: "prctl", Why: "asks what was set"}}
	out := try(t, s, "state", "x y")
	for _, want := range []string{
		"pid 1 uid 905 905 gid 905 905", "arguments /usr/lib/cloison/probe|state|x y", "environment A=b c",
		"CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "CapAmb:\t0000000000000000",
		"NoNewPrivs:\t1", "Seccomp:\t2", "Seccomp_filters:\t1", "Groups:\t ", "securebits 0xfef", "mdwe 0x1", "dumpable 0x0",
		"Umask:\t0077", "hostname probe", "limit 7 32 32", "limit 1 0 0", "limit 4 0 0", "limit 8 0 0", "descriptors 0 1 2",
	} {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("the service does not say %q:\n%s", want, out)
		}
	}
}

func TestDescriptors(t *testing.T) {
	s := declaration()
	s.Given = []string{"one", "two"}
	s.Start.Ready = service.Notify
	s.Arguments = []string{"descriptors"}
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	out, status, err := start(t, s, core(t, s), null, null, null)
	if want := "0 1 2 3 4 5\nLISTEN_PID=1 LISTEN_FDS=3 LISTEN_FDNAMES=notify:one:two\n"; out != want || status != "" || err != nil {
		t.Errorf("said %q, status %q, %v, want %q", out, status, err, want)
	}
	// One is missing: the status is in its place. A descriptor that the launcher's
	// own runtime has opened does not count as handed on.
	out, status, err = start(t, s, core(t, s), null, null)
	if err == nil || !strings.Contains(out, "descriptor 6 was not handed on") {
		t.Errorf("without a descriptor: said %q, status %q, %v", out, status, err)
	}
}

// TestNetwork: the network namespace is empty, is nobody else's, and is the same
// at the next start.
func TestNetwork(t *testing.T) {
	s := declaration()
	s.Proc = service.Own
	s.Landlock.Read = []string{"/proc"}
	s.Arguments = []string{"network"}
	prefix := core(t, s)
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	first, status, err := start(t, s, prefix)
	if err != nil || status != "" || !strings.HasPrefix(first, "interfaces lo\n") || !strings.Contains(first, "net:[") || strings.Contains(first, own) {
		t.Errorf("said %q, status %q, %v; outside is %s", first, status, err, own)
	}
	if second, status, err := start(t, s, prefix); second != first || status != "" || err != nil {
		t.Errorf("the second start said %q, status %q, %v, want %q", second, status, err, first)
	}
}

func TestFiles(t *testing.T) {
	s := declaration()
	s.Writable = []service.Writable{{Path: "/tmp", Size: 1 << 20}}
	s.State = []string{"/var/lib/probe"}
	s.Config = []service.Config{{Source: service.Configurations + "/probe", Path: "/etc/probe"}}
	s.Landlock.Read = []string{"/etc", "/usr"}
	s.Landlock.Write = []string{"/tmp", "/var/lib/probe"}
	s.Limits.FileSize, s.Limits.State, s.Limits.StateFiles = 64<<10, 64<<10, 8
	s.Seccomp.Groups = []string{"runtime", "files"}
	for what, want := range map[string]string{
		"read /etc/plain":              "in the root",
		"read " + program:              "permission denied", // it can be executed only
		"write /etc/plain":             "permission denied",
		"write /etc/new":               "read-only file system",
		"write /etc/probe/new":         "read-only file system",
		"write /new":                   "read-only file system",
		"read /state":                  "no such file or directory",
		"read /proc/1/status":          "no such file or directory",
		"write /tmp/a":                 "ok",
		"write /var/lib/probe/a":       "ok",
		"symlink /tmp/l":               "permission denied",
		"fill /tmp/a 32768":            "ok",
		"list /tmp":                    "",
		"list /":                       "permission denied",
		"list /var":                    "permission denied",
		"spread /tmp 20000 4096":       "no space left on device",
		"execute /tmp/x":               "permission denied",
		"read /var/lib/probe/../../..": "permission denied",
	} {
		s.Seccomp.Calls = nil
		if strings.HasPrefix(what, "execute") {
			s.Seccomp.Calls = []service.Reasoned{{Name: "execve", Why: "to see another wall hold"}}
		}
		if out := try(t, s, strings.Fields(what)...); out != want+"\n" {
			t.Errorf("%s: %q, want %q", what, out, want)
		}
	}
	// What is kept is there at the next start, and belongs to it.
	prefix := core(t, s)
	for _, step := range [][2]string{{"write /var/lib/probe/a", "ok\n"}, {"read /var/lib/probe/a", "x\n"}} {
		s.Arguments = strings.Fields(step[0])
		text, err := s.Print()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(prefix+service.SealedPath(s.Name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, status, err := start(t, s, prefix); out != step[1] || status != "" || err != nil {
			t.Errorf("%s: %q, %q, %v", step[0], out, status, err)
		}
	}
}

func TestKilled(t *testing.T) {
	s := declaration()
	s.Writable = []service.Writable{{Path: "/tmp", Size: 1 << 20}}
	s.Landlock.Write = []string{"/tmp"}
	for _, what := range []string{
		"mount", "ptrace", "unshare", "fork", "execve", "execveat", "socket", "netlink", "keyctl", "bpf", "wx", "mprotect", "dumpable",
		"setuid", "tiocsti", "io_uring", "x32", "userfaultfd", "memfd", "reboot", "clock", "chroot",
	} {
		killed(t, s, what)
	}
}

// TestWalls opens the filter and sees the walls behind it hold.
func TestWalls(t *testing.T) {
	for what, want := range map[string]string{
		"mount": "operation not permitted", "unshare": "operation not permitted", "chroot": "operation not permitted", "reboot": "operation not permitted",
		"clock": "operation not permitted", "setuid": "operation not permitted", "wx": "permission denied", "mprotect": "permission denied",
		"mknod": "permission denied", "ptrace": "no such process", "netlink": "operation not permitted",
	} {
		s := declaration()
		s.Writable = []service.Writable{{Path: "/tmp", Size: 1 << 20}}
		s.Landlock.Write = []string{"/tmp"}
		for _, c := range []string{"mount", "unshare", "chroot", "reboot", "clock_settime", "setresuid", "mmap", "mprotect", "mknodat", "ptrace", "socket", "bind", "sendto"} {
			s.Seccomp.Calls = append(s.Seccomp.Calls, service.Reasoned{Name: c, Why: "to see another wall hold"})
		}
		if out := try(t, s, what); out != "trying\n"+want+"\n" {
			t.Errorf("%s: %q, want %q", what, out, want)
		}
	}
}

func TestCapability(t *testing.T) {
	s := declaration()
	s.Proc = service.Own
	s.Landlock.Read = []string{"/proc"}
	s.Capabilities = []service.Reasoned{{Name: "CAP_SYS_TIME", Why: "to see that it comes through"}}
	s.Seccomp.Calls = []service.Reasoned{{Name: "prctl", Why: "asks what was set"}}
	out := try(t, s, "state")
	for _, set := range []string{"Inh", "Prm", "Eff", "Bnd", "Amb"} {
		if want := fmt.Sprintf("Cap%s:\t0000000002000000\n", set); !strings.Contains(out, want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
}

func TestDevices(t *testing.T) {
	s := declaration()
	s.Devices = []service.Device{
		{Path: "/dev/zero", Access: service.Read, Why: "to read"}, {Path: "/dev/full", Access: service.Write, Why: "to write"},
	}
	s.Landlock.Read = []string{"/dev/zero"}
	s.Landlock.Write = []string{"/dev/full"}
	s.Seccomp.Groups = []string{"runtime", "files"}
	for what, want := range map[string]string{
		"read /dev/zero": "\x00", "write /dev/zero": "permission denied", "write /dev/full": "no space left on device",
		"read /dev/null": "no such file or directory", "write /dev/new": "read-only file system",
	} {
		if out := try(t, s, strings.Fields(what)...); out != want+"\n" {
			t.Errorf("%s: %q, want %q", what, out, want)
		}
	}
}

// TestRefusals breaks one step at a time.
func TestRefusals(t *testing.T) {
	for want, change := range map[string]func(s *service.Service, prefix string){
		"step 2, network: cannot enter the network namespace": func(s *service.Service, _ string) { s.Network = "outside" },
		"step 4, root: cannot take /sys/nothing":              func(s *service.Service, _ string) { s.Sys = []string{"/sys/nothing"} },
		"step 4, root: cannot look at /dev/nothing": func(s *service.Service, _ string) {
			s.Devices = []service.Device{{Path: "/dev/nothing", Access: service.Read, Why: "x"}}
		},
		"step 4, root: cannot mount tmpfs":        func(s *service.Service, _ string) { s.Writable = []service.Writable{{Path: "/nowhere", Size: 4096}} },
		"step 4, root: cannot take":               func(s *service.Service, _ string) { s.Uses = []string{"other/socket"} },
		"step 6, program: cannot open":            func(s *service.Service, _ string) { s.Program = "/usr/lib/cloison/other" },
		"step 8, rules: cannot allow":             func(s *service.Service, _ string) { s.Landlock.Read = []string{"/nothing"} },
		"step 9, filter: there is no group":       func(s *service.Service, _ string) { s.Seccomp.Groups = []string{"all"} },
		"step 9, filter: there is no system call": func(s *service.Service, _ string) { s.Seccomp.Calls = []service.Reasoned{{Name: "magic", Why: "x"}} },
		"step 16, execute: execveat: exec format error": func(s *service.Service, prefix string) {
			_ = os.WriteFile(prefix+service.RootPath(s.Name)+program, []byte("no program at all"), 0o511)
		},
	} {
		s := declaration()
		s.Arguments = []string{"descriptors"}
		prefix := core(t, s)
		change(s, prefix)
		text, err := s.Print()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(prefix+service.SealedPath(s.Name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out, status, err := start(t, s, prefix)
		if err == nil || out != "" || !strings.Contains(status, want) || !strings.HasPrefix(status, "cannot start service probe: step ") {
			t.Errorf("said %q, status %q, %v, want %q", out, status, err, want)
		}
	}
}
