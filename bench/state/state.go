package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"cloison/format/luks2"
	"cloison/host/machine"
	"cloison/host/progress"
	"cloison/host/sdk"
	"cloison/host/tree"
	"cloison/test/guest"
	"cloison/test/guest/job"
)

const (
	rounds   = 5
	diskSize = 128 << 20 // bytes of each device
)

// columns are the kinds of load, in the order of cloison/bench/state/load.
var columns = []string{"read", "write", "write, fsync", "4K read", "4K write", "4K write, fsync"}

// layout is one way to protect a device.
type layout struct {
	name  string
	steps [][]string // that open it; DISK is its disk
	node  string     // what is then read and written
}

const key = guest.Files + "/key"

func layouts() []layout {
	tool := func(line string) []string { return strings.Fields(line) }
	luks := func(name, open string) []([]string) {
		return [][]string{
			tool("/usr/sbin/cryptsetup luksFormat --batch-mode --type luks2 --cipher " + luks2.Cipher + " --key-size 512 --integrity hmac-sha256 --integrity-no-wipe" +
				" --sector-size " + strconv.Itoa(luks2.SectorSize) + " --pbkdf pbkdf2 --hash sha256 --pbkdf-force-iterations 1000 --key-file " + key + " DISK"),
			tool("/usr/sbin/cryptsetup open --batch-mode --key-file " + key + " " + open + " DISK " + name),
		}
	}
	const integrity = "--integrity hmac-sha256 --integrity-key-file " + key + " --integrity-key-size 32 "
	plain := func(name, device string) []string {
		return tool("/usr/sbin/cryptsetup open --batch-mode --type plain --cipher " + luks2.Cipher + " --key-size 512 --sector-size " +
			strconv.Itoa(luks2.SectorSize) + " --key-file " + key + " " + device + " " + name)
	}
	below := func(name, open string) [][]string {
		return [][]string{
			tool("/usr/sbin/integritysetup format --batch-mode --tag-size 32 --sector-size 4096 " + integrity + "DISK"),
			tool("/usr/sbin/integritysetup open --batch-mode " + integrity + open + " DISK " + name + "i"),
			plain(name, "/dev/mapper/"+name+"i"),
		}
	}
	return []layout{
		{"bare device", nil, ""},
		{"dm-crypt", [][]string{plain("crypt", "DISK")}, "crypt"},
		{"state volume: dm-crypt's tags, journal", luks("journal", ""), "journal"},
		{"dm-crypt's tags, no journal", luks("direct", "--integrity-no-journal"), "direct"},
		{"dm-integrity's own tags, journal", below("ownjournal", ""), "ownjournal"},
		{"dm-integrity's own tags, bitmap", below("ownbitmap", "--integrity-bitmap-mode"), "ownbitmap"},
		{"dm-integrity's own tags, no journal", below("owndirect", "--integrity-no-journal"), "owndirect"},
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 0 {
		return errors.New("usage: go run ./bench/state")
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
	accelerator, err := machine.Probe(ctx, s)
	if err != nil {
		return err
	}
	g, err := guest.New(ctx, guest.Options{
		Tree: root, Cache: cache, SDK: s, Log: log, Accelerator: accelerator,
		Tools: []string{"usr/sbin/cryptsetup", "usr/sbin/integritysetup", "usr/sbin/dmsetup"},
	})
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "cloison-bench-state-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	busy, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	all := layouts()
	stage := log.Start("read and write %d devices %d times each", len(all), rounds)
	speeds, refusal, err := measure(ctx, g, root, dir, all)
	if err != nil {
		stage.Fail()
		return err
	}
	stage.Done("")
	fmt.Fprintf(out, "%d MiB a device, around all caches, one request at a time, median of %d alternating\nruns, %d cores, %s, guest: 2 processors. Load of the host before: %s.\n",
		diskSize>>20, rounds, runtime.NumCPU(), accelerator.Name, bytes.Fields(busy)[0])
	fmt.Fprintf(out, "Requests of 1 MiB in MB/s; of 4 KiB at random places in requests/s.\n\n")
	printTable(out, "", all, speeds, func(_, column int) float64 { return 1 }, "%.0f")
	printTable(out, "as a share of the bare device", all, speeds, func(_, column int) float64 { return speeds[0][column] }, "%.2f")
	printTable(out, "as a share of dm-crypt", all, speeds, func(_, column int) float64 { return speeds[1][column] }, "%.2f")
	fmt.Fprintf(out, "dm-crypt's tags with dm-integrity's bitmap: %s\n", refusal)
	return nil
}

func printTable(out io.Writer, title string, all []layout, speeds [][]float64, per func(row, column int) float64, form string) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "%s\t%s\t\n", title, strings.Join(columns, "\t"))
	for row, l := range all {
		fmt.Fprintf(table, "%s\t", l.name)
		for column := range columns {
			fmt.Fprintf(table, form+"\t", speeds[row][column]/per(row, column))
		}
		fmt.Fprintln(table)
	}
	fmt.Fprintln(table)
	_ = table.Flush() // out is the terminal
}

// measure returns the median speeds by layout and column, and what the kernel
// says to the one layout that it does not know.
func measure(ctx context.Context, g *guest.Guest, root, dir string, all []layout) (speeds [][]float64, refusal string, err error) {
	load, secret := filepath.Join(dir, "load"), make([]byte, 64)
	_, _ = rand.Read(secret) // never fails (crypto/rand)
	if err := guest.Compile(ctx, root, "./bench/state/load", load); err != nil {
		return nil, "", err
	}
	j := guest.Job{Programs: map[string]string{"load": load}, Files: map[string][]byte{"key": secret}, Memory: 512}
	var nodes []string
	for i, l := range all {
		name := "disk" + strconv.Itoa(i)
		image := filepath.Join(dir, name+".img")
		if err := writeImage(image); err != nil {
			return nil, "", err
		}
		j.Disks = append(j.Disks, guest.Disk{Name: name, Path: image, Writable: true})
		node := guest.Disks + "/" + name
		for _, args := range l.steps {
			args = slices.Clone(args)
			for k := range args {
				args[k] = strings.ReplaceAll(args[k], "DISK", node)
			}
			j.Commands = append(j.Commands, job.Command{Args: args})
		}
		if l.node != "" {
			node = "/dev/mapper/" + l.node
		}
		nodes = append(nodes, node)
		j.Commands = append(j.Commands, job.Command{Args: []string{guest.Programs + "/load", "fill", node}})
	}
	begin := len(j.Commands)
	// The first round is not counted.
	for range rounds + 1 {
		for _, node := range nodes {
			j.Commands = append(j.Commands, job.Command{Args: []string{guest.Programs + "/load", "run", node}})
		}
	}
	// A bitmap with tags of another's making, on a device that is closed first.
	last := all[len(all)-1].node
	j.Commands = append(j.Commands,
		job.Command{Args: []string{"/usr/sbin/cryptsetup", "close", last}},
		job.Command{Args: []string{"/usr/sbin/integritysetup", "close", last + "i"}},
		job.Command{Args: []string{"/usr/sbin/dmsetup", "create", "refused", "--table", fmt.Sprintf("0 %d integrity %s/disk%d 0 32 B 1 block_size:4096", diskSize/1024, guest.Disks, len(all)-1)}, MayFail: true})
	results, err := g.Run(ctx, j)
	if err != nil {
		return nil, "", err
	}
	refused := results[len(results)-1]
	if refused.Code == 0 {
		return nil, "", errors.New("the kernel takes a bitmap with dm-crypt's tags: docs/decisions/0007-state-volume.md says otherwise")
	}
	for row := range all {
		var runs [][]float64
		for round := 1; round <= rounds; round++ {
			values, err := parse(string(results[begin+round*len(all)+row].Stdout))
			if err != nil {
				return nil, "", err
			}
			runs = append(runs, values)
		}
		speeds = append(speeds, medians(runs))
	}
	return speeds, strings.Join(strings.Fields(string(refused.Stderr)), " "), nil
}

// writeImage makes a disk without holes: what the host has to allocate is not
// the guest's cost.
func writeImage(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	for range diskSize >> 20 {
		if _, err := f.Write(make([]byte, 1<<20)); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(f.Sync(), f.Close())
}

func parse(text string) ([]float64, error) {
	var values []float64
	for _, field := range strings.Fields(text) {
		v, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	if len(values) != len(columns) {
		return nil, fmt.Errorf("%d speeds, want %d: %q", len(values), len(columns), text)
	}
	return values, nil
}

func medians(runs [][]float64) []float64 {
	middle := make([]float64, len(columns))
	for column := range columns {
		var values []float64
		for _, r := range runs {
			values = append(values, r[column])
		}
		slices.Sort(values)
		middle[column] = values[len(values)/2]
	}
	return middle
}
