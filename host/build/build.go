// Package build makes a whole system from the source tree: it calls the
// other rooms of the workshop in order, and leaves the result in one folder,
// complete or not at all. It needs everything that they need.
package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"cloison/format/hint"
	"cloison/format/nearest"
	"cloison/format/product"
	"cloison/format/service"
	"cloison/host/flows"
	"cloison/host/kernelbuild"
	"cloison/host/keys"
	"cloison/host/program"
	"cloison/host/progress"
	"cloison/host/sdk"
	"cloison/linux/file"
)

// Options say what to build.
type Options struct {
	Tree     string // the source tree
	Cache    string
	Product  string
	Hardware string
	Out      string // folder for the result; DefaultOut if empty
	Keys     string // folder of keys; the development keys if empty, made if missing
	Locked   bool   // only the SDK that sdk/lock names
	Refresh  bool   // ask Debian for newer packages
	Log      *progress.Log
}

// Names of what a build leaves in its folder, besides the UKI.
const (
	DiskName     = "disk.img"
	CoreName     = "core.img"
	ConfigName   = "kernel.config"
	SBOMName     = "sbom.cdx.json"
	ManifestName = "manifest.json"
	SignedName   = "manifest.json.sig"
	LockName     = "sdk.lock"
)

// UKIName is the name of a release's UKI.
func UKIName(version string) string { return "cloison_" + version + ".efi" }

// DefaultOut is where a build goes that is not told where.
func DefaultOut(tree, product, hardware string) string {
	return filepath.Join(tree, "out", product+"-"+hardware)
}

// DevelopmentKeys returns the folder of this user's development keys.
func DevelopmentKeys() (string, error) {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "cloison/keys/development"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", hint.Wrap(err, "set HOME or XDG_DATA_HOME, or name your keys with --keys")
	}
	return filepath.Join(home, ".local/share/cloison/keys/development"), nil
}

// Result is a finished build.
type Result struct {
	Dir     string
	Version string
	SDK     *sdk.SDK
	Same    bool // it is the same, bit for bit, as what was there
}

// Build makes a system. A build that is killed leaves nothing behind that
// the next one, or a reader of its folder, would take for finished.
func Build(ctx context.Context, o Options) (*Result, error) {
	p, err := ReadProduct(o.Tree, o.Product)
	if err != nil {
		return nil, err
	}
	services, err := flows.Services(o.Tree, p)
	if err != nil {
		return nil, err
	}
	if err := flows.Check(p, services); err != nil {
		return nil, err
	}
	if o.Out == "" {
		o.Out = DefaultOut(o.Tree, o.Product, o.Hardware)
	}
	if o.Out, err = filepath.Abs(o.Out); err != nil {
		return nil, err
	}
	store, err := openKeys(&o)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Out, 0o755); err != nil {
		return nil, err
	}
	unlock, err := file.TryLock(filepath.Join(o.Out, ".lock"))
	if err != nil {
		if errors.Is(err, file.ErrLocked) {
			err = hint.Wrap(fmt.Errorf("another build is writing to %s", o.Out), "wait for it, or choose another folder with --out")
		}
		return nil, err
	}
	defer unlock()
	work := filepath.Join(o.Out, ".work")
	if err := os.RemoveAll(work); err != nil {
		return nil, err
	}
	if err := os.Mkdir(work, 0o755); err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)

	b := builder{Options: o, product: p, services: services, store: store, work: work}
	if err := b.run(ctx); err != nil {
		if errors.Is(err, syscall.ENOSPC) {
			err = hint.Wrap(err, "free some disk space and try again: nothing half-written is kept")
		}
		return nil, err
	}
	same, err := install(b.result, o.Out)
	if err != nil {
		return nil, err
	}
	if store.Development() {
		o.Log.Say("DEVELOPMENT BUILD: signed with keys that anybody on this machine can use; never deploy it")
	}
	return &Result{Dir: o.Out, Version: p.Release.Version, SDK: b.sdk, Same: same}, nil
}

// Products lists the products of a source tree.
func Products(tree string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(tree, "image/products"))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names, nil
}

// ReadProduct reads the declaration of a product in a source tree.
func ReadProduct(tree, name string) (product.Product, error) {
	known, err := Products(tree)
	if err != nil {
		return product.Product{}, err
	}
	if err := nearest.Check("product", name, known); err != nil {
		return product.Product{}, err
	}
	path := filepath.Join("image/products", name, "product.toml")
	text, err := os.ReadFile(filepath.Join(tree, path))
	if err != nil {
		return product.Product{}, err
	}
	p, err := product.Parse(text)
	if err != nil {
		return product.Product{}, fmt.Errorf("cannot read %s: %w", path, err)
	}
	if p.Name != name {
		return product.Product{}, fmt.Errorf("cannot read %s: it says name = %q", path, p.Name)
	}
	return p, nil
}

// openKeys opens the named keys, or the development keys, which it makes on
// the first build.
func openKeys(o *Options) (keys.Store, error) {
	if o.Keys != "" {
		return keys.OpenDir(o.Keys)
	}
	dir, err := DevelopmentKeys()
	if err != nil {
		return nil, err
	}
	o.Keys = dir
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		stage := o.Log.Start("make development keys in %s", dir)
		if err := keys.Init(dir, true, time.Now()); err != nil {
			stage.Fail()
			return nil, err
		}
		stage.Done("")
	}
	store, err := keys.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	if _, err := store.Recovery(); err == nil {
		return store, nil
	}
	// Development keys of before there were volumes.
	if err := keys.AddRecovery(dir); err != nil {
		return nil, err
	}
	return keys.OpenDir(dir)
}

// builder holds what the stages of one build hand on.
type builder struct {
	Options
	product  product.Product
	services []*service.Service
	store    keys.Store
	work     string // scratch, removed at the end
	result   string // what will be installed

	sdk    *sdk.SDK
	kernel *kernelbuild.Kernel
	chain  program.Toolchain
}

// install moves a finished build into place. The manifest goes first and
// comes last: without one the folder is no build.
func install(from, to string) (same bool, err error) {
	names, err := os.ReadDir(from)
	if err != nil {
		return false, err
	}
	before, errBefore := os.ReadFile(filepath.Join(to, ManifestName))
	now, err := os.ReadFile(filepath.Join(from, ManifestName))
	if err != nil {
		return false, err
	}
	if errBefore == nil && slices.Equal(before, now) && complete(names, to) {
		return true, nil
	}
	if err := os.Remove(filepath.Join(to, ManifestName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	old, err := filepath.Glob(filepath.Join(to, UKIName("*")))
	if err != nil {
		return false, err
	}
	for _, path := range old {
		if err := os.Remove(path); err != nil {
			return false, err
		}
	}
	for _, entry := range names {
		if entry.Name() != ManifestName {
			if err := os.Rename(filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())); err != nil {
				return false, err
			}
		}
	}
	if err := file.SyncDir(to); err != nil {
		return false, err
	}
	if err := os.Rename(filepath.Join(from, ManifestName), filepath.Join(to, ManifestName)); err != nil {
		return false, err
	}
	return false, file.SyncDir(to)
}

// complete reports whether each of the files stands in dir with the same size.
func complete(names []os.DirEntry, dir string) bool {
	for _, entry := range names {
		info, err := entry.Info()
		if err != nil {
			return false
		}
		there, err := os.Stat(filepath.Join(dir, entry.Name()))
		if err != nil || there.Size() != info.Size() {
			return false
		}
	}
	return true
}
