// Package disk makes disk.img: a GUID partition table, an EFI system
// partition, and two slots, the first of which holds the core. It needs
// mkfs.vfat and mtools from the SDK, and no privilege: nothing is mounted.
//
// Source: UEFI specification 2.10, section 5.3; mkfs.fat(8), mtools(1).
package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/diskfs/go-diskfs/partition/gpt"

	own "cloison/format/gpt"
	"cloison/format/product"
	"cloison/host/sdk"
	"cloison/linux/file"
)

const (
	mebi       = 1 << 20
	sectorSize = 512
	// alignment of partitions: what every tool uses, a multiple of any erase block.
	alignment = 1 * mebi
)

// Layout is where the partitions are.
type Layout struct {
	ESP, CoreA, CoreB Extent
	Size              int64 // of the whole disk, bytes
}

// Extent is a range of bytes.
type Extent struct{ Offset, Size int64 }

// Plan computes the layout of a product's disk.
func Plan(d product.Disk) Layout {
	var l Layout
	at := int64(alignment)
	for _, part := range []struct {
		extent *Extent
		size   int64
	}{{&l.ESP, int64(d.ESP) * mebi}, {&l.CoreA, int64(d.Slot) * mebi}, {&l.CoreB, int64(d.Slot) * mebi}} {
		*part.extent = Extent{at, part.size}
		at += part.size
	}
	l.Size = at + alignment // the backup table
	return l
}

// GUID derives the GUID of a thing, the same for the same build.
type GUID func(what string) [16]byte

// Make writes the disk to out. files are the contents of the ESP by path,
// core is the image of slot a. work is an empty folder.
func Make(ctx context.Context, s *sdk.SDK, l Layout, guid GUID, epoch int64, files map[string][]byte, core, work, out string) error {
	esp := filepath.Join(work, "esp")
	if err := makeESP(ctx, s, l.ESP.Size, guid("esp volume"), epoch, files, work, esp); err != nil {
		return err
	}
	f, err := os.OpenFile(out, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(l.Size); err != nil {
		return err
	}
	if err := writeTable(f, l, guid); err != nil {
		return fmt.Errorf("cannot write the partition table: %w", err)
	}
	for _, part := range []struct {
		path   string
		extent Extent
		what   string
	}{{esp, l.ESP, "the EFI system partition"}, {core, l.CoreA, "slot a"}} {
		if err := copySparse(f, part.path, part.extent); err != nil {
			return fmt.Errorf("cannot fill %s: %w", part.what, err)
		}
	}
	return errors.Join(f.Sync(), f.Close())
}

func writeTable(f *os.File, l Layout, guid GUID) error {
	partition := func(index int, kind own.GUID, label string, e Extent) *gpt.Partition {
		return &gpt.Partition{
			Index: index, Type: gpt.Type(strings.ToUpper(kind.String())), Name: label, GUID: text(guid(label)),
			Start: uint64(e.Offset / sectorSize), End: uint64((e.Offset+e.Size)/sectorSize) - 1, Size: uint64(e.Size),
		}
	}
	table := &gpt.Table{
		LogicalSectorSize: sectorSize, PhysicalSectorSize: sectorSize, GUID: text(guid("disk")), ProtectiveMBR: true,
		Partitions: []*gpt.Partition{
			partition(1, own.ESP, "esp", l.ESP),
			partition(2, own.Core, "core-a", l.CoreA),
			partition(3, own.Core, "core-b", l.CoreB),
		},
	}
	return table.Write(f, l.Size)
}

func text(guid [16]byte) string {
	return strings.ToUpper(fmt.Sprintf("%x-%x-%x-%x-%x", guid[:4], guid[4:6], guid[6:8], guid[8:10], guid[10:]))
}

// makeESP makes the file system without mounting it.
func makeESP(ctx context.Context, s *sdk.SDK, size int64, volume [16]byte, epoch int64, files map[string][]byte, work, out string) error {
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return err
	}
	tree := filepath.Join(work, "esp.files")
	var total int64
	for name, data := range files {
		total += int64(len(data))
		path := filepath.Join(tree, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
			return err
		}
	}
	if total > size*9/10 {
		return fmt.Errorf("the EFI system partition of %d MiB is too small for %d MiB of files", size/mebi, total/mebi)
	}
	tops, err := os.ReadDir(tree)
	if err != nil {
		return err
	}
	step := sdk.Step{
		// mtools writes the unused end of a cluster from memory that it never
		// initialised; the second setting has the C library hand out zeros
		// (the complement of 255), so that nothing of it lands on the disk.
		Env:     []string{"SOURCE_DATE_EPOCH=" + strconv.FormatInt(epoch, 10), "GLIBC_TUNABLES=glibc.malloc.perturb=255"},
		Inputs:  []sdk.Bind{{Host: tree, Inside: "/files"}},
		Outputs: []sdk.Bind{{Host: out, Inside: "/esp"}},
	}
	step.Args = []string{"mkfs.vfat", "--invariant", "-F", "32", "-n", "ESP", "-i", fmt.Sprintf("%x", volume[:4]), "/esp"}
	if err := s.Run(ctx, step); err != nil {
		return err
	}
	step.Args = []string{"mcopy", "-i", "/esp", "-s", "-b"}
	for _, top := range tops { // sorted: ReadDir sorts
		step.Args = append(step.Args, "/files/"+top.Name())
	}
	step.Args = append(step.Args, "::/")
	return s.Run(ctx, step)
}

// copySparse copies a file into a range of the disk, its holes as holes.
func copySparse(disk *os.File, path string, e Extent) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() > e.Size {
		return fmt.Errorf("%d MiB are too small for %d bytes", e.Size/mebi, info.Size())
	}
	for part, err := range file.Data(f) {
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(disk, e.Offset+part.Start), io.NewSectionReader(f, part.Start, part.End-part.Start)); err != nil {
			return err
		}
	}
	return nil
}
