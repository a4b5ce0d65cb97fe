package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
)

// Spec is a file system to be written.
type Spec struct {
	Size   int64             // bytes, of the whole file system
	Serial uint32            // volume serial number
	Label  string            // at most 11 characters, upper case
	Time   time.Time         // of every file, in UTC
	Files  map[string][]byte // content by path, with slashes, without a leading one
}

const (
	sector      = bootSector
	reserved    = 32 // sectors before the first allocation table
	tables      = 2
	rootCluster = 2
	chainEnd    = 0x0fffffff
	attrFile    = 0x20
)

// Write writes the file system to w, which must read as zeros where nothing
// is written. The same Spec gives the same bytes; every byte is determined.
func Write(w io.WriterAt, s Spec) error {
	g, err := plan(s.Size)
	if err != nil {
		return err
	}
	if len(s.Label) > 11 || s.Label != strings.ToUpper(s.Label) {
		return fmt.Errorf("cannot use the label %q", s.Label)
	}
	wr := writer{w: w, spec: s, geometry: g, table: []uint32{0x0ffffff8, chainEnd}}
	root, err := tree(s.Files)
	if err != nil {
		return err
	}
	if err := wr.place(root, nil); err != nil {
		return err
	}
	table := make([]byte, len(wr.table)*4)
	for i, next := range wr.table {
		binary.LittleEndian.PutUint32(table[4*i:], next)
	}
	boot, info := wr.boot(), wr.info()
	for _, part := range []struct {
		data   []byte
		sector uint64
	}{{boot, 0}, {info, 1}, {boot, 6}, {info, 7}, {table, reserved}, {table, reserved + g.tableSectors}} {
		if _, err := w.WriteAt(part.data, int64(part.sector)*sector); err != nil {
			return err
		}
	}
	return nil
}

// geometry is how the disk is divided.
type geometry struct {
	sectors      uint64 // of the whole file system
	tableSectors uint64 // of one allocation table
	dataStart    int64  // bytes
	cluster      int    // bytes
	clusters     uint32
}

// plan takes the largest clusters, up to 4096 bytes, of which there are enough
// for the file system to be FAT32; specification, "FAT type determination" and
// "FAT data structure".
func plan(size int64) (geometry, error) {
	sectors := uint64(max(size, 0)) / sector
	for cluster := uint64(4096); cluster >= sector && sectors > reserved && sectors <= 1<<32-1; cluster /= 2 {
		perTable := (256*cluster/sector + tables) / 2
		g := geometry{sectors: sectors, tableSectors: (sectors - reserved + perTable - 1) / perTable, cluster: int(cluster)}
		start := reserved + tables*g.tableSectors
		if sectors <= start {
			continue
		}
		g.dataStart, g.clusters = int64(start)*sector, uint32((sectors-start)*sector/cluster)
		if g.clusters >= minClusters {
			return g, nil
		}
	}
	return geometry{}, fmt.Errorf("cannot make a FAT32 file system of %d bytes", size)
}

// node is a file or a folder.
type node struct {
	name     string
	folder   bool
	data     []byte
	children []*node // sorted by name
	first    uint32  // cluster; 0 for an empty file
}

func tree(files map[string][]byte) (*node, error) {
	root := &node{folder: true}
	for _, name := range slices.Sorted(names(files)) {
		if name == "" || path.Clean(name) != name || path.IsAbs(name) || strings.HasPrefix(name, "..") {
			return nil, fmt.Errorf("cannot place the file %q", name)
		}
		at := root
		parts := strings.Split(name, "/")
		for i, part := range parts {
			last := i == len(parts)-1
			next := at.child(part)
			switch {
			case next == nil:
				next = &node{name: part, folder: !last}
				at.children = append(at.children, next)
			case last || !next.folder || next.name != part:
				return nil, fmt.Errorf("cannot place %q: two names differ in case alone, or one is file and folder", name)
			}
			at = next
		}
		at.data = files[name]
	}
	return root, nil
}

func names(files map[string][]byte) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for name := range files {
			if !yield(name) {
				return
			}
		}
	}
}

// child finds a name as the file system compares it: without case.
func (n *node) child(name string) *node {
	for _, c := range n.children {
		if strings.EqualFold(c.name, name) {
			return c
		}
	}
	return nil
}

type writer struct {
	geometry
	w     io.WriterAt
	spec  Spec
	table []uint32 // the allocation table so far
}

// errFull says that the files do not fit.
var errFull = errors.New("the EFI system partition is too small for its files")

// allocate takes a run of clusters for size bytes.
func (w *writer) allocate(size int) (uint32, error) {
	n := (size + w.cluster - 1) / w.cluster
	if n == 0 {
		return 0, nil
	}
	first := uint32(len(w.table))
	if uint64(first)+uint64(n) > uint64(w.clusters)+rootCluster {
		return 0, errFull
	}
	for i := range n {
		next := first + uint32(i) + 1
		if i == n-1 {
			next = chainEnd
		}
		w.table = append(w.table, next)
	}
	return first, nil
}

// place gives a folder its clusters, then those of all below it, then writes it.
func (w *writer) place(folder, parent *node) error {
	names, err := shortNames(folder)
	if err != nil {
		return err
	}
	entries := 1 // the volume label, in the root
	if parent != nil {
		entries = 2 // . and ..
	}
	for _, c := range folder.children {
		entries += 1 + longEntries(c.name, names[c])
	}
	if folder.first, err = w.allocate(entries * entrySize); err != nil {
		return err
	}
	for _, c := range folder.children {
		if c.folder {
			err = w.place(c, folder)
		} else {
			err = w.file(c)
		}
		if err != nil {
			return err
		}
	}
	var b []byte
	if parent == nil {
		b = w.entry(b, pad(w.spec.Label), attrVolume, 0, 0)
	} else {
		up := parent.first
		if up == rootCluster { // the root is called 0 here
			up = 0
		}
		b = w.entry(b, pad("."), attrFolder, folder.first, 0)
		b = w.entry(b, pad(".."), attrFolder, up, 0)
	}
	for _, c := range folder.children {
		b = long(b, c.name, names[c])
		attribute := byte(attrFile)
		if c.folder {
			attribute = attrFolder
		}
		b = w.entry(b, names[c], attribute, c.first, uint32(len(c.data)))
	}
	return w.write(folder.first, b)
}

func (w *writer) file(n *node) (err error) {
	if uint64(len(n.data)) > 1<<32-1 {
		return fmt.Errorf("%s is too large for FAT32", n.name)
	}
	if n.first, err = w.allocate(len(n.data)); err != nil || n.first == 0 {
		return err
	}
	return w.write(n.first, n.data)
}

func (w *writer) write(first uint32, data []byte) error {
	_, err := w.w.WriteAt(data, w.dataStart+int64(first-rootCluster)*int64(w.cluster))
	return err
}

// entry appends a folder entry; specification, "FAT directory structure".
func (w *writer) entry(b []byte, name [11]byte, attribute byte, first, size uint32) []byte {
	t := w.spec.Time.UTC()
	date := uint16(t.Year()-1980)<<9 | uint16(t.Month())<<5 | uint16(t.Day())
	clock := uint16(t.Hour())<<11 | uint16(t.Minute())<<5 | uint16(t.Second()/2)
	le := binary.LittleEndian
	b = append(b, name[:]...)
	b = append(b, attribute, 0, 0)
	b = le.AppendUint16(b, clock) // made
	b = le.AppendUint16(b, date)
	b = le.AppendUint16(b, date) // read
	b = le.AppendUint16(b, uint16(first>>16))
	b = le.AppendUint16(b, clock) // written
	b = le.AppendUint16(b, date)
	b = le.AppendUint16(b, uint16(first))
	return le.AppendUint32(b, size)
}

// boot returns the boot sector; specification, "Boot sector and BPB".
func (w *writer) boot() []byte {
	b := make([]byte, sector)
	le := binary.LittleEndian
	copy(b, []byte{0xeb, 0x58, 0x90})
	copy(b[3:], "MSWIN4.1") // what the specification recommends
	le.PutUint16(b[11:], sector)
	b[13] = byte(w.cluster / sector)
	le.PutUint16(b[14:], reserved)
	b[16] = tables
	b[21] = 0xf8 // fixed disk
	le.PutUint16(b[24:], 63)
	le.PutUint16(b[26:], 255)
	le.PutUint32(b[32:], uint32(w.sectors))
	le.PutUint32(b[36:], uint32(w.tableSectors))
	le.PutUint32(b[44:], rootCluster)
	le.PutUint16(b[48:], 1) // FSInfo
	le.PutUint16(b[50:], 6) // backup of this sector
	b[64] = 0x80
	b[66] = 0x29
	le.PutUint32(b[67:], w.spec.Serial)
	label := pad(w.spec.Label)
	copy(b[71:], label[:])
	copy(b[82:], "FAT32   ")
	b[510], b[511] = 0x55, 0xaa
	return b
}

// info returns the FSInfo sector; specification, "FSInfo sector structure".
func (w *writer) info() []byte {
	b := make([]byte, sector)
	le := binary.LittleEndian
	le.PutUint32(b, 0x41615252)
	le.PutUint32(b[484:], 0x61417272)
	le.PutUint32(b[488:], w.clusters-(uint32(len(w.table))-rootCluster))
	le.PutUint32(b[492:], uint32(len(w.table)))
	le.PutUint32(b[508:], 0xaa550000)
	return b
}

func pad(name string) (b [11]byte) {
	copy(b[:], strings.Repeat(" ", 11))
	copy(b[:], name)
	return b
}

// shortNames gives each child of a folder its 8.3 name, unique in the folder.
func shortNames(folder *node) (map[*node][11]byte, error) {
	names, taken := map[*node][11]byte{}, map[[11]byte]bool{}
	for _, c := range folder.children { // names that are 8.3 already come first
		if short, ok := exact(c.name); ok {
			names[c], taken[short] = short, true
		}
	}
	for _, c := range folder.children {
		if _, ok := names[c]; ok {
			continue
		}
		if len(c.name) > 255 || strings.Trim(c.name, ". ") != c.name || strings.ContainsFunc(c.name, func(r rune) bool {
			return r < ' ' || r > '~' || strings.ContainsRune(`"*/:<>?\|`, r)
		}) {
			return nil, fmt.Errorf("cannot use the file name %q", c.name)
		}
		for n := 1; ; n++ {
			short := alias(c.name, n)
			if !taken[short] {
				names[c], taken[short] = short, true
				break
			}
		}
	}
	return names, nil
}

const shortCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'()-@^_`{}~"

// exact returns name as an 8.3 name if it is one.
func exact(name string) (b [11]byte, ok bool) {
	base, extension, dotted := strings.Cut(name, ".")
	if base == "" || len(base) > 8 || len(extension) > 3 || dotted && extension == "" || strings.Trim(base+extension, shortCharacters) != "" {
		return b, false
	}
	b = pad(base)
	copy(b[8:], extension)
	return b, true
}

// alias makes the n-th 8.3 name out of a long one; specification, "Generating
// 8.3 names from long names".
func alias(name string, n int) [11]byte {
	keep := func(s string, most int) string {
		s = strings.Map(func(r rune) rune {
			switch {
			case r == ' ' || r == '.':
				return -1
			case !strings.ContainsRune(shortCharacters, r):
				return '_'
			}
			return r
		}, strings.ToUpper(s))
		return s[:min(len(s), most)]
	}
	base, extension := name, ""
	if dot := strings.LastIndexByte(name, '.'); dot > 0 {
		base, extension = name[:dot], name[dot+1:]
	}
	tail := fmt.Sprintf("~%d", n)
	b := pad(keep(base, 8-len(tail)) + tail)
	copy(b[8:], keep(extension, 3))
	return b
}

// longEntries counts the entries that a long name needs before its short one.
func longEntries(name string, short [11]byte) int {
	if b, ok := exact(name); ok && b == short {
		return 0
	}
	return (len(name) + unitsPerLong - 1) / unitsPerLong
}

// long appends those entries; specification, "Long directory entries".
func long(b []byte, name string, short [11]byte) []byte {
	n := longEntries(name, short)
	if n == 0 {
		return b
	}
	sum := byte(0)
	for _, c := range short {
		sum = sum>>1 | sum<<7
		sum += c
	}
	units := utf16.Encode([]rune(name))
	if len(units)%unitsPerLong != 0 {
		units = append(units, 0)
	}
	for len(units) < n*unitsPerLong {
		units = append(units, 0xffff)
	}
	for i := n; i > 0; i-- {
		order := byte(i)
		if i == n {
			order |= lastLong
		}
		part := units[(i-1)*unitsPerLong : i*unitsPerLong]
		e := make([]byte, entrySize)
		e[0], e[11], e[13] = order, attrLong, sum
		for j, unit := range part {
			at := 1 + 2*j
			if j >= 5 {
				at = 14 + 2*(j-5)
			}
			if j >= 11 {
				at = 28 + 2*(j-11)
			}
			binary.LittleEndian.PutUint16(e[at:], unit)
		}
		b = append(b, e...)
	}
	return b
}
