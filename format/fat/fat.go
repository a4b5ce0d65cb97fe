// Package fat writes and reads an EFI system partition, a FAT32 file system,
// without mounting it. Writing is deterministic to the last byte. Reading is
// strict, because the disk is in the hands of whoever holds the machine: where
// firmware and this package could see different files, it is an error. It needs
// nothing but the partition as an io.ReaderAt or io.WriterAt.
//
// Source: Microsoft, "FAT32 File System Specification", version 1.03; UEFI
// 2.10, section 13.3. Integers are little-endian.
package fat

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// File is a regular file.
type File struct {
	Path string // with slashes, without a leading one, in the case that is on disk
	Size uint32 // bytes
	// chain holds the file's clusters in order.
	chain []uint32
}

// Volume is a file system whose structure is sound.
type Volume struct {
	Files []File // sorted by path

	disk        io.ReaderAt
	fat         []byte
	clusters    uint32 // number of data clusters; the first is 2
	clusterSize uint64 // bytes
	dataStart   uint64 // bytes
	used        []bool // by cluster
	entries     int
}

// Bounds on what is read: far above any EFI system partition of Cloison.
const (
	maxFAT     = 64 << 20 // bytes
	maxEntries = 10000    // files and folders together
	maxDepth   = 16
	maxFolder  = 2 << 20 // bytes of one folder: what the specification allows
)

const (
	bootSector     = 512
	entrySize      = 32
	minClusters    = 65525 // fewer would be FAT16 to every driver
	endOfChain     = 0x0ffffff8
	entryMask      = 0x0fffffff
	attrVolume     = 0x08
	attrFolder     = 0x10
	attrLong       = 0x0f
	lastLong       = 0x40
	unitsPerLong   = 13
	maxLongEntries = 20
	deleted        = 0xe5
)

// Open reads the structure of the file system in the first size bytes of
// disk: boot sector, both allocation tables, every folder.
func Open(disk io.ReaderAt, size int64) (*Volume, error) {
	v, err := open(disk, size)
	if err != nil {
		return nil, fmt.Errorf("cannot read the FAT file system: %w", err)
	}
	return v, nil
}

func open(disk io.ReaderAt, size int64) (*Volume, error) {
	b := make([]byte, bootSector)
	if err := readFull(disk, b, 0); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	sector, perCluster := uint64(le.Uint16(b[11:])), uint64(b[13])
	reserved, copies := uint64(le.Uint16(b[14:])), uint64(b[16])
	total, tableSectors, root := uint64(le.Uint32(b[32:])), uint64(le.Uint32(b[36:])), le.Uint32(b[44:])
	powerOfTwo := func(n uint64) bool { return n != 0 && n&(n-1) == 0 }
	switch {
	case b[510] != 0x55 || b[511] != 0xaa:
		return nil, errors.New("the boot sector has no signature")
	case sector < bootSector || sector > 4096 || !powerOfTwo(sector) || !powerOfTwo(perCluster):
		return nil, fmt.Errorf("sectors of %d bytes, clusters of %d sectors", sector, perCluster)
	case le.Uint16(b[17:]) != 0 || le.Uint16(b[19:]) != 0 || le.Uint16(b[22:]) != 0 || le.Uint16(b[42:]) != 0:
		return nil, errors.New("it is not FAT32")
	case reserved == 0 || copies != 2 || le.Uint16(b[40:]) != 0:
		return nil, fmt.Errorf("%d reserved sectors, %d allocation tables, flags %#x: want two tables alike", reserved, copies, le.Uint16(b[40:]))
	case total > uint64(max(size, 0))/sector:
		return nil, fmt.Errorf("it has %d sectors of %d bytes in a partition of %d bytes", total, sector, size)
	case tableSectors == 0 || tableSectors > maxFAT/sector || reserved+copies*tableSectors >= total:
		return nil, fmt.Errorf("an allocation table of %d sectors", tableSectors)
	}
	dataStart := reserved + copies*tableSectors
	clusters := (total - dataStart) / perCluster
	if clusters < minClusters || (clusters+2)*4 > tableSectors*sector {
		return nil, fmt.Errorf("%d clusters do not fit FAT32 with a table of %d sectors", clusters, tableSectors)
	}
	v := &Volume{
		disk: disk, clusters: uint32(clusters), clusterSize: sector * perCluster, dataStart: dataStart * sector,
		used: make([]bool, clusters+2), fat: make([]byte, tableSectors*sector),
	}
	twin := make([]byte, len(v.fat))
	if err := errors.Join(readFull(disk, v.fat, reserved*sector), readFull(disk, twin, (reserved+tableSectors)*sector)); err != nil {
		return nil, err
	}
	if !bytes.Equal(v.fat, twin) {
		return nil, errors.New("the two allocation tables differ")
	}
	chain, err := v.chain(root)
	if err != nil {
		return nil, fmt.Errorf("the root folder: %w", err)
	}
	if err := v.folder("", chain, 0, 0, 0); err != nil {
		return nil, err
	}
	slices.SortFunc(v.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return v, nil
}

// ReadFile returns the content of one of v.Files.
func (v *Volume) ReadFile(f File) ([]byte, error) {
	data, err := v.read(f.chain)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", f.Path, err)
	}
	return data[:f.Size], nil
}

func readFull(r io.ReaderAt, b []byte, offset uint64) error {
	n, err := r.ReadAt(b, int64(offset))
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// chain follows the clusters from first. No cluster may be reached twice: so
// there is no loop, and no file shares a cluster with another.
func (v *Volume) chain(first uint32) ([]uint32, error) {
	var chain []uint32
	for at := first; ; {
		if at < 2 || at >= v.clusters+2 {
			return nil, fmt.Errorf("cluster %d does not exist or is not in use", at)
		}
		if v.used[at] {
			return nil, fmt.Errorf("cluster %d is used twice", at)
		}
		v.used[at] = true
		chain = append(chain, at)
		if at = binary.LittleEndian.Uint32(v.fat[4*at:]) & entryMask; at >= endOfChain {
			return chain, nil
		}
	}
}

func (v *Volume) read(chain []uint32) ([]byte, error) {
	data := make([]byte, uint64(len(chain))*v.clusterSize)
	for i, cluster := range chain {
		if err := readFull(v.disk, data[uint64(i)*v.clusterSize:][:v.clusterSize], v.dataStart+uint64(cluster-2)*v.clusterSize); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// folder reads a folder and all below it. self and parent are the clusters
// that its entries . and .. must name; the root, of depth 0, has none.
func (v *Volume) folder(name string, chain []uint32, self, parent uint32, depth int) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("folder /%s: %w", name, fmt.Errorf(format, args...))
	}
	if depth > maxDepth || uint64(len(chain))*v.clusterSize > maxFolder {
		return fail("it is too deep or too large")
	}
	data, err := v.read(chain)
	if err != nil {
		return fail("%w", err)
	}
	seen := map[string]bool{}
	var long longName
	for i := 0; i < len(data); i += entrySize {
		e := entry(data[i:][:entrySize])
		if e[0] == 0 {
			break
		}
		if e[0] == deleted {
			if long.pending() {
				return fail("a long name without an entry")
			}
			continue
		}
		if e.attributes()&0x3f == attrLong {
			if err := long.add(e); err != nil {
				return fail("%w", err)
			}
			continue
		}
		if depth > 0 && i < 2*entrySize {
			// UEFI's parent of a folder below the root is cluster 0, whatever the root's.
			want, cluster := ".          ", self
			if i > 0 {
				want, cluster = "..         ", parent
			}
			if string(e[:11]) != want || e.cluster() != cluster || e.attributes()&attrFolder == 0 {
				return fail("entry %d is not %q of cluster %d", i/entrySize, strings.TrimSpace(want), cluster)
			}
			continue
		}
		if e.attributes()&attrVolume != 0 {
			if depth > 0 || long.pending() {
				return fail("a volume label")
			}
			continue
		}
		short, err := e.shortName()
		if err != nil {
			return fail("%w", err)
		}
		called := short
		if long.pending() {
			if called, err = long.take(e); err != nil {
				return fail("%w", err)
			}
		}
		// Firmware compares without case, and finds a file by either name.
		for _, key := range slices.Compact([]string{strings.ToUpper(called), strings.ToUpper(short)}) {
			if seen[key] {
				return fail("two entries are called %s", key)
			}
			seen[key] = true
		}
		if v.entries++; v.entries > maxEntries {
			return fail("there are more than %d files", maxEntries)
		}
		if err := v.entry(path.Join(name, called), e, self, depth); err != nil {
			return err
		}
	}
	if long.pending() {
		return fail("a long name without an entry")
	}
	return nil
}

// entry reads what one entry of a folder stands for.
func (v *Volume) entry(name string, e entry, parent uint32, depth int) error {
	if e.attributes()&attrFolder == 0 && e.size() == 0 {
		if e.cluster() != 0 {
			return fmt.Errorf("%s: an empty file has cluster %d", name, e.cluster())
		}
		v.Files = append(v.Files, File{Path: name})
		return nil
	}
	chain, err := v.chain(e.cluster())
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if e.attributes()&attrFolder != 0 {
		return v.folder(name, chain, e.cluster(), parent, depth+1)
	}
	if want := (uint64(e.size()) + v.clusterSize - 1) / v.clusterSize; uint64(len(chain)) != want {
		return fmt.Errorf("%s: %d bytes in %d clusters, want %d", name, e.size(), len(chain), want)
	}
	v.Files = append(v.Files, File{Path: name, Size: e.size(), chain: chain})
	return nil
}
