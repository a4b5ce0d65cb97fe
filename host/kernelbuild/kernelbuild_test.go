package kernelbuild

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloison/format/hint"
	"cloison/host/progress"
	"cloison/host/sdk/sdktest"
	"cloison/host/tree"
)

func options(t *testing.T) Options {
	t.Helper()
	root, err := tree.Find(".")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := tree.Cache()
	if err != nil {
		t.Fatal(err)
	}
	return Options{Tree: root, Hardware: "qemu", Cache: cache, SDK: sdktest.Open(t), Log: progress.To(os.Stderr)}
}

// Each fragment that ships is kept line by line: Open fails otherwise.
func TestOpen(t *testing.T) {
	o := options(t)
	kernel, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(kernel.Config)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"CONFIG_CFI=y", "CONFIG_KSTACK_ERASE=y", "CONFIG_CMDLINE_OVERRIDE=y", "# CONFIG_MODULES is not set"} {
		if !strings.Contains(string(config), want+"\n") {
			t.Errorf("kernel.config lacks %q", want)
		}
	}
	again, err := Open(t.Context(), o)
	if err != nil || *again != *kernel {
		t.Errorf("Open again = %v, %v, want the same kernel from the cache", again, err)
	}
}

func TestUnknownHardware(t *testing.T) {
	o := options(t)
	o.Hardware = "qmeu"
	_, err := Open(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), `unknown hardware profile "qmeu"`) || hint.Of(err) != "did you mean qemu?" {
		t.Errorf("Open = %v (hint %q), want the unknown name and the nearest one", err, hint.Of(err))
	}
}

// A fragment that the kernel does not keep is refused, and each lost line is
// named, before anything is compiled.
func TestLostLine(t *testing.T) {
	o := options(t)
	copied := t.TempDir()
	if err := os.CopyFS(filepath.Join(copied, "kernel"), os.DirFS(filepath.Join(o.Tree, "kernel"))); err != nil {
		t.Fatal(err)
	}
	extra := "KEXEC_FILES=n # no such option\nDM_CRYPT_NONE=y # no such option\nSQUASHFS_ZSTD=y # depends on SQUASHFS\n"
	if err := os.WriteFile(filepath.Join(copied, "kernel/extra.config"), []byte(extra), 0o644); err != nil {
		t.Fatal(err)
	}
	o.Tree, o.Cache = copied, t.TempDir()
	_, err := Open(t.Context(), o)
	if err == nil {
		t.Fatal("Open succeeds, want the lost lines")
	}
	for _, want := range []string{
		"3 lines are lost",
		"kernel/extra.config:1: KEXEC_FILES does not exist in this kernel",
		"kernel/extra.config:2: DM_CRYPT_NONE does not exist in this kernel",
		"kernel/extra.config:3: SQUASHFS_ZSTD=y became n",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Open = %v, want %q in it", err, want)
		}
	}
	if left, _ := os.ReadDir(filepath.Join(o.Cache, "kernel")); len(left) != 1 { // the lock
		t.Errorf("a refused build left %v in the cache", left)
	}
}
