// Package gpt reads a GUID partition table strictly: the primary one, or where
// that is damaged the backup. Everything is checked (signatures, CRCs, ranges,
// overlaps) because the disk is in the hands of whoever holds the machine.
//
// Source: UEFI specification 2.10, section 5.3 "GUID Partition Table (GPT) Disk
// Layout". Integers are little-endian. It needs nothing but the standard
// library; the disk is an io.ReaderAt.
package gpt

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sort"
	"strings"
	"unicode/utf16"
)

// GUID is in the order of its bytes on disk: the first three groups are
// little-endian (UEFI specification 2.10, appendix A).
type GUID [16]byte

// Types of partitions that Cloison looks for.
var (
	Core = mustGUID("8d7b9a1e-5c0f-4e2b-9d58-c1015011c0de") // a slot: Cloison's own type
	ESP  = mustGUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b") // EFI system partition, UEFI 2.10 table 5.8
	// State is the state volume: a LUKS partition as every tool knows it (UAPI
	// group, Discoverable Partitions Specification).
	State = mustGUID("ca7d7ccb-63ed-4c53-861c-1742536059cc")
	Swap  = mustGUID("0657fd6d-a4ab-43c4-84e5-0933c8433f4f") // likewise; encrypted anew at each boot
)

// mustGUID parses the canonical text of a GUID and panics on anything else. It
// is for constants.
func mustGUID(s string) GUID {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != 16 {
		panic("internal error: no GUID: " + s)
	}
	g := swap(GUID(b))
	if g.String() != s {
		panic("internal error: no canonical GUID: " + s)
	}
	return g
}

func swap(g GUID) GUID {
	return GUID{g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6], g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]}
}

// String returns the canonical text in lower case.
func (g GUID) String() string {
	b := swap(g)
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Partition is one used entry.
type Partition struct {
	Number     int // as the kernel counts: 1 is the first entry
	Type, ID   GUID
	Start      uint64 // bytes from the start of the disk
	Size       uint64 // bytes
	Attributes uint64 // UEFI 2.10 table 5.8
	Label      string
}

// Table is a partition table that passed every check.
type Table struct {
	Disk       GUID
	Backup     bool // read from the end of the disk, because the primary is damaged
	Partitions []Partition
}

const (
	headerSize  = 92
	entrySize   = 128
	maxEntries  = 1024 // 128 is what everybody writes; the bound limits what is read
	minEntries  = 128  // UEFI: at least 16384 bytes are reserved
	signature   = "EFI PART"
	revision1_0 = 0x00010000
)

// Read reads the table of a disk of size bytes with logical blocks of
// sectorSize bytes (512 or 4096).
func Read(disk io.ReaderAt, size int64, sectorSize int) (*Table, error) {
	if sectorSize != 512 && sectorSize != 4096 {
		return nil, fmt.Errorf("cannot read the partition table: sectors of %d bytes", sectorSize)
	}
	sectors := uint64(max(size, 0)) / uint64(sectorSize)
	if sectors < 6 {
		return nil, fmt.Errorf("cannot read the partition table: a disk of %d bytes", size)
	}
	r := reader{disk, sectors, uint64(sectorSize)}
	t, errPrimary := r.table(1)
	if errPrimary == nil {
		return t, nil
	}
	t, errBackup := r.table(sectors - 1)
	if errBackup != nil {
		return nil, fmt.Errorf("cannot read the partition table: primary: %w; backup: %v", errPrimary, errBackup)
	}
	t.Backup = true
	return t, nil
}

type reader struct {
	disk            io.ReaderAt
	sectors, sector uint64
}

// table reads the table whose header is at sector at: 1 or the last.
func (r reader) table(at uint64) (*Table, error) {
	h := make([]byte, r.sector)
	if err := r.read(h, at); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if string(h[:8]) != signature {
		return nil, errors.New("no signature")
	}
	if rev, n := le.Uint32(h[8:]), le.Uint32(h[12:]); rev != revision1_0 || n != headerSize {
		return nil, fmt.Errorf("revision %#x with a header of %d bytes is unknown", rev, n)
	}
	sum := le.Uint32(h[16:])
	le.PutUint32(h[16:], 0) // the CRC is computed with its own field zero
	if got := crc32.ChecksumIEEE(h[:headerSize]); got != sum {
		return nil, fmt.Errorf("header checksum %08x, computed %08x", sum, got)
	}
	first, last := le.Uint64(h[40:]), le.Uint64(h[48:])
	entriesAt, count, each := le.Uint64(h[72:]), le.Uint32(h[80:]), le.Uint32(h[84:])
	switch {
	case le.Uint64(h[24:]) != at:
		return nil, fmt.Errorf("header says it is at sector %d, not %d", le.Uint64(h[24:]), at)
	case at == 1 && (le.Uint64(h[32:]) <= last || le.Uint64(h[32:]) >= r.sectors), at != 1 && le.Uint64(h[32:]) != 1:
		// The backup may lie before the last sector: an image copied to a
		// larger disk. UEFI 2.10 section 5.3.2 has the primary at sector 1.
		return nil, fmt.Errorf("header says its twin is at sector %d", le.Uint64(h[32:]))
	case each != entrySize || count < minEntries || count > maxEntries:
		return nil, fmt.Errorf("%d entries of %d bytes", count, each)
	case first > last || last >= r.sectors:
		return nil, fmt.Errorf("usable sectors %d to %d of %d", first, last, r.sectors)
	}
	length := uint64(count) * entrySize
	sectors := (length + r.sector - 1) / r.sector
	// The entries lie outside the usable sectors, on the header's side of them.
	if at == 1 && (entriesAt < 2 || entriesAt > first || sectors > first-entriesAt) ||
		at != 1 && (entriesAt <= last || entriesAt > at || sectors > at-entriesAt) {
		return nil, fmt.Errorf("entries at sector %d overlap something else", entriesAt)
	}
	raw := make([]byte, sectors*r.sector)
	if err := r.read(raw, entriesAt); err != nil {
		return nil, err
	}
	raw = raw[:length]
	if want, got := le.Uint32(h[88:]), crc32.ChecksumIEEE(raw); got != want {
		return nil, fmt.Errorf("checksum of the entries %08x, computed %08x", want, got)
	}
	t := &Table{Disk: GUID(h[56:72])}
	for i := range int(count) {
		e := raw[i*entrySize:][:entrySize]
		if (GUID(e[:16]) == GUID{}) {
			continue
		}
		start, end := le.Uint64(e[32:]), le.Uint64(e[40:])
		if start < first || end > last || start > end {
			return nil, fmt.Errorf("partition %d: sectors %d to %d are not within %d to %d", i+1, start, end, first, last)
		}
		name, err := label(e[56:128])
		if err != nil {
			return nil, fmt.Errorf("partition %d: %w", i+1, err)
		}
		t.Partitions = append(t.Partitions, Partition{
			Number: i + 1, Type: GUID(e[:16]), ID: GUID(e[16:32]),
			Start: start * r.sector, Size: (end - start + 1) * r.sector,
			Attributes: le.Uint64(e[48:]), Label: name,
		})
	}
	return t, overlaps(t.Partitions)
}

func (r reader) read(b []byte, sector uint64) error {
	if n := uint64(len(b)) / r.sector; sector >= r.sectors || n > r.sectors-sector {
		return fmt.Errorf("sector %d is beyond the end of the disk", sector)
	}
	n, err := r.disk.ReadAt(b, int64(sector*r.sector))
	if n == len(b) {
		return nil
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("cannot read sector %d: %w", sector, err)
}

func overlaps(ps []Partition) error {
	s := append([]Partition(nil), ps...)
	sort.Slice(s, func(i, j int) bool { return s[i].Start < s[j].Start })
	for i := 1; i < len(s); i++ {
		if s[i-1].Start+s[i-1].Size > s[i].Start {
			return fmt.Errorf("partitions %d and %d overlap", s[i-1].Number, s[i].Number)
		}
	}
	return nil
}

// label decodes 36 UTF-16 units, ended by the first zero.
func label(b []byte) (string, error) {
	var u []uint16
	for i := 0; i < len(b); i += 2 {
		c := binary.LittleEndian.Uint16(b[i:])
		if c == 0 {
			break
		}
		if c < ' ' || c > '~' {
			return "", fmt.Errorf("character %#04x in its label", c)
		}
		u = append(u, c)
	}
	return string(utf16.Decode(u)), nil
}
