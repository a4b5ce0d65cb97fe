package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"cloison/format/hint"
	"cloison/format/release"
	"cloison/host/build"
	"cloison/host/progress"
	"cloison/host/sdk"
	"cloison/host/tree"
)

const runs = 5

// memory of each machine, in MiB: Debian's ordinary kernel does not even unpack
// itself with [machine.DefaultMemory].
const memory = 512

// What must hold.
const (
	readyBound  = 2 * time.Second // without the state volume, which the peer has not
	stateBound  = 1500 * time.Millisecond
	ratioBound  = 8.0
	memoryBound = 80e6 // bytes
	coreBound   = 60e6 // bytes
)

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 0 {
		return errors.New("usage: go run ./bench/boot")
	}
	root, err := tree.Find(".")
	if err != nil {
		return err
	}
	cache, err := tree.Cache()
	if err != nil {
		return err
	}
	log := progress.To(os.Stderr)
	s, err := sdk.Open(ctx, sdk.Options{Tree: root, Cache: cache, Log: log})
	if err != nil {
		return err
	}
	result := build.DefaultOut(root, "gateway", "qemu")
	manifest, err := readManifest(result)
	if err != nil {
		return err
	}
	images := []string{filepath.Join(result, build.DiskName)}
	var peers []debianSystem
	for _, kernel := range debianKernels {
		peer, err := openDebian(ctx, s, cache, kernel, log)
		if err != nil {
			return err
		}
		peers, images = append(peers, peer), append(images, peer.Disk)
	}
	dir, err := os.MkdirTemp("", "cloison-bench-boot-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	load, err := busy()
	if err != nil {
		return err
	}
	all, err := measure(ctx, s, log, dir, images)
	if err != nil {
		return err
	}
	ours, debian, cloud := medians(all[0]), medians(all[1]), medians(all[2])

	fmt.Fprintf(out, "From the start of the kernel, median of %d alternating boots, %d cores, TCG,\nguest: 2 processors, %d MiB. Load of the host before: %s.\n",
		runs, runtime.NumCPU(), memory, load)
	for i, peer := range peers {
		fmt.Fprintf(out, "%s: Debian %s, kernel %s, %d packages, its own initramfs.\n", []string{"Debian", "cloud"}[i], peer.Version, peer.Release, peer.Packages)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\tcloison\tDebian\tless\tcloud\tless\twant\t")
	stage := func(name string, a time.Duration, of func(boot) time.Duration, want string) {
		b, c := of(debian), of(cloud)
		fmt.Fprintf(table, "%s\t%.2f s\t%.2f s\t%.1f×\t%.2f s\t%.1f×\t%s\t\n", name, a.Seconds(), b.Seconds(), b.Seconds()/a.Seconds(), c.Seconds(), c.Seconds()/a.Seconds(), want)
	}
	amount := func(name string, a, b, c float64, want string) {
		fmt.Fprintf(table, "%s\t%.1f MB\t%.1f MB\t%.1f×\t%.1f MB\t%.1f×\t%s\t\n", name, a/1e6, b/1e6, b/a, c/1e6, c/a, want)
	}
	without := median(all[0], func(b boot) time.Duration { return b.Ready - b.State })
	pid1, ready := func(b boot) time.Duration { return b.PID1 }, func(b boot) time.Duration { return b.Ready }
	stage("kernel and initramfs, until PID 1", median(all[0], func(b boot) time.Duration { return b.PID1 - b.State }), pid1, "")
	stage("PID 1, until ready", ours.Ready-ours.PID1, func(b boot) time.Duration { return b.Ready - b.PID1 }, "")
	stage("ready, without the state volume", without, ready, fmt.Sprintf("< %v, ≥ %.0f× Debian", readyBound, ratioBound))
	fmt.Fprintf(table, "state volume: unsealed, open, mounted\t%.2f s\t\t\t\t\t< %v\t\n", ours.State.Seconds(), stateBound)
	stage("ready, with the state volume", ours.Ready, ready, "")
	amount("memory in use at idle", ours.Memory, debian.Memory, cloud.Memory, fmt.Sprintf("< %.0f MB", memoryBound/1e6))
	amount("core image; root file system", float64(manifest.Core.Size), float64(peers[0].Files), float64(peers[1].Files), fmt.Sprintf("< %.0f MB", coreBound/1e6))
	amount("UKI", float64(manifest.UKI.Size), float64(peers[0].UKI), float64(peers[1].UKI), "")
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "ready, with the state volume: cloison %s; Debian, which has none, %s; cloud %s\n", spread(all[0]), spread(all[1]), spread(all[2]))

	ratio := debian.Ready.Seconds() / without.Seconds()
	return errors.Join(
		sameClocks(all),
		hold(without < readyBound, "Cloison is ready after %v without the state volume, want less than %v", without.Round(time.Millisecond), readyBound),
		hold(ours.State < stateBound, "the state volume takes %v, want less than %v", ours.State.Round(time.Millisecond), stateBound),
		hold(ratio >= ratioBound, "without the state volume Cloison is ready %.1f times sooner than Debian, want %.0f", ratio, ratioBound),
		hold(ours.Memory < memoryBound, "Cloison has %.1f MB of memory in use, want less than %.0f", ours.Memory/1e6, memoryBound/1e6),
		hold(float64(manifest.Core.Size) < coreBound, "the core has %.1f MB, want less than %.0f", float64(manifest.Core.Size)/1e6, coreBound/1e6),
	)
}

// busy returns the host's load average of the last minute (proc(5)): a figure
// from a host that does something else besides is no measurement.
func busy() (string, error) {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "", err
	}
	load, _, _ := strings.Cut(string(text), " ")
	return load, nil
}

func readManifest(dir string) (release.Manifest, error) {
	text, err := os.ReadFile(filepath.Join(dir, build.ManifestName))
	if err != nil {
		return release.Manifest{}, hint.Wrap(err, "build first: make build")
	}
	return release.Parse(text)
}

// measure returns the boots of Cloison, the first image, and of its peers. The
// first boot of each is not among them: it is the one that has things to do once.
func measure(ctx context.Context, s *sdk.SDK, log *progress.Log, dir string, images []string) ([][]boot, error) {
	stage := log.Start("boot each %d times", runs+1)
	starts := make([]bootFunc, len(images))
	for i, image := range images {
		var err error
		if i == 0 {
			starts[i], err = newCloison(ctx, s, dir, image)
		} else {
			starts[i], err = newDebian(s, filepath.Join(dir, fmt.Sprintf("debian-%d", i)), image)
		}
		if err != nil {
			stage.Fail()
			return nil, err
		}
	}
	all := make([][]boot, len(images))
	for round := range int64(runs + 1) {
		for i, start := range starts {
			b, err := start(ctx)
			if err != nil {
				stage.Fail()
				return nil, err
			}
			if round > 0 {
				all[i] = append(all[i], b)
			}
		}
		stage.Update(round+1, runs+1)
	}
	stage.Done("")
	return all, nil
}

func medians(boots []boot) boot {
	return boot{
		PID1:   median(boots, func(b boot) time.Duration { return b.PID1 }),
		Ready:  median(boots, func(b boot) time.Duration { return b.Ready }),
		State:  median(boots, func(b boot) time.Duration { return b.State }),
		Memory: median(boots, func(b boot) float64 { return b.Memory }),
	}
}

func median[T time.Duration | float64](boots []boot, of func(boot) T) T {
	var values []T
	for _, b := range boots {
		values = append(values, of(b))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func spread(boots []boot) string {
	fastest := slices.MinFunc(boots, func(a, b boot) int { return int(a.Ready - b.Ready) })
	slowest := slices.MaxFunc(boots, func(a, b boot) int { return int(a.Ready - b.Ready) })
	return fmt.Sprintf("%.2f s to %.2f s", fastest.Ready.Seconds(), slowest.Ready.Seconds())
}

// sameClocks checks on the host's clock that no guest's is wrong in our favour:
// neither Cloison's too slow, nor the peer's too fast. The lines that it goes by
// are printed a little after the times that they tell.
func sameClocks(all [][]boot) error {
	const slack = 200 * time.Millisecond
	for _, b := range all[0] {
		if err := hold(b.Host < b.Guest*11/10+slack, "Cloison's clock says %v where the host's says %v", b.Guest, b.Host); err != nil {
			return err
		}
	}
	for _, b := range slices.Concat(all[1:]...) {
		if err := hold(b.Guest < b.Host*11/10+slack, "Debian's clock says %v where the host's says %v", b.Guest, b.Host); err != nil {
			return err
		}
	}
	return nil
}

func hold(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}
