package fat

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// memory is a whole disk.
type memory []byte

func (m memory) ReadAt(b []byte, at int64) (int, error) { return bytes.NewReader(m).ReadAt(b, at) }

func (m memory) WriteAt(b []byte, at int64) (int, error) { return copy(m[at:], b), nil }

const smallSize = 64 << 20

func small(t testing.TB) memory {
	t.Helper()
	m := make(memory, smallSize)
	err := Write(m, Spec{Size: smallSize, Serial: 1, Label: "ESP", Files: map[string][]byte{
		"EFI/BOOT/BOOTX64.EFI":          bytes.Repeat([]byte("loader"), 300),
		"EFI/Linux/cloison_0.1.0+3.efi": bytes.Repeat([]byte("uki"), 1000),
		"loader/loader.conf":            []byte("editor no\n"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// find returns where text is on the disk, among folders: after the tables.
func (m memory) find(t testing.TB, text string) int {
	t.Helper()
	i := bytes.Index(m, []byte(text))
	if i < 0 {
		t.Fatalf("%q is not on the disk", text)
	}
	return i
}

func (m memory) table(copy int) int {
	return 512 * int(binary.LittleEndian.Uint16(m[14:])+uint16(copy)*uint16(binary.LittleEndian.Uint32(m[36:])))
}

// patch is what a test puts at a place.
type patch struct {
	at   int
	data []byte
}

func (m memory) with(p []patch, f func()) {
	old := make([][]byte, len(p))
	for i, p := range p {
		old[i] = bytes.Clone(m[p.at:][:len(p.data)])
		copy(m[p.at:], p.data)
	}
	f()
	for i := len(p) - 1; i >= 0; i-- {
		copy(m[p[i].at:], old[i])
	}
}

func TestOpenRefuses(t *testing.T) {
	m := small(t)
	le := binary.LittleEndian
	bytes16 := func(n uint16) []byte { return le.AppendUint16(nil, n) }
	bytes32 := func(n uint32) []byte { return le.AppendUint32(nil, n) }
	// both writes to both allocation tables.
	both := func(cluster int, value uint32) []patch {
		return []patch{{m.table(0) + 4*cluster, bytes32(value)}, {m.table(1) + 4*cluster, bytes32(value)}}
	}
	entryOf := func(short string) int { return m.find(t, short) }
	cluster := func(short string) int {
		e := entry(m[entryOf(short):][:entrySize])
		return int(e.cluster())
	}
	loader, config := "BOOTX64 EFI", "LOADER  CON"
	if !bytes.Contains(m, []byte(config)) { // the short name of loader.conf is the writer's choice
		config = string(m[bytes.LastIndex(m[:m.find(t, "editor no")], []byte("LOADER")):][:11])
	}
	longPart := m.find(t, "c\x00l\x00o\x00i\x00s\x00") - 1 // the last part before the entry: number 1
	for _, test := range []struct {
		name    string
		patches []patch
		want    string
	}{
		{"signature", []patch{{510, []byte{0}}}, "no signature"},
		{"sector size", []patch{{11, bytes16(513)}}, "sectors of 513 bytes"},
		{"cluster size", []patch{{13, []byte{3}}}, "clusters of 3 sectors"},
		{"FAT16", []patch{{22, bytes16(100)}}, "it is not FAT32"},
		{"one table", []patch{{16, []byte{1}}}, "want two tables alike"},
		{"larger than the partition", []patch{{32, bytes32(smallSize/512 + 1)}}, "in a partition of"},
		{"huge table", []patch{{36, bytes32(1 << 31)}}, "an allocation table of"},
		{"too few clusters", []patch{{32, bytes32(60000)}}, "do not fit FAT32"},
		{"root cluster", []patch{{44, bytes32(1)}}, "root folder: cluster 1 does not exist"},
		{"tables differ", both(cluster(loader), 5)[:1], "the two allocation tables differ"},
		{"loop", both(cluster(loader), uint32(cluster(loader))), "is used twice"},
		{"chain beyond the end", both(cluster(loader), 0x0ffffff0), "does not exist"},
		{"chain into a free cluster", both(cluster(loader), 0), "cluster 0 does not exist"},
		{"chain too short", both(cluster(loader), endOfChain), "1800 bytes in 1 clusters, want 4"},
		{"shared cluster", []patch{{entryOf(config) + 26, bytes16(uint16(cluster(loader)))}}, "is used twice"},
		{"size", []patch{{entryOf(loader) + 28, bytes32(1 << 30)}}, "want"},
		{"empty file with a cluster", []patch{{entryOf(loader) + 28, bytes32(0)}}, "an empty file has cluster"},
		{"short name", []patch{{entryOf(loader), []byte{'b'}}}, "of a short name"},
		{"label in a folder", []patch{{entryOf(loader) + 11, []byte{attrVolume}}}, "a volume label"},
		{"dot entry", []patch{{m.find(t, ".          ") + 26, bytes16(0)}}, `is not "." of cluster`},
		{"dot dot entry", []patch{{m.find(t, "..         ") + 26, bytes16(9)}}, `is not ".." of cluster`},
		{"order of a long name", []patch{{longPart, []byte{3}}}, "do not fit together"},
		{"checksum of a long name", []patch{{longPart + 13, []byte{m[longPart+13] + 1}}}, "do not fit together"},
		{"character of a long name", []patch{{longPart + 1, []byte{'/'}}}, "character 0x002f in a long name"},
		{"long name without an entry", []patch{{longPart + entrySize, []byte{deleted}}}, "a long name without an entry"},
		{"long name at the end", []patch{{longPart + entrySize, []byte{0}}}, "a long name without an entry"},
	} {
		m.with(test.patches, func() {
			if _, err := Open(m, smallSize); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: Open() = %v, want an error with %q", test.name, err, test.want)
			}
		})
	}
	if _, err := Open(m[:1<<20], 1<<20); err == nil {
		t.Error("Open() of a truncated disk succeeds")
	}
	if v, err := Open(m, smallSize); err != nil || len(v.Files) != 3 {
		t.Errorf("Open() of the disk as it was = %v, %v", v, err)
	}
}

// FuzzOpen: whatever stands in boot sector, tables and folders, Open ends
// without a panic, and every file that it names can be read.
func FuzzOpen(f *testing.F) {
	m := small(f)
	for _, at := range []int{11, 36, m.table(0) + 8, m.find(f, "BOOTX64 EFI") + 26, m.find(f, "c\x00l\x00o\x00i\x00s\x00") - 1} {
		f.Add(uint32(at), []byte(m[at:][:8:8]))
	}
	f.Fuzz(func(t *testing.T, at uint32, data []byte) {
		place := int(at % (smallSize - 512))
		m.with([]patch{{place, data[:min(len(data), 512)]}}, func() {
			v, err := Open(m, smallSize)
			if err != nil {
				return
			}
			for _, file := range v.Files {
				if b, err := v.ReadFile(file); err != nil || len(b) != int(file.Size) {
					t.Errorf("ReadFile(%s) = %d bytes, %v, want %d", file.Path, len(b), err, file.Size)
				}
			}
		})
	})
}
