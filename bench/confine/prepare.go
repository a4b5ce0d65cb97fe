package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cloison/format/service"
	"cloison/host/debian"
	"cloison/host/program"
	"cloison/host/progress"
	"cloison/host/sdk"
	"cloison/host/serviceroot"
	"cloison/host/tree"
)

var (
	suites   = []string{"trixie", "trixie-updates", "trixie-security"}
	packages = []string{"bubblewrap", "runc"}
)

// boxed is the service that is measured.
func boxed() *service.Service {
	return &service.Service{
		Name: "true", About: "does nothing, and does it well", ID: 999, Program: "/usr/bin/true", Stdio: service.Log,
		Network: service.None, Proc: service.Own, Writable: []service.Writable{{Path: "/tmp", Size: 1 << 20}},
		Seccomp:  service.Seccomp{Groups: []string{"runtime", "libraries"}},
		Landlock: service.Landlock{Read: []string{"/proc"}, Write: []string{"/tmp"}},
		Limits:   service.Limits{Memory: 32 << 20, Processes: 32, CPU: 100, Descriptors: 64},
		Start:    service.Start{Ready: service.Ended, Timeout: service.Duration(time.Minute), Restart: service.Never, Stop: service.Duration(time.Second)},
	}
}

// prepare makes a folder that can be a root: Debian's tools, the launcher, the
// box, and what runc wants to read.
func prepare(ctx context.Context, dir string) error {
	root, err := tree.Find(".")
	if err != nil {
		return err
	}
	cache, err := tree.Cache()
	if err != nil {
		return err
	}
	log := progress.To(os.Stderr)
	tools, err := sdk.Open(ctx, sdk.Options{Tree: root, Cache: cache, Log: log})
	if err != nil {
		return err
	}
	peers, err := openPeers(ctx, cache)
	if err != nil {
		return fmt.Errorf("cannot get %s: %w", strings.Join(packages, " and "), err)
	}
	if err := os.CopyFS(filepath.Join(dir, "usr"), os.DirFS(filepath.Join(peers, "usr"))); err != nil {
		return err
	}
	for _, link := range []string{"bin", "lib", "lib64", "sbin"} {
		if err := os.Symlink("usr/"+link, filepath.Join(dir, link)); err != nil {
			return err
		}
	}
	for _, d := range []string{"proc", "sys", "dev", "run", "tmp", "bundle"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	const launcher = "../bench/confine/launcher"
	chain, err := program.Fetch(ctx, root, launcher)
	if err != nil {
		return err
	}
	if _, err := program.Build(ctx, program.Options{Tree: root, Cache: cache, SDK: tools, Log: log}, chain, filepath.Join(dir, "usr/lib/cloison"), launcher); err != nil {
		return err
	}
	s := boxed()
	files, err := serviceroot.Files(s, nil, tools.Root)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := place(filepath.Join(dir, f.Name), f.Mode, f.Data, f.From); err != nil {
			return err
		}
	}
	bundle, err := json.Marshal(runcConfig(s))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "bundle/config.json"), bundle, 0o644)
}

func place(at string, mode fs.FileMode, data []byte, from string) error {
	if mode.IsDir() {
		return os.MkdirAll(at, 0o755)
	}
	if from != "" {
		var err error
		if data, err = os.ReadFile(from); err != nil {
			return err
		}
	}
	return errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, data, mode.Perm()), os.Chmod(at, mode.Perm()))
}

// openPeers returns the folder with Debian's bubblewrap and runc, unpacked and
// never installed.
func openPeers(ctx context.Context, cache string) (string, error) {
	recipe := sha256.Sum256([]byte(strings.Join(append(suites, packages...), " ")))
	dir := filepath.Join(cache, "bench", "confine-"+hex.EncodeToString(recipe[:8]))
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return dir, err
	}
	archive, err := debian.FindArchive(ctx)
	if err != nil {
		return "", err
	}
	work, err := os.MkdirTemp("", "cloison-bench-confine-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	part := dir + ".part"
	if err := errors.Join(os.RemoveAll(part), os.MkdirAll(filepath.Dir(dir), 0o755)); err != nil {
		return "", err
	}
	if _, err := debian.Unpack(ctx, archive, suites, packages, part, filepath.Join(work, "apt")); err != nil {
		return "", err
	}
	return dir, os.Rename(part, dir)
}
