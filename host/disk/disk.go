// Package disk makes disk.img: a GUID partition table, an EFI system
// partition, two slots, the first of which holds the core, and empty
// partitions for swap, where the product has it, and for the state volume. It
// needs no privilege: nothing is mounted.
//
// Source: UEFI specification 2.10, section 5.3; package fat.
package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/diskfs/go-diskfs/partition/gpt"

	"cloison/format/fat"
	own "cloison/format/gpt"
	"cloison/format/product"
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
	ESP, CoreA, CoreB, State Extent
	Swap                     Extent // of no size where there is none
	Size                     int64  // of the whole disk, bytes
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
	}{{&l.ESP, int64(d.ESP) * mebi}, {&l.CoreA, int64(d.Slot) * mebi}, {&l.CoreB, int64(d.Slot) * mebi}, {&l.Swap, int64(d.Swap) * mebi}, {&l.State, int64(d.State) * mebi}} {
		*part.extent = Extent{at, part.size}
		at += part.size
	}
	l.Size = at + alignment // the backup table
	return l
}

// GUID derives the GUID of a thing, the same for the same build.
type GUID func(what string) [16]byte

// Make writes the disk to out. files are the contents of the ESP by path,
// core is the image of slot a.
func Make(l Layout, guid GUID, epoch int64, files map[string][]byte, core, out string) error {
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
	serial := guid("esp volume")
	err = fat.Write(io.NewOffsetWriter(f, l.ESP.Offset), fat.Spec{
		Size: l.ESP.Size, Serial: binary.LittleEndian.Uint32(serial[:]), Label: "ESP", Time: time.Unix(epoch, 0), Files: files,
	})
	if err != nil {
		return fmt.Errorf("cannot fill the EFI system partition: %w", err)
	}
	if err := copySparse(f, core, l.CoreA); err != nil {
		return fmt.Errorf("cannot fill slot a: %w", err)
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
			partition(4, own.State, "state", l.State), // at the end of the disk: it grows
		},
	}
	if l.Swap.Size > 0 {
		table.Partitions = append(table.Partitions, partition(5, own.Swap, "swap", l.Swap))
	}
	return table.Write(f, l.Size)
}

func text(guid [16]byte) string {
	return strings.ToUpper(fmt.Sprintf("%x-%x-%x-%x-%x", guid[:4], guid[4:6], guid[6:8], guid[8:10], guid[10:]))
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
