// Package sdk makes the SDK, the pinned Debian tree that every build step
// runs from, and runs steps in it: each in its own namespaces, without
// network, its inputs read-only. It needs apt for the first time (package
// debian), and user namespaces or root for every time.
//
// Source: bwrap(1), from the SDK itself.
package sdk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"cloison/format/hint"
	"cloison/format/packagelist"
	"cloison/format/reasoned"
	"cloison/host/debian"
	"cloison/host/progress"
	"cloison/linux/file"
)

// recipe changes when what is done to the unpacked packages changes.
const recipe = "cloison sdk 1\n"

// SDK is a finished tree. It is never written to again.
type SDK struct {
	Root     string // absolute path on the host
	Digest   string // of the package list, hex
	Packages []packagelist.Package
}

// Options say which SDK is wanted.
type Options struct {
	Tree    string // the source tree, which has sdk/packages, sdk/suite and sdk/lock
	Cache   string // folder for finished SDKs
	Locked  bool   // only exactly what sdk/lock says
	Refresh bool   // ask the suites for newer packages even if there is an SDK already
	Log     *progress.Log
}

// Open returns the SDK of a source tree, and makes it first if it is missing.
func Open(ctx context.Context, o Options) (*SDK, error) {
	packages, err := list(filepath.Join(o.Tree, "sdk/packages"))
	if err != nil {
		return nil, err
	}
	suites, err := list(filepath.Join(o.Tree, "sdk/suite"))
	if err != nil {
		return nil, err
	}
	var locked []packagelist.Package
	if o.Locked {
		if locked, err = readLock(filepath.Join(o.Tree, "sdk/lock")); err != nil {
			return nil, err
		}
	}
	dir := filepath.Join(o.Cache, "sdk")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, hint.Wrap(err, "the cache folder must be writable: set XDG_CACHE_HOME")
	}
	// Two builds at once make one SDK.
	unlock, err := file.Lock(ctx, filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()

	// What this definition gave the last time it was resolved.
	definition := sha256.Sum256([]byte(recipe + strings.Join(packages, "\n") + "\n\n" + strings.Join(suites, "\n")))
	current := filepath.Join(dir, hex.EncodeToString(definition[:8])+".lock")
	switch known, err := readLock(current); {
	case o.Locked:
		if s, err := existing(dir, locked); err == nil {
			return s, nil
		}
	case err == nil && !o.Refresh:
		if s, err := existing(dir, known); err == nil {
			return s, nil
		}
	}

	stage := o.Log.Start("fetch the SDK (%d packages and what they need, from Debian)", len(packages))
	s, err := create(ctx, dir, suites, packages, locked)
	if err != nil {
		stage.Fail()
		return nil, err
	}
	if err := file.WriteAtomic(current, packagelist.Print(s.Packages), 0o644); err != nil {
		stage.Fail()
		return nil, err
	}
	stage.Done("%d packages", len(s.Packages))
	return s, nil
}

// create resolves, unpacks, finishes and moves into place, in that order: a
// killed build leaves a work folder that the next one clears away.
func create(ctx context.Context, dir string, suites, packages []string, locked []packagelist.Package) (*SDK, error) {
	work := filepath.Join(dir, "work")
	if err := removeAll(work); err != nil {
		return nil, err
	}
	if err := os.Mkdir(work, 0o755); err != nil {
		return nil, err
	}
	defer removeAll(work)
	archive, err := debian.FindArchive(ctx)
	if err != nil {
		return nil, err
	}
	root := filepath.Join(work, "root")
	unpacked, err := debian.Unpack(ctx, archive, suites, packages, root, filepath.Join(work, "apt"))
	if err != nil {
		return nil, fmt.Errorf("cannot fetch the SDK: %w", err)
	}
	if locked != nil {
		if lines := packagelist.Difference(locked, unpacked); len(lines) > 0 {
			shown := lines[:min(len(lines), 10)]
			return nil, hint.Wrap(fmt.Errorf("cannot build with the locked SDK: %d packages differ from sdk/lock\n  %s", len(lines), strings.Join(shown, "\n  ")),
				"Debian's mirrors drop superseded versions: build without --locked, and put the sdk.lock it leaves beside the image into sdk/lock")
		}
	}
	if err := finish(root); err != nil {
		return nil, err
	}
	s := describe(dir, unpacked)
	if err := removeAll(s.Root); err != nil {
		return nil, err
	}
	if err := os.Rename(root, s.Root); err != nil {
		return nil, err
	}
	return s, nil
}

// finish does the few things that maintainer scripts would have done and the
// build relies on.
func finish(root string) error {
	for link, target := range map[string]string{
		"usr/bin/awk": "mawk",     // update-alternatives
		"usr/bin/cc":  "clang-22", // what cgo calls the compiler
		"usr/bin/ld":  "ld.lld-22",
	} {
		path := filepath.Join(root, link)
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.Symlink(target, path); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{
		"etc/passwd":   "root:x:0:0::/root:/bin/false\n", // getpwuid of the tools
		"etc/group":    "root:x:0:\n",
		"etc/hostname": "sdk\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	// Nothing in the cache is setuid, even when root made it: these files
	// stand on the host, unpatched, for as long as the cache does.
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 && info.Mode()&fs.ModeSymlink == 0 {
			return os.Chmod(path, info.Mode().Perm())
		}
		return nil
	})
}

func existing(dir string, packages []packagelist.Package) (*SDK, error) {
	s := describe(dir, packages)
	_, err := os.Stat(s.Root)
	return s, err
}

func describe(dir string, packages []packagelist.Package) *SDK {
	digest := sha256.Sum256(append([]byte(recipe), packagelist.Print(packages)...))
	name := hex.EncodeToString(digest[:])
	return &SDK{Root: filepath.Join(dir, name[:16]), Digest: name, Packages: packages}
}

// Version returns the version of a package of the SDK, or "".
func (s *SDK) Version(name string) string {
	for _, p := range s.Packages {
		if p.Name == name {
			return p.Version
		}
	}
	return ""
}

// Path returns where a file of the SDK, named by its path within, is on the host.
func (s *SDK) Path(name string) string { return filepath.Join(s.Root, name) }

func readLock(path string) ([]packagelist.Package, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the SDK's lock: %w", err)
	}
	list, err := packagelist.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("cannot read the SDK's lock %s: %w", path, err)
	}
	return list, nil
}

func list(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	items, err := reasoned.Parse(path, f)
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return nil, fmt.Errorf("%s is empty", path)
	}
	var names []string
	for _, item := range items {
		names = append(names, item.Text)
	}
	return names, nil
}

// removeAll removes a tree whose folders may lack the owner's write bit, as
// those of some packages do.
func removeAll(root string) error {
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			if info, err := entry.Info(); err == nil && info.Mode().Perm()&0o700 != 0o700 {
				return os.Chmod(path, 0o700)
			}
		}
		return nil // what is left is RemoveAll's to complain about
	})
	return errors.Join(err, os.RemoveAll(root))
}
