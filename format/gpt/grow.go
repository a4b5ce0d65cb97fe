package gpt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Piece is something to write.
type Piece struct {
	Offset int64 // bytes
	Data   []byte
}

// alignment of partitions, in bytes.
const alignment = 1 << 20

// Grow computes how the partition with this number, which must be the last one
// on the disk, reaches to the end of it. The pieces must be written in their
// order, each only when the one before it is on the disk: then one of the two
// tables is whole at any time. No pieces: it does already.
func Grow(disk io.ReaderAt, size int64, sectorSize, number int) (grown Partition, pieces []Piece, err error) {
	fail := func(err error) (Partition, []Piece, error) {
		return Partition{}, nil, fmt.Errorf("cannot grow partition %d: %w", number, err)
	}
	t, err := Read(disk, size, sectorSize)
	if err != nil {
		return fail(err)
	}
	sector := uint64(sectorSize)
	sectors := uint64(size) / sector
	inEntries := minEntries * entrySize / sector
	last := sectors - 1 - inEntries - 1 // usable
	index := -1
	for i, p := range t.Partitions {
		if p.Number > minEntries {
			return fail(fmt.Errorf("there is a partition %d", p.Number))
		}
		if p.Number == number {
			index = i
		}
	}
	if index < 0 {
		return fail(errors.New("there is none"))
	}
	grown = t.Partitions[index]
	for _, p := range t.Partitions {
		if p.Start > grown.Start {
			return fail(fmt.Errorf("partition %d is behind it", p.Number))
		}
		if p.Start < (2+inEntries)*sector {
			return fail(fmt.Errorf("partition %d begins where the table is", p.Number))
		}
	}
	end := (last + 1) * sector / alignment * alignment
	if !t.Backup && end <= grown.Start+grown.Size {
		return grown, nil, nil
	}
	grown.Size = max(end, grown.Start+grown.Size) - grown.Start
	t.Partitions[index] = grown

	entries := t.entries(sector)
	header := func(at, twin, entriesAt uint64) []byte {
		h := make([]byte, sector)
		le := binary.LittleEndian
		copy(h, signature)
		le.PutUint32(h[8:], revision1_0)
		le.PutUint32(h[12:], headerSize)
		le.PutUint64(h[24:], at)
		le.PutUint64(h[32:], twin)
		le.PutUint64(h[40:], 2+inEntries)
		le.PutUint64(h[48:], last)
		copy(h[56:], t.Disk[:])
		le.PutUint64(h[72:], entriesAt)
		le.PutUint32(h[80:], minEntries)
		le.PutUint32(h[84:], entrySize)
		le.PutUint32(h[88:], crc32.ChecksumIEEE(entries))
		le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:headerSize]))
		return h
	}
	pieces = []Piece{
		{int64((sectors - 1 - inEntries) * sector), append(entries[:len(entries):len(entries)], header(sectors-1, 1, sectors-1-inEntries)...)},
		{int64(sector), append(header(1, sectors-1, 2), entries...)},
	}
	mbr, err := protective(disk, sectors, sector)
	if err != nil {
		return fail(err)
	}
	return grown, append(pieces, mbr...), nil
}

func (t *Table) entries(sector uint64) []byte {
	le := binary.LittleEndian
	b := make([]byte, minEntries*entrySize)
	for _, p := range t.Partitions {
		e := b[(p.Number-1)*entrySize:]
		copy(e, p.Type[:])
		copy(e[16:], p.ID[:])
		le.PutUint64(e[32:], p.Start/sector)
		le.PutUint64(e[40:], (p.Start+p.Size)/sector-1)
		le.PutUint64(e[48:], p.Attributes)
		for i, c := range []byte(p.Label) { // label: printable ASCII
			le.PutUint16(e[56+2*i:], uint16(c))
		}
	}
	return b
}

// protective makes the protective MBR tell the disk's size (UEFI 2.10, table
// 5.4). One that is no such MBR is left alone.
func protective(disk io.ReaderAt, sectors, sector uint64) ([]Piece, error) {
	b := make([]byte, sector)
	if n, err := disk.ReadAt(b, 0); n != len(b) {
		return nil, fmt.Errorf("cannot read sector 0: %w", err)
	}
	const first, kind, length = 446, 446 + 4, 446 + 12
	if b[510] != 0x55 || b[511] != 0xaa || b[kind] != 0xee {
		return nil, nil
	}
	binary.LittleEndian.PutUint32(b[length:], uint32(min(sectors-1, 1<<32-1)))
	return []Piece{{0, b}}, nil
}
