package serviceroot

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cloison/format/service"
	"cloison/host/sdk/sdktest"
)

func declaration() *service.Service {
	return &service.Service{
		Name: "x", About: "is small", ID: 950, Program: "/usr/lib/cloison/x", Stdio: service.Log, Network: service.None, Proc: service.Own,
		State: []string{"/var/lib/x"}, Uses: []string{"other/socket"},
		Seccomp: service.Seccomp{Groups: []string{"runtime"}},
		Limits:  service.Limits{Memory: 32 << 20, Processes: 32, CPU: 100, State: 4096, StateFiles: 1, Descriptors: 32},
		Start:   service.Start{Ready: service.Started, Timeout: service.Duration(time.Minute), Restart: service.Never, Stop: service.Duration(time.Second)},
	}
}

func listed(t *testing.T, s *service.Service, compiled map[string]string, sdk string) []string {
	t.Helper()
	files, err := Files(s, compiled, sdk)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, f := range files {
		list = append(list, f.Mode.String()+" "+f.Name)
	}
	return list
}

func TestOurs(t *testing.T) {
	got := listed(t, declaration(), map[string]string{"x": "/out/x"}, "")
	want := []string{
		"-r--r--r-- usr/lib/cloison/services/x/declaration",
		"d--------- usr/lib/cloison/services/x/root",
		"d--------- usr/lib/cloison/services/x/root/proc",
		"d--------- usr/lib/cloison/services/x/root/var/lib/x",
		"-r--r--r-- usr/lib/cloison/services/x/root/run/services/other/socket",
		"-r-x--x--x usr/lib/cloison/services/x/root/usr/lib/cloison/x",
	}
	if !slices.Equal(got, want) {
		t.Errorf("Files = %q, want %q", got, want)
	}
	if files, err := Files(declaration(), nil, ""); err == nil {
		t.Errorf("Files of a program that was not compiled = %v", files)
	}
}

// TestTheirs: a program of the SDK comes with its libraries, and each is of the
// mode that its use asks for.
func TestTheirs(t *testing.T) {
	s := declaration()
	s.Program = "/usr/bin/true"
	tools := sdktest.Open(t)
	const root = "usr/lib/cloison/services/x/root/"
	got := listed(t, s, nil, tools.Root)
	for _, want := range []string{"-r-x--x--x " + root + "usr/bin/true", "-r-xr-xr-x " + root + "lib64/ld-linux-x86-64.so.2", "-r--r--r-- " + root + "usr/lib/x86_64-linux-gnu/libc.so.6"} {
		if !slices.Contains(got, want) {
			t.Errorf("Files has no %q:\n%s", want, strings.Join(got, "\n"))
		}
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "usr/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "usr/bin/true"), []byte("#!/bin/sh\n"), fs.FileMode(0o755)); err != nil {
		t.Fatal(err)
	}
	if files, err := Files(s, nil, dir); err == nil {
		t.Errorf("Files of a script = %v", files)
	}
}
