package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"cloison/format/fec"
	"cloison/format/verity"
)

const (
	dataBlocks = 512 << 20 / verity.BlockSize
	roots      = 2
	runs       = 3
	// bound is how many times less CPU time than veritysetup tree and parity
	// have to take.
	bound = 5
)

var (
	salt = [32]byte{0: 0x5a, 31: 0xa5}
	uuid = [16]byte{0xc1, 0x01, 0x50, 0x11, 6: 0x40, 8: 0x80, 15: 1}
)

// run compares. It starts itself again as the competitor, with "format FILE
// FEC", and as the stopwatch, with "time PROGRAM ARGUMENT…".
func run(ctx context.Context, args []string, out io.Writer) error {
	switch {
	case len(args) == 0:
		return compare(ctx, out)
	case len(args) == 3 && args[0] == "format":
		return format(args[1], args[2] == "true")
	case len(args) >= 2 && args[0] == "time":
		return stopwatch(ctx, args[1:], out)
	}
	return errors.New("usage: go run ./bench/verity")
}

// format writes the hash area and, where asked, the parity behind the data, as
// veritysetup format does, and brings them to the disk, as it does.
func format(file string, withFEC bool) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	tree, err := verity.Build(f, dataBlocks, salt, uuid)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(tree.Hashes, dataBlocks*verity.BlockSize); err != nil {
		return err
	}
	if withFEC {
		region := verity.Covered(f, bytes.NewReader(tree.Hashes), dataBlocks)
		parity, err := fec.Encode(region, verity.CoveredBlocks(dataBlocks), roots)
		if err != nil {
			return err
		}
		if _, err := f.WriteAt(parity, fecOffset()); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

func fecOffset() int64 {
	return int64(dataBlocks*verity.BlockSize + verity.HashBytes(dataBlocks))
}

// competitor formats a file of its own under the stopwatch.
type competitor struct {
	name string
	file string
	// start runs the stopwatch for one format of the file and returns what it
	// printed.
	start func(ctx context.Context, file string, withFEC bool) ([]byte, error)
}

// cost is what one run took. CPU is user and system time.
type cost struct{ Wall, CPU time.Duration }

// stopwatch runs a program and prints its cost as JSON. It runs within the
// sandbox, since the sandbox does not pass on the CPU time of what ran in it.
func stopwatch(ctx context.Context, program []string, out io.Writer) error {
	command := exec.CommandContext(ctx, program[0], program[1:]...)
	var said bytes.Buffer
	command.Stdout, command.Stderr = &said, &said
	start := time.Now()
	if err := command.Run(); err != nil {
		return fmt.Errorf("cannot run %s: %w\n%s", program[0], err, said.Bytes())
	}
	state := command.ProcessState
	return json.NewEncoder(out).Encode(cost{time.Since(start), state.UserTime() + state.SystemTime()})
}

func compare(ctx context.Context, out io.Writer) error {
	// In memory: how fast the disk takes what both end with, fsync, is not what
	// is compared, and would hide how many cores compute.
	dir, err := os.MkdirTemp("/dev/shm", "cloison-bench-verity-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	veritysetup, err := peer(ctx, self, dir)
	if err != nil {
		return err
	}
	competitors := []competitor{
		{"cloison", filepath.Join(dir, "cloison"), func(ctx context.Context, file string, withFEC bool) ([]byte, error) {
			return exec.CommandContext(ctx, self, "time", self, "format", file, fmt.Sprint(withFEC)).Output()
		}},
		{"veritysetup", filepath.Join(dir, "veritysetup"), func(ctx context.Context, file string, withFEC bool) ([]byte, error) {
			return veritysetup(ctx, append([]string{self, "time"}, veritysetupArgs(file, withFEC)...))
		}},
	}
	for _, c := range competitors {
		if err := writeData(c.file); err != nil {
			return err
		}
	}

	fmt.Fprintf(out, "dm-verity over %d MiB of random data, median of %d alternating runs, %d cores\n",
		dataBlocks*verity.BlockSize>>20, runs, runtime.NumCPU())
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\twall\tCPU\tCPU/wall\tpeer's wall\tpeer's CPU\tless\t")
	var less float64
	for _, withFEC := range []bool{false, true} {
		costs, err := measure(ctx, competitors, withFEC)
		if err != nil {
			return err
		}
		if err := sameFiles(competitors[0].file, competitors[1].file); err != nil {
			return err
		}
		title := "tree"
		if withFEC {
			title = "tree and parity"
		}
		ours, theirs := costs[0], costs[1]
		less = float64(theirs.CPU) / float64(ours.CPU)
		fmt.Fprintf(table, "%s\t%v\t%v\t%.2f\t%v\t%v\t%.1f×\t\n", title,
			ours.Wall.Round(time.Millisecond), ours.CPU.Round(time.Millisecond), float64(ours.CPU)/float64(ours.Wall),
			theirs.Wall.Round(time.Millisecond), theirs.CPU.Round(time.Millisecond), less)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out, "the two files are identical")
	if less < bound {
		return fmt.Errorf("tree and parity take %.1f times less CPU time than veritysetup, want %d", less, bound)
	}
	return nil
}

// measure returns the median cost of each competitor.
func measure(ctx context.Context, competitors []competitor, withFEC bool) ([]cost, error) {
	all := make([][]cost, len(competitors))
	for range runs {
		for i, c := range competitors {
			// What the run before has written must not spare this one work.
			if err := os.Truncate(c.file, dataBlocks*verity.BlockSize); err != nil {
				return nil, err
			}
			printed, err := c.start(ctx, c.file, withFEC)
			if err != nil {
				return nil, fmt.Errorf("cannot time %s: %w", c.name, err)
			}
			var took cost
			if err := json.Unmarshal(printed, &took); err != nil {
				return nil, fmt.Errorf("cannot time %s: %w", c.name, err)
			}
			all[i] = append(all[i], took)
		}
	}
	medians := make([]cost, len(all))
	for i, costs := range all {
		medians[i] = cost{
			Wall: median(costs, func(c cost) time.Duration { return c.Wall }),
			CPU:  median(costs, func(c cost) time.Duration { return c.CPU }),
		}
	}
	return medians, nil
}

func median(costs []cost, of func(cost) time.Duration) time.Duration {
	values := make([]time.Duration, len(costs))
	for i, c := range costs {
		values[i] = of(c)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// writeData makes the file to format, the same each time.
func writeData(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.CopyN(f, rand.NewChaCha8([32]byte{1}), dataBlocks*verity.BlockSize); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// sameFiles fails where the first difference is.
func sameFiles(ours, theirs string) error {
	a, err := os.Open(ours)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := os.Open(theirs)
	if err != nil {
		return err
	}
	defer b.Close()
	left, right := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := 0; ; at += len(left) {
		n, errA := io.ReadFull(a, left)
		m, errB := io.ReadFull(b, right)
		if n != m || !bytes.Equal(left[:n], right[:m]) {
			return fmt.Errorf("the files differ within the MiB at offset %d", at)
		}
		for _, err := range []error{errA, errB} {
			if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
				return err
			}
		}
		if n < len(left) {
			return nil
		}
	}
}

func veritysetupArgs(file string, withFEC bool) []string {
	args := []string{
		"veritysetup", "format", file, file,
		fmt.Sprintf("--data-blocks=%d", dataBlocks),
		fmt.Sprintf("--hash-offset=%d", dataBlocks*verity.BlockSize),
		"--salt=" + hex.EncodeToString(salt[:]),
		fmt.Sprintf("--uuid=%x-%x-%x-%x-%x", uuid[:4], uuid[4:6], uuid[6:8], uuid[8:10], uuid[10:]),
	}
	if withFEC {
		args = append(args, "--fec-device="+file, fmt.Sprintf("--fec-offset=%d", fecOffset()), fmt.Sprintf("--fec-roots=%d", roots))
	}
	return args
}
