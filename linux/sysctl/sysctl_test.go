package sysctl

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestSet(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "kernel"), 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "kernel", "printk")
	if err := os.WriteFile(path, []byte("7\t4\t1\t7\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Set(root, "kernel.printk", "5 4 1 5"); err != nil {
		t.Errorf("Set = %v", err)
	}
	if err := Set(root, "kernel.none", "1"); !errors.Is(err, ErrMissing) {
		t.Errorf("Set of a parameter that is not there = %v, want %v", err, ErrMissing)
	}
	if err := Set("/proc/sys", "kernel.ostype", "x"); err == nil {
		t.Error("Set of a parameter that cannot be written = nil")
	}
}
