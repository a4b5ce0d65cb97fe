// Package variant builds systems that tests and benchmarks need beside the one
// under test: what an integrator would sign later, or should never have signed.
// No option of a build makes one: it is built from a copy of the tree in which the
// files that say so were changed. It needs what package build needs.
package variant

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cloison/format/service"
	"cloison/host/build"
	"cloison/linux/file"
)

// Variant is the default product, signed by the same development keys, with
// something else in it.
type Variant struct {
	Name            string // of the folder of its build
	Version         string // X.Y.Z; "" leaves the release as it is
	SecurityVersion uint64
	Floor           uint64
	Swap            uint64 // MiB; 0: the product does not swap
	Unlock          string // of the state volume; "" leaves it
	// Programs are folders of cmd, new ones or not, and what their main calls:
	// an import path, a dot, and the function.
	Programs map[string]string
	// Services are declarations by their names, of services that the product has
	// besides its own. Each gets the next free user.
	Services map[string]string
	// Change is done to the copied tree at the end, or is nil.
	Change func(tree string) error
	// Unasserted leaves out what the product asserts of its services.
	Unasserted bool
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
	err = errors.Join(v.changeProduct(work, o.Product), v.addServices(work), v.changePrograms(work))
	if err == nil && v.Change != nil {
		err = v.Change(work)
	}
	if err != nil {
		return "", fmt.Errorf("cannot change the tree to the variant %s: %w", v.Name, err)
	}
	unlock, err := Lock(ctx, o)
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

// Lock waits for its turn: tests of several packages run side by side, and a build
// does not wait for another.
func Lock(ctx context.Context, o build.Options) (unlock func(), err error) {
	if err := os.MkdirAll(o.Cache, 0o755); err != nil {
		return nil, err
	}
	return file.Lock(ctx, filepath.Join(o.Cache, "buildtest.lock"))
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

// changeProduct makes the product's declaration that of the variant.
func (v Variant) changeProduct(copied, product string) error {
	declaration := filepath.Join(copied, "image/products", product, "product.toml")
	b, err := os.ReadFile(declaration)
	if err != nil {
		return err
	}
	text, values := string(b), map[string]string{}
	if v.Version != "" {
		values = map[string]string{
			"version": strconv.Quote(v.Version), "security_version": strconv.FormatUint(v.SecurityVersion, 10), "floor": strconv.FormatUint(v.Floor, 10),
		}
	}
	if v.Unlock != "" {
		values["unlock"] = strconv.Quote(v.Unlock)
	}
	if len(v.Services) > 0 {
		list := regexp.MustCompile(`(?ms)^services = \[(.*?)\]`).FindStringSubmatch(text)
		if list == nil {
			return fmt.Errorf("%s lists no services", declaration)
		}
		values["services"] = "[" + strings.TrimRight(list[1], ", \n") + `, "` + strings.Join(v.names(), `", "`) + `"]`
	}
	for key, value := range values {
		if text, err = Replace(text, key, value); err != nil {
			return fmt.Errorf("%s: %w", declaration, err)
		}
	}
	if v.Swap > 0 {
		disk := regexp.MustCompile(`(?m)^\[disk\]$`)
		if n := len(disk.FindAllString(text, -1)); n != 1 {
			return fmt.Errorf("%s has %d tables [disk]", declaration, n)
		}
		text = disk.ReplaceAllString(text, fmt.Sprintf("[disk]\nswap = %d", v.Swap))
	}
	if v.Unasserted {
		text = regexp.MustCompile(`(?m)^\[\[assertions\]\]\n(assert|why) = .*\n(assert|why) = .*\n`).ReplaceAllString(text, "")
	}
	return os.WriteFile(declaration, []byte(text), 0o644)
}

// names are those of the services, in order.
func (v Variant) names() []string { return slices.Sorted(maps.Keys(v.Services)) }

// addServices adds the services' declarations and users.
func (v Variant) addServices(copied string) error {
	if len(v.Services) == 0 {
		return nil
	}
	folder := filepath.Join(copied, "image/services")
	list := filepath.Join(folder, "ids")
	text, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	ids, err := service.ParseIDs(string(text))
	if err != nil {
		return err
	}
	last := slices.Max(append(slices.Collect(maps.Values(ids)), service.MinID))
	for _, name := range v.names() {
		if _, ok := ids[name]; !ok {
			last++
			text = fmt.Appendf(text, "%s %d\n", name, last)
		}
		if err := os.WriteFile(filepath.Join(folder, name+".toml"), []byte(v.Services[name]), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(list, text, 0o644)
}

// changePrograms writes the variant's programs.
func (v Variant) changePrograms(copied string) error {
	for name, call := range v.Programs {
		dot := strings.LastIndexByte(call, '.')
		if dot < 0 {
			return fmt.Errorf("the program %s calls %q, want PACKAGE.FUNCTION", name, call)
		}
		folder := filepath.Join(copied, "cmd", name)
		main := fmt.Sprintf("// Command %s is what a test has put here.\npackage main\n\nimport other %q\n\nfunc main() { other.%s() }\n", name, call[:dot], call[dot+1:])
		if err := errors.Join(os.MkdirAll(folder, 0o755), os.WriteFile(filepath.Join(folder, "main.go"), []byte(main), 0o644)); err != nil {
			return err
		}
	}
	return nil
}

// Replace gives a key of a TOML text another value. The text has it once; a list
// may have many lines.
func Replace(text, key, value string) (string, error) {
	form := regexp.MustCompile(`(?m)^` + key + ` = (\[\n(?s:.*?)^\]|.*)$`)
	if n := len(form.FindAllString(text, -1)); n != 1 {
		return "", fmt.Errorf("there are %d lines %s = …, want one", n, key)
	}
	return form.ReplaceAllLiteralString(text, key+" = "+value), nil
}
