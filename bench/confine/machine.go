package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"cloison/host/build"
	"cloison/host/build/variant"
	"cloison/host/machine"
	"cloison/host/progress"
	"cloison/host/sdk"
	"cloison/host/tree"
	"cloison/test/boot/misfit"
)

const (
	// services is how many the machine has, those of the product and idle ones.
	services = 10
	boots    = 5
	// patience is what one boot may take, firmware included.
	patience = 5 * time.Minute

	readyBound  = time.Second
	memoryBound = 15e6 // bytes
)

var (
	promptLine = regexp.MustCompile(`(?m)^cloison> $`)
	tookLine   = regexp.MustCompile(`PID 1 to ready +([0-9.]+) s`)
	memoryLine = regexp.MustCompile(`memory in use .* MiB, ([0-9.]+) of them PID 1's`)
	readyLine  = regexp.MustCompile(`(?m)^    \S+ +ready +\S+ +\d+ +0 `)
)

// hosting is what one boot told of PID 1.
type hosting struct {
	took   time.Duration // until all services were ready and the boot marked good
	memory float64       // resident, bytes
}

// host boots the product with so many services, all required, and reports how long
// PID 1 takes for them and what it needs.
func host(ctx context.Context, dir string, out io.Writer) error {
	root, err := tree.Find(".")
	if err != nil {
		return err
	}
	cache, err := tree.Cache()
	if err != nil {
		return err
	}
	o := build.Options{Tree: root, Cache: cache, Product: "gateway", Hardware: "qemu", Log: progress.To(os.Stderr)}
	product, err := build.ReadProduct(o.Tree, o.Product)
	if err != nil {
		return err
	}
	idle := map[string]string{}
	for i := range services - len(product.Services) {
		name := fmt.Sprint("idle", i)
		idle[name] = misfit.Declaration(name, true)
	}
	v := variant.Variant{Name: "ten", Services: idle, Programs: map[string]string{"misfit": "cloison/test/boot/misfit.Main"}}
	image, err := v.Build(ctx, o, filepath.Join(dir, "tree"))
	if err != nil {
		return err
	}
	s, err := sdk.Open(ctx, sdk.Options{Tree: root, Cache: cache, Log: o.Log})
	if err != nil {
		return err
	}
	all, err := bootAll(ctx, s, dir, filepath.Join(image, build.DiskName), o.Log)
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b hosting) int { return int(a.took - b.took) })
	took, memory := all[len(all)/2].took, 0.0
	for _, h := range all {
		memory = max(memory, h.memory)
	}
	fmt.Fprintf(out, "%d services under TCG, of %d boots: all ready %.2f s after PID 1 began (median; %.2f s to %.2f s), want < %v;\nPID 1 has at most %.1f MB resident, want < %.0f MB\n",
		services, len(all), took.Seconds(), all[0].took.Seconds(), all[len(all)-1].took.Seconds(), readyBound, memory/1e6, memoryBound/1e6)
	if took >= readyBound {
		err = fmt.Errorf("%d services are ready after %v, want less than %v", services, took, readyBound)
	}
	if memory >= memoryBound {
		err = errors.Join(err, fmt.Errorf("PID 1 has %.1f MB resident, want less than %.0f", memory/1e6, memoryBound/1e6))
	}
	return err
}

// bootAll boots the image again and again. The first boot, which makes the state
// volume, is not counted.
func bootAll(ctx context.Context, s *sdk.SDK, dir, image string, log *progress.Log) (all []hosting, err error) {
	template, err := machine.NewTemplate(ctx, s, machine.Accelerator{}, filepath.Join(dir, "keys"), image)
	if err != nil {
		return nil, err
	}
	defer template.Close()
	folder, err := template.Folder(s, filepath.Join(dir, "machine"), image)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	stage := log.Start("boot %d services %d times", services, boots+1)
	for i := range int64(boots + 1) {
		h, err := bootOnce(ctx, s, folder)
		if err != nil {
			stage.Fail()
			return nil, err
		}
		if i > 0 {
			all = append(all, h)
		}
		stage.Update(i+1, boots+1)
	}
	stage.Done("")
	return all, nil
}

func bootOnce(ctx context.Context, s *sdk.SDK, folder *machine.Folder) (h hosting, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	m, err := machine.Start(ctx, machine.Config{SDK: s, Folder: folder, NoReboot: true})
	if err != nil {
		return h, err
	}
	go m.Unattended(machine.Patience, os.Stderr)
	defer m.Close()
	if _, err := m.Console.Expect(ctx, promptLine); err != nil {
		return h, err
	}
	// The first status stands above the first prompt.
	status := m.Console.Text()
	if up := len(readyLine.FindAllString(status, -1)); up < services {
		return h, fmt.Errorf("%d services are ready at their first start, want at least %d:\n%s", up, services, status)
	}
	seconds, err := number(status, tookLine)
	if err != nil {
		return h, err
	}
	mebibytes, err := number(status, memoryLine)
	if err != nil {
		return h, err
	}
	if _, err := m.Console.Write([]byte("poweroff\r")); err != nil {
		return h, err
	}
	exit, err := m.Wait()
	if err == nil && exit.Reason != "guest-shutdown" {
		err = fmt.Errorf("the machine did not switch itself off: %s", exit.Reason)
	}
	return hosting{time.Duration(seconds * float64(time.Second)), mebibytes * (1 << 20)}, err
}

func number(text string, line *regexp.Regexp) (float64, error) {
	found := line.FindStringSubmatch(text)
	if found == nil {
		return 0, fmt.Errorf("no %q in\n%s", line, text)
	}
	return strconv.ParseFloat(found[1], 64)
}
