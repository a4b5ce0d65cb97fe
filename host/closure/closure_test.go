package closure_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cloison/host/closure"
	"cloison/host/sdk"
	"cloison/host/sdk/sdktest"
)

// TestOf holds the closure against what the dynamic linker itself loads.
func TestOf(t *testing.T) {
	s := sdktest.Open(t)
	files, err := closure.Of(s.Root, "usr/sbin/cryptsetup", "usr/sbin/mke2fs")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		got = append(got, filepath.Base(f.Name))
	}
	want := []string{"cryptsetup", "mke2fs", "ld-linux-x86-64.so.2"}
	for _, program := range []string{"/usr/sbin/cryptsetup", "/usr/sbin/mke2fs"} {
		out, err := s.Output(context.Background(), sdk.Step{Args: []string{"/lib64/ld-linux-x86-64.so.2", "--list", program}})
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(out)) {
			name := filepath.Base(strings.Fields(line)[0])
			if name != "linux-vdso.so.1" && !slices.Contains(want, name) {
				want = append(want, name)
			}
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("Of(cryptsetup, mke2fs) = %q, want %q", got, want)
	}
}

func TestOfRefuses(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "usr/sbin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "usr/sbin/script"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/proc/self/exe", filepath.Join(root, "usr/sbin/outside")); err != nil {
		t.Fatal(err)
	}
	for program, want := range map[string]string{
		"usr/sbin/script":  "cannot find what usr/sbin/script needs: ",
		"usr/sbin/outside": "leads out of the SDK",
		"usr/sbin/missing": "no such file",
	} {
		if _, err := closure.Of(root, program); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Of(%s) = %v, want an error with %q", program, err, want)
		}
	}
}
