package buildtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"cloison/host/build"
)

// Variant is the default product, signed by the same development keys, with
// something else in it: what an integrator would sign later, or should never
// have signed. No option of a build makes one: it is built from a copy of the
// tree in which the files that say so were changed.
type Variant struct {
	Name            string // of the folder of its build
	Version         string // X.Y.Z
	SecurityVersion uint64
	Floor           uint64
	Swap            uint64 // MiB; 0: the product does not swap
	Unlock          string // of the state volume; "" leaves it
	// Change is done to the copied tree at the end, or is nil.
	Change func(tree string) error
	Init   string // import path of a package whose Main takes the place of PID 1; "" leaves it
}

// Build makes an up-to-date build of the variant, beside that of the default
// product with the options o, and returns its folder. It may not be written to.
// The changed tree goes into the folder work, which must not exist.
func (v Variant) Build(ctx context.Context, o build.Options, work string) (dir string, err error) {
	if err := os.Mkdir(work, 0o755); err != nil {
		return "", err
	}
	for _, top := range []string{"go.mod", "go.sum", "cmd", "format", "host", "image", "kernel", "linux", "sdk", "target", "test"} {
		if err := copyTree(filepath.Join(work, top), filepath.Join(o.Tree, top)); err != nil {
			return "", err
		}
	}
	if err := v.change(work, o.Product); err != nil {
		return "", err
	}
	unlock, err := lock(ctx, o)
	if err != nil {
		return "", err
	}
	defer unlock()
	o.Out = filepath.Join(o.Tree, "out/test-"+v.Name)
	o.Tree = work
	result, err := build.Build(ctx, o)
	if err != nil {
		return "", fmt.Errorf("cannot build the variant %s: %w", v.Name, err)
	}
	return result.Dir, nil
}

func copyTree(to, from string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return os.CopyFS(to, os.DirFS(from))
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o644)
}

// change makes a copy of the tree that of the variant.
func (v Variant) change(copied, product string) error {
	declaration := filepath.Join(copied, "image/products", product, "product.toml")
	text, err := os.ReadFile(declaration)
	if err != nil {
		return err
	}
	values := map[string]string{
		"version": strconv.Quote(v.Version), "security_version": strconv.FormatUint(v.SecurityVersion, 10), "floor": strconv.FormatUint(v.Floor, 10),
	}
	if v.Unlock != "" {
		values["unlock"] = strconv.Quote(v.Unlock)
	}
	for key, value := range values {
		line := regexp.MustCompile(`(?m)^` + key + ` = .*$`)
		if n := len(line.FindAll(text, -1)); n != 1 {
			return fmt.Errorf("%s has %d lines %s = …", declaration, n, key)
		}
		text = line.ReplaceAll(text, []byte(key+" = "+value))
	}
	if v.Swap > 0 {
		disk := regexp.MustCompile(`(?m)^\[disk\]$`)
		if n := len(disk.FindAll(text, -1)); n != 1 {
			return fmt.Errorf("%s has %d tables [disk]", declaration, n)
		}
		text = disk.ReplaceAll(text, fmt.Appendf(nil, "[disk]\nswap = %d", v.Swap))
	}
	if err := os.WriteFile(declaration, text, 0o644); err != nil {
		return err
	}
	if v.Change != nil {
		if err := v.Change(copied); err != nil {
			return err
		}
	}
	if v.Init == "" {
		return nil
	}
	main := fmt.Sprintf("// Command init is what a test has put in the place of PID 1.\npackage main\n\nimport other %q\n\nfunc main() { other.Main() }\n", v.Init)
	return os.WriteFile(filepath.Join(copied, "cmd/init/main.go"), []byte(main), 0o644)
}
