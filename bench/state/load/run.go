package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"syscall"
	"time"
)

const (
	small = 4 << 10
	large = 1 << 20
	// area is what is read and written of the device, in bytes.
	area = 64 << 20
)

// kinds of load, in the order in which their speeds are printed. A kind with
// random places makes requests of small bytes, one without those of large.
var kinds = []struct {
	write, random, sync bool
	count               int // requests
}{
	{write: false, random: false, sync: false, count: 32},
	{write: true, random: false, sync: false, count: 32},
	{write: true, random: false, sync: true, count: 16},
	{write: false, random: true, sync: false, count: 1024},
	{write: true, random: true, sync: false, count: 1024},
	{write: true, random: true, sync: true, count: 128},
}

func run(args []string, out io.Writer) error {
	if len(args) != 2 {
		return errors.New("usage: load fill|run NODE")
	}
	f, err := os.OpenFile(args[1], os.O_RDWR|syscall.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	// Direct requests want memory that begins with a page.
	b, err := syscall.Mmap(-1, 0, large, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	if args[0] == "fill" {
		for at := int64(0); at < area; at += large {
			if _, err := f.WriteAt(b, at); err != nil {
				return err
			}
		}
		return f.Sync()
	}
	for _, k := range kinds {
		// What one kind leaves to be done is not the next one's.
		if err := f.Sync(); err != nil {
			return err
		}
		start := time.Now()
		for i := range k.count {
			at, part := int64(i)*large%area, b
			if k.random {
				at, part = random.Int64N(area/small)*small, b[:small]
			}
			if k.write {
				_, err = f.WriteAt(part, at)
			} else {
				_, err = f.ReadAt(part, at)
			}
			if err == nil && k.sync {
				err = f.Sync()
			}
			if err != nil {
				return err
			}
		}
		rate := float64(k.count) / time.Since(start).Seconds()
		if !k.random {
			rate *= large / 1e6
		}
		fmt.Fprintln(out, rate)
	}
	return nil
}
