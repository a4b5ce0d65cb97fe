package main

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cloison/format/release"
	"cloison/host/build"
	"cloison/host/build/buildtest"
)

// The test program is cloison itself when a test starts it as such: to be
// killed, or to run in namespaces of its own.
func TestMain(m *testing.M) {
	switch os.Getenv("CLOISON_TEST_AS") {
	case "cloison":
		main()
	case "full disk":
		smallDisk(os.Getenv("CLOISON_TEST_DIR"))
		main()
	case "no namespaces":
		if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
			panic(err)
		}
		main()
	}
	os.Exit(m.Run())
}

// smallDisk mounts a disk of 4 MiB, in a mount namespace of its own.
func smallDisk(dir string) {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		panic(err)
	}
}

// as returns cloison as a process of its own.
func as(ctx context.Context, how string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "/proc/self/exe", args...)
	c.Env = append(os.Environ(), "CLOISON_TEST_AS="+how)
	return c
}

// inNamespaces gives a process user and mount namespaces, in which it may mount.
func inNamespaces(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
}

func TestUsage(t *testing.T) {
	for _, test := range []struct {
		args         []string
		code         int
		stdout, told string
	}{
		{[]string{"--help"}, 0, "cloison build", ""},
		{[]string{"build", "--help"}, 0, "cloison build --product gateway", ""},
		{[]string{"biuld"}, 1, "", "unknown command \"biuld\""},
		{[]string{"build", "--prodcut=x"}, 1, "", "unknown flag: --prodcut"},
		{[]string{"build", "--product", "gatway"}, 1, "", "cloison: unknown product \"gatway\"\nhint: did you mean gateway?\n"},
		{[]string{"verify", "/nowhere"}, 1, "", "hint: "},
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), test.args, nil, &stdout, &stderr)
		if code != test.code || !strings.Contains(stdout.String(), test.stdout) || !strings.Contains(stderr.String(), test.told) {
			t.Errorf("cloison %q = %d, stdout %q, stderr %q; want %d, %q, %q", test.args, code, stdout.String(), stderr.String(), test.code, test.stdout, test.told)
		}
	}
}

func TestOutsideTheTree(t *testing.T) {
	t.Chdir("/")
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"build"}, nil, nil, &stderr); code != 1 || !strings.Contains(stderr.String(), "hint: run cloison inside a clone") {
		t.Errorf("cloison build outside the tree = %d, %q", code, stderr.String())
	}
}

// A man page for each command, the same each time.
func TestMan(t *testing.T) {
	dir := t.TempDir()
	if code := run(t.Context(), []string{"man", dir}, nil, os.Stdout, os.Stderr); code != 0 {
		t.Fatal("cloison man fails")
	}
	for _, name := range []string{"cloison.1", "cloison-build.1", "cloison-keys-init.1", "cloison-run.1", "cloison-verify.1"} {
		page, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !bytes.HasPrefix(page, []byte(".nh\n.TH \"CLOISON")) {
			t.Errorf("%s: %v, begins with %.20q", name, err, page)
		}
	}
}

// A build that is killed at any time leaves no folder that could be taken for
// a finished build, and the next one succeeds.
func TestKilledBuild(t *testing.T) {
	buildtest.Image(t) // the caches are warm: what is killed is the build itself
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	out := filepath.Join(t.TempDir(), "out")
	killed := 0
	for range max(8, buildtest.Campaign(t)) {
		after := time.Duration(random.Int64N(int64(3 * time.Second)))
		ctx, cancel := context.WithTimeout(t.Context(), after)
		err := as(ctx, "cloison", "build", "--out", out).Run() // kill -9 when the time is over
		cancel()
		if err != nil {
			killed++
		}
		whole(t, out, err == nil)
	}
	if killed == 0 {
		t.Error("no build was killed in time: the test has tried nothing")
	}
	c := as(t.Context(), "cloison", "build", "--out", out)
	if told, err := c.CombinedOutput(); err != nil {
		t.Fatalf("the build after the killed ones: %v\n%s", err, told)
	}
	whole(t, out, true)
	if left, err := os.Stat(filepath.Join(out, ".work")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the last build left %v (%v)", left, err)
	}
}

// whole fails unless the folder has a complete build, or no manifest where
// none is demanded.
func whole(t *testing.T, dir string, demanded bool) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, build.ManifestName))
	if errors.Is(err, os.ErrNotExist) && !demanded {
		return
	}
	m, err := release.Parse(text)
	if err != nil {
		t.Fatalf("the manifest is there and broken: %v", err)
	}
	for name, size := range map[string]uint64{build.DiskName: m.Disk.Size, build.CoreName: m.Core.Size, build.UKIName(m.Version): m.UKI.Size} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || uint64(info.Size()) != size {
			t.Errorf("%s does not fit the manifest (%v)", name, err)
		}
	}
}

func TestFullDisk(t *testing.T) {
	buildtest.Image(t)
	dir := t.TempDir()
	c := as(t.Context(), "full disk", "build", "--out", filepath.Join(dir, "out"))
	c.Env = append(c.Env, "CLOISON_TEST_DIR="+dir)
	inNamespaces(c)
	told, err := c.CombinedOutput()
	if err == nil || !strings.Contains(string(told), "hint: free some disk space") {
		t.Errorf("cloison build on a full disk: %v, %s", err, told)
	}
}

func TestNoUserNamespaces(t *testing.T) {
	buildtest.Image(t)
	c := as(t.Context(), "no namespaces", "build", "--out", t.TempDir())
	inNamespaces(c)
	told, err := c.CombinedOutput()
	if err == nil || !strings.Contains(string(told), "cannot make namespaces for build steps") || !strings.Contains(string(told), "hint: user namespaces are off") {
		t.Errorf("cloison build without user namespaces: %v, %s", err, told)
	}
}
