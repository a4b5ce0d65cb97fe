// Package kernelbuild builds the kernel of a hardware profile from the
// fragments of kernel/, inside the SDK, once for each set of inputs. It
// needs the SDK's kernel source, clang and their tools.
//
// Source: Linux, Documentation/kbuild/{kconfig,kbuild,llvm,reproducible-builds}.rst.
package kernelbuild

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"cloison/format/hint"
	"cloison/format/kconfig"
	"cloison/format/nearest"
	"cloison/format/reasoned"
	"cloison/host/progress"
	"cloison/host/sdk"
	"cloison/linux/file"
)

// Kernel is a finished kernel in the cache.
type Kernel struct {
	Image   string // path of the bzImage
	Config  string // path of the complete .config
	Release string // what uname -r says
	Cmdline string // the command line compiled in
}

// Options say which kernel is wanted.
type Options struct {
	Tree     string // the source tree, which has kernel/
	Hardware string // hardware profile, a folder of kernel/hardware
	Cache    string // folder for finished kernels
	SDK      *sdk.SDK
	Log      *progress.Log
}

// source is the package that holds the kernel's source.
const source = "linux-source-7.3"

// tools are the packages whose change rebuilds the kernel: what its code and
// its link pass through. The rest of the SDK only reads and copies.
var tools = []string{source, "clang-22", "libclang-common-22-dev", "libclang-cpp22", "libllvm22", "lld-22", "llvm-22", "libelf1t64", "bison", "flex", "mawk", "perl"}

// steps is about how many commands a build prints; it only scales the progress.
const steps = 2450

// Hardware lists the hardware profiles of a source tree.
func Hardware(tree string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(tree, "kernel/hardware"))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names, nil
}

// Open returns the kernel of a hardware profile, and builds it first if its
// inputs have changed.
func Open(ctx context.Context, o Options) (*Kernel, error) {
	options, err := ask(o.Tree, o.Hardware)
	if err != nil {
		return nil, err
	}
	wanted := kconfig.Print(options)
	inputs := sha256.New()
	fmt.Fprintf(inputs, "cloison kernel 1\n%s", wanted)
	for _, name := range tools {
		version := o.SDK.Version(name)
		if version == "" {
			return nil, fmt.Errorf("internal error: the SDK has no package %s", name)
		}
		for _, p := range o.SDK.Packages {
			if p.Name == name {
				fmt.Fprintf(inputs, "%s %s %s\n", p.Name, p.Version, p.SHA256)
			}
		}
	}
	key := hex.EncodeToString(inputs.Sum(nil))
	cache := filepath.Join(o.Cache, "kernel")
	done := filepath.Join(cache, key[:16])
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	// A kernel that is there is whole, and nobody has to wait for another one's.
	if kernel, err := load(done); err == nil {
		return kernel, nil
	}
	unlock, err := lock(ctx, o.Log, filepath.Join(cache, "lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if kernel, err := load(done); err == nil {
		return kernel, nil
	}
	stage := o.Log.Start("build kernel %s for %s", o.SDK.Version(source), o.Hardware)
	if err := build(ctx, o.SDK, stage, options, wanted, key, cache, done); err != nil {
		stage.Fail()
		return nil, err
	}
	kernel, err := load(done)
	if err != nil {
		stage.Fail()
		return nil, err
	}
	stage.Done("%s", kernel.Release)
	return kernel, nil
}

// lock lets one kernel be built at a time: it takes all processors for itself.
func lock(ctx context.Context, log *progress.Log, path string) (unlock func(), err error) {
	if unlock, err = file.TryLock(path); !errors.Is(err, file.ErrLocked) {
		return unlock, err
	}
	log.Say("another build makes a kernel: wait for it")
	return file.Lock(ctx, path)
}

// ask joins the fragments of a hardware profile.
func ask(tree, hardware string) ([]kconfig.Option, error) {
	known, err := Hardware(tree)
	if err != nil {
		return nil, err
	}
	if err := nearest.Check("hardware profile", hardware, known); err != nil {
		return nil, err
	}
	names, err := filepath.Glob(filepath.Join(tree, "kernel/*.config"))
	if err != nil {
		return nil, err
	}
	names = append(names, filepath.Join(tree, "kernel/hardware", hardware, "kernel.config"))
	var fragments [][]kconfig.Option
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		short, err := filepath.Rel(tree, name)
		if err != nil {
			return nil, err
		}
		options, err := kconfig.Parse(short, bytes.NewReader(text))
		if err != nil {
			return nil, fmt.Errorf("cannot read a kernel fragment: %w", err)
		}
		fragments = append(fragments, options)
	}
	cmdline, err := Cmdline(tree, hardware)
	if err != nil {
		return nil, err
	}
	where := filepath.Join("kernel/hardware", hardware, "cmdline")
	fragments = append(fragments, []kconfig.Option{{Name: "CMDLINE", Value: strconv.Quote(cmdline), Where: where}})
	options, err := kconfig.Join(fragments...)
	if err != nil {
		return nil, fmt.Errorf("cannot join the kernel fragments: %w", err)
	}
	return options, nil
}

// Cmdline returns the kernel's own command line on a hardware profile.
func Cmdline(tree, hardware string) (string, error) {
	name := filepath.Join("kernel/hardware", hardware, "cmdline")
	text, err := os.ReadFile(filepath.Join(tree, name))
	if err != nil {
		return "", err
	}
	items, err := reasoned.Parse(name, bytes.NewReader(text))
	if err != nil {
		return "", err
	}
	var words []string
	for _, item := range items {
		words = append(words, item.Text)
	}
	return strings.Join(words, " "), nil
}

func load(dir string) (*Kernel, error) {
	k := &Kernel{Image: filepath.Join(dir, "bzImage"), Config: filepath.Join(dir, "config")}
	for _, name := range []string{k.Image, k.Config} {
		if _, err := os.Stat(name); err != nil {
			return nil, err
		}
	}
	release, err := os.ReadFile(filepath.Join(dir, "release"))
	if err != nil {
		return nil, err
	}
	cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		return nil, err
	}
	k.Release, k.Cmdline = strings.TrimSpace(string(release)), string(cmdline)
	return k, nil
}

// seed replaces the kernel's script that draws the seed of RANDSTRUCT from
// /dev/urandom: the same inputs have to give the same kernel.
const seed = "#!/bin/sh\n" +
	"printf %s \"$CLOISON_SEED\" > \"$1\"\n" +
	"printf '#define RANDSTRUCT_HASHED_SEED \"%s\"\\n' \"$CLOISON_SEED\" > \"$2\"\n"

func build(ctx context.Context, s *sdk.SDK, stage *progress.Stage, options []kconfig.Option, wanted []byte, key, cache, done string) error {
	work := filepath.Join(cache, "work")
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	for _, dir := range []string{"source", "build", "done"} {
		if err := os.MkdirAll(filepath.Join(work, dir), 0o755); err != nil {
			return err
		}
	}
	defer os.RemoveAll(work)

	archive := s.Path("usr/src/" + source + ".tar.xz")
	info, err := os.Stat(archive)
	if err != nil {
		return fmt.Errorf("cannot find the kernel's source: %w", err)
	}
	run := func(stdout *lines, dir string, args ...string) error {
		step := sdk.Step{
			Args:    args,
			Dir:     dir,
			Outputs: []sdk.Bind{{Host: work, Inside: "/build"}},
			Env: []string{
				"KCONFIG_ALLCONFIG=/build/wanted", "CLOISON_SEED=" + key,
				"KBUILD_BUILD_TIMESTAMP=" + info.ModTime().UTC().Format(time.RFC3339),
				"KBUILD_BUILD_USER=cloison", "KBUILD_BUILD_HOST=cloison", "KBUILD_BUILD_VERSION=1",
			},
		}
		if stdout != nil {
			step.Stdout = stdout
		}
		return s.Run(ctx, step)
	}
	if err := run(nil, "/build", "tar", "--extract", "--file=/usr/src/"+source+".tar.xz", "--directory=/build/source", "--strip-components=1"); err != nil {
		return err
	}
	err = errors.Join(
		os.WriteFile(filepath.Join(work, "wanted"), wanted, 0o644),
		os.WriteFile(filepath.Join(work, "source/scripts/gen-randstruct-seed.sh"), []byte(seed), 0o755))
	if err != nil {
		return err
	}
	if err := run(nil, "/build/source", "make", "LLVM=-22", "O=/build/build", "allnoconfig"); err != nil {
		return err
	}
	if err := checkKept(options, work); err != nil {
		return err
	}
	counter := &lines{each: func(n int) { stage.Update(int64(n), steps) }}
	if err := run(counter, "/build/source", "make", "LLVM=-22", "O=/build/build", "-j"+strconv.Itoa(runtime.NumCPU()+1), "bzImage"); err != nil {
		return err
	}
	for from, to := range map[string]string{
		"build/arch/x86/boot/bzImage":         "done/bzImage",
		"build/.config":                       "done/config",
		"build/include/config/kernel.release": "done/release",
	} {
		if err := os.Rename(filepath.Join(work, from), filepath.Join(work, to)); err != nil {
			return err
		}
	}
	cmdline := ""
	for _, option := range options {
		if option.Name == "CMDLINE" {
			if cmdline, err = strconv.Unquote(option.Value); err != nil {
				return err
			}
		}
	}
	if err := os.WriteFile(filepath.Join(work, "done/cmdline"), []byte(cmdline), 0o644); err != nil {
		return err
	}
	return os.Rename(filepath.Join(work, "done"), done)
}

// checkKept fails unless the kernel's configuration program kept every line
// that was asked for.
func checkKept(options []kconfig.Option, work string) error {
	known := map[string]bool{}
	err := filepath.WalkDir(filepath.Join(work, "source"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasPrefix(entry.Name(), "Kconfig") {
			return err
		}
		text, err := os.ReadFile(path)
		kconfig.Symbols(text, known)
		return err
	})
	if err != nil {
		return err
	}
	config, err := os.Open(filepath.Join(work, "build/.config"))
	if err != nil {
		return err
	}
	defer config.Close()
	lost, err := kconfig.Lost(options, config, known)
	if err != nil {
		return err
	}
	if len(lost) > 0 {
		return hint.Wrap(fmt.Errorf("cannot configure the kernel as kernel/ asks: %d lines are lost\n  %s", len(lost), strings.Join(lost, "\n  ")),
			"an option that became n lacks one that it depends on; one that became y is selected by another")
	}
	return nil
}

// lines counts the lines that pass through it.
type lines struct {
	n    int
	each func(n int)
}

func (l *lines) Write(p []byte) (int, error) {
	if added := bytes.Count(p, []byte("\n")); added > 0 {
		l.n += added
		l.each(l.n)
	}
	return len(p), nil
}
