package build_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloison/format/hint"
	"cloison/host/build"
	"cloison/host/build/buildtest"
)

// The same source gives the same bytes in another folder, with another
// compiler cache.
func TestBuildIsReproducible(t *testing.T) {
	here, keys := buildtest.Image(t)
	o := buildtest.Options(t)
	elsewhere := t.TempDir()
	copied := filepath.Join(elsewhere, "a longer name for the source tree")
	copyTree(t, o.Tree, copied)
	cache := filepath.Join(elsewhere, "cache")
	if err := os.Mkdir(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sdk", "kernel"} { // their keys say what they are
		if err := os.Symlink(filepath.Join(o.Cache, name), filepath.Join(cache, name)); err != nil {
			t.Fatal(err)
		}
	}
	o.Tree, o.Cache, o.Keys, o.Out = copied, cache, keys, filepath.Join(elsewhere, "out")
	if _, err := build.Build(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(o.Out)
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, entry := range names {
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		a, errA := os.ReadFile(filepath.Join(here, entry.Name()))
		b, errB := os.ReadFile(filepath.Join(o.Out, entry.Name()))
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("%s differs (%v, %v)", entry.Name(), errA, errB)
		}
		compared++
	}
	if compared != 8 {
		t.Errorf("%d files are compared, want the 8 of a build: %v", compared, names)
	}
}

// copyTree copies what a build reads.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	for _, name := range []string{"cmd", "format", "host", "image", "kernel", "linux", "sdk", "target"} {
		if err := os.CopyFS(filepath.Join(to, name), os.DirFS(filepath.Join(from, name))); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Building again what is there already changes nothing and says so.
func TestSameBuild(t *testing.T) {
	o := buildtest.Options(t)
	o.Out = t.TempDir()
	first, err := build.Build(t.Context(), o)
	if err != nil || first.Same {
		t.Fatalf("Build = %v, %v, want a new build", first, err)
	}
	before, err := os.Stat(filepath.Join(o.Out, build.DiskName))
	if err != nil {
		t.Fatal(err)
	}
	second, err := build.Build(t.Context(), o)
	if err != nil || !second.Same {
		t.Errorf("Build again = %v, %v, want the same", second, err)
	}
	after, err := os.Stat(filepath.Join(o.Out, build.DiskName))
	if err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("the disk was written again (%v)", err)
	}
}

func TestBadInput(t *testing.T) {
	for _, test := range []struct {
		name      string
		change    func(t *testing.T, o *build.Options)
		err, hint string
	}{
		{"product", func(_ *testing.T, o *build.Options) { o.Product = "gatway" }, `unknown product "gatway"`, "did you mean gateway?"},
		{"far product", func(_ *testing.T, o *build.Options) { o.Product = "x" }, `unknown product "x"`, "there are: gateway"},
		{"hardware", func(_ *testing.T, o *build.Options) { o.Hardware = "qem" }, `unknown hardware profile "qem"`, "did you mean qemu?"},
		{"no keys", func(t *testing.T, o *build.Options) { o.Keys = filepath.Join(t.TempDir(), "none") }, "keys", "cloison keys init"},
		{"broken product", func(t *testing.T, o *build.Options) {
			edit(t, o, "image/products/gateway/product.toml", "security_version = 1", "security_versoin = 1")
		}, "image/products/gateway/product.toml: line", ""},
		{"broken fragment", func(t *testing.T, o *build.Options) { edit(t, o, "kernel/base.config", "SMP=y ", "SMP=yes ") }, `kernel/base.config:3: "SMP=yes" is not OPTION=VALUE`, ""},
		{"fragment without reason", func(t *testing.T, o *build.Options) {
			edit(t, o, "kernel/base.config", "SMP=y                            # every machine has more than one core", "SMP=y")
		}, `kernel/base.config:3: "SMP=y" has no reason beside it`, ""},
		{"other lock", func(t *testing.T, o *build.Options) {
			o.Locked = true
			edit(t, o, "sdk/lock", "bash ", "bash 0")
		}, "bash 0", "build without --locked"},
		{"slot too small", func(t *testing.T, o *build.Options) {
			edit(t, o, "image/products/gateway/product.toml", "slot = 256", "slot = 1")
		}, "disk.slot = 1 is not between", ""},
		{"out is a file", func(t *testing.T, o *build.Options) {
			o.Out = filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(o.Out, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}, "not a directory", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := buildtest.Options(t)
			o.Out = filepath.Join(t.TempDir(), "out")
			test.change(t, &o)
			_, err := build.Build(t.Context(), o)
			if err == nil || !strings.Contains(err.Error(), test.err) || !strings.Contains(hint.Of(err), test.hint) {
				t.Errorf("Build = %v (hint %q), want %q (hint %q)", err, hint.Of(err), test.err, test.hint)
			}
			nothingHalf(t, o.Out)
		})
	}
}

func edit(t *testing.T, o *build.Options, name, old, new string) {
	t.Helper()
	copied := t.TempDir()
	copyTree(t, o.Tree, copied)
	o.Tree = copied
	path := filepath.Join(copied, name)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), old, new, 1)
	if changed == string(text) {
		t.Fatalf("%s has no %q", name, old)
	}
	if err := os.WriteFile(path, []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
}

// nothingHalf fails if the folder could be taken for a build.
func nothingHalf(t *testing.T, dir string) {
	t.Helper()
	names, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, name := range names {
		if filepath.Base(name) != ".lock" {
			t.Errorf("a refused build left %s", filepath.Base(name))
		}
	}
}

func TestInterrupted(t *testing.T) {
	o := buildtest.Options(t)
	o.Out = t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := build.Build(ctx, o); err == nil {
		t.Error("Build with a cancelled context succeeds")
	}
	nothingHalf(t, o.Out)
	if _, err := build.Build(t.Context(), o); err != nil {
		t.Errorf("Build after an interrupted one: %v", err)
	}
}
