// Package block lists disks and their partitions from sysfs and reads them.
//
// Source: Linux, Documentation/ABI/stable/sysfs-block and
// Documentation/ABI/testing/sysfs-class-block; sizes and starts there count
// sectors of 512 bytes whatever the device has. It needs sysfs at /sys and
// devtmpfs at /dev.
package block

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
)

const (
	class  = "/sys/class/block"
	sector = 512
)

// Disk is a whole disk.
type Disk struct {
	Name       string // vda
	Size       int64  // bytes
	SectorSize int    // logical block, bytes
}

// Partition is a partition as the kernel sees it.
type Partition struct {
	Name   string // vda2
	Number int
	Start  uint64 // bytes
	Size   uint64 // bytes
}

// Node returns the device node of a disk or partition.
func Node(name string) string { return "/dev/" + name }

// Disks returns the disks that have a device behind them and hold something:
// no loop, RAM or mapped device. The order is by name.
func Disks() ([]Disk, error) {
	entries, err := os.ReadDir(class)
	if err != nil {
		return nil, fmt.Errorf("cannot list disks: %w", err)
	}
	var disks []Disk
	for _, e := range entries {
		dir := filepath.Join(class, e.Name())
		if exists(filepath.Join(dir, "partition")) || !exists(filepath.Join(dir, "device")) {
			continue
		}
		sectors, err := number(filepath.Join(dir, "size"))
		if gone(err) {
			continue // unplugged between the two looks
		}
		bytes, err2 := number(filepath.Join(dir, "queue/logical_block_size"))
		if err := errors.Join(err, err2); err != nil {
			return nil, fmt.Errorf("cannot list disks: %w", err)
		}
		if sectors > 0 {
			disks = append(disks, Disk{e.Name(), int64(sectors) * sector, int(bytes)})
		}
	}
	return disks, nil
}

// Partitions returns the partitions of a disk, in the order of their numbers.
func Partitions(disk string) ([]Partition, error) {
	dir := filepath.Join(class, disk)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot list partitions of %s: %w", disk, err)
	}
	var parts []Partition
	for _, e := range entries {
		sub := filepath.Join(dir, e.Name())
		if !strings.HasPrefix(e.Name(), disk) || !exists(filepath.Join(sub, "partition")) {
			continue
		}
		n, err1 := number(filepath.Join(sub, "partition"))
		start, err2 := number(filepath.Join(sub, "start"))
		size, err3 := number(filepath.Join(sub, "size"))
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, fmt.Errorf("cannot list partitions of %s: %w", disk, err)
		}
		parts = append(parts, Partition{e.Name(), int(n), start * sector, size * sector})
	}
	sort.Slice(parts, func(i, j int) bool { return parts[i].Number < parts[j].Number })
	return parts, nil
}

// Device is a disk or partition that can be read.
type Device interface {
	io.ReaderAt
	io.Closer
}

// Open opens a node for reading.
func Open(node string) (Device, error) {
	f, err := os.Open(node)
	if err != nil {
		return nil, fmt.Errorf("cannot open %w", err)
	}
	st, err := f.Stat()
	if err == nil && st.Mode()&(os.ModeDevice|os.ModeCharDevice) != os.ModeDevice {
		err = errors.New("no block device")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open %s: %w", node, err), f.Close())
	}
	return f, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func gone(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENODEV)
}

func number(path string) (uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(b)), 10, 53)
}
