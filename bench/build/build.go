package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"cloison/format/hint"
	"cloison/format/release"
	"cloison/host/build"
	"cloison/host/tree"
)

const (
	runs  = 3
	bound = 15 * time.Second
)

// changed is the file that each run changes: a package that PID 1 links.
const changed = "target/supervise/status.go"

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 0 {
		return errors.New("usage: go run ./bench/build")
	}
	root, err := tree.Find(".")
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(build.DefaultOut(root, "gateway", "qemu"), build.ManifestName)); err != nil {
		return hint.Wrap(err, "build first: make build")
	}
	dir, err := os.MkdirTemp("", "cloison-bench-build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	source := filepath.Join(dir, "source")
	if err := copyTree(root, source); err != nil {
		return fmt.Errorf("cannot copy the source tree: %w", err)
	}
	b := builder{source: source, program: filepath.Join(dir, "cloison")}
	if err := b.command(ctx, "go", "build", "-buildvcs=false", "-o", b.program, "./cmd/cloison"); err != nil {
		return err
	}

	// The first build makes what the others replace.
	if _, err := b.build(ctx); err != nil {
		return err
	}
	var changes, repeats []time.Duration
	for range runs {
		before, err := b.core()
		if err != nil {
			return err
		}
		if err := b.change(); err != nil {
			return err
		}
		took, err := b.build(ctx)
		if err != nil {
			return err
		}
		changes = append(changes, took)
		after, err := b.core()
		if err != nil {
			return err
		}
		if before == after {
			return fmt.Errorf("the change of %s did not reach the core: this measures nothing", changed)
		}
		if took, err = b.build(ctx); err != nil {
			return err
		}
		repeats = append(repeats, took)
	}

	fmt.Fprintf(out, "cloison build with everything in the cache, median of %d runs, %d cores\n", runs, runtime.NumCPU())
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\tmedian\tslowest\twant\t")
	row := func(name string, took []time.Duration, want string) {
		fmt.Fprintf(table, "%s\t%.1f s\t%.1f s\t%s\t\n", name, median(took).Seconds(), slices.Max(took).Seconds(), want)
	}
	row("after a change in "+changed, changes, fmt.Sprintf("< %v", bound))
	row("after no change", repeats, "")
	if err := table.Flush(); err != nil {
		return err
	}
	if took := median(changes); took >= bound {
		return fmt.Errorf("a build after a change in one file takes %v, want less than %v", took.Round(100*time.Millisecond), bound)
	}
	return nil
}

func median(took []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(took))
	return sorted[len(sorted)/2]
}

// builder builds a copy of the source tree with the program made from it.
type builder struct{ source, program string }

func (b builder) build(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	err := b.command(ctx, b.program, "build")
	return time.Since(start), err
}

// core returns the digest of the core that was built last.
func (b builder) core() (string, error) {
	text, err := os.ReadFile(filepath.Join(build.DefaultOut(b.source, "gateway", "qemu"), build.ManifestName))
	if err != nil {
		return "", err
	}
	m, err := release.Parse(text)
	return m.Core.SHA256, err
}

// change makes a text that the program prints one that no build had before: the
// compiler's cache outlives this program.
func (b builder) change() error {
	path := filepath.Join(b.source, changed)
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	const line = `const developmentLine = "`
	if strings.Count(string(text), line) != 1 {
		return fmt.Errorf("cannot change %s: it has no line that starts with %s", changed, line)
	}
	mark := fmt.Sprintf("%s%d ", line, time.Now().UnixNano())
	return os.WriteFile(path, []byte(strings.Replace(string(text), line, mark, 1)), 0o644)
}

// copyTree copies what a clone would have, and what is not committed yet.
func copyTree(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		path := filepath.Join(from, entry.Name())
		switch {
		case slices.Contains([]string{".git", "bin", "out"}, entry.Name()):
		case entry.IsDir():
			err = errors.Join(err, os.CopyFS(filepath.Join(to, entry.Name()), os.DirFS(path)))
		default:
			text, readErr := os.ReadFile(path)
			err = errors.Join(err, readErr, os.MkdirAll(to, 0o755), os.WriteFile(filepath.Join(to, entry.Name()), text, 0o644))
		}
	}
	return err
}

func (b builder) command(ctx context.Context, name string, args ...string) error {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = b.source
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot run %s %s: %w\n%s", filepath.Base(name), args[0], err, said)
	}
	return nil
}
