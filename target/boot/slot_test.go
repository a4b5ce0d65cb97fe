package boot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"strings"
	"testing"
	"time"

	"cloison/format/cmdline"
	"cloison/format/gpt"
	"cloison/format/verity"
	"cloison/linux/block"
	"cloison/linux/uevent"
)

// part is a partition of a fake disk.
type part struct {
	kind        gpt.GUID
	label       string
	first, last uint64 // sectors of 512 bytes
}

// table writes a GUID partition table with only its primary half.
func table(sectors uint64, parts []part) []byte {
	le := binary.LittleEndian
	disk := make([]byte, 34*512)
	entries := disk[1024:]
	for i, p := range parts {
		e := entries[i*128:]
		copy(e, p.kind[:])
		le.PutUint64(e[32:], p.first)
		le.PutUint64(e[40:], p.last)
		for j, c := range p.label {
			le.PutUint16(e[56+2*j:], uint16(c))
		}
	}
	h := disk[512:604]
	copy(h, "EFI PART\x00\x00\x01\x00\x5c")
	le.PutUint64(h[24:], 1)
	le.PutUint64(h[32:], sectors-1)
	le.PutUint64(h[40:], 34)
	le.PutUint64(h[48:], sectors-34)
	le.PutUint64(h[72:], 2)
	le.PutUint32(h[80:], 128)
	le.PutUint32(h[84:], 128)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(entries[:128*128]))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h))
	return disk
}

type device struct{ *bytes.Reader }

func (device) Close() error { return nil }

// fakeDisks has one disk, vda, unless it is absent; contents are of nodes.
type fakeDisks struct {
	absent   bool
	sectors  uint64
	kernel   []block.Partition
	contents map[string][]byte
}

func (f *fakeDisks) Disks() ([]block.Disk, error) {
	if f.absent {
		return nil, nil
	}
	return []block.Disk{{Name: "vda", Size: int64(f.sectors) * 512, SectorSize: 512}}, nil
}
func (f *fakeDisks) Partitions(string) ([]block.Partition, error) { return f.kernel, nil }
func (f *fakeDisks) Open(node string) (block.Device, error) {
	b, ok := f.contents[node]
	if !ok {
		return nil, os.ErrNotExist
	}
	return device{bytes.NewReader(b)}, nil
}

// arrivals plugs the disk in at the first wait, where it is absent; a second
// wait is the deadline.
type arrivals struct{ f *fakeDisks }

func (a arrivals) Wait(time.Duration) error {
	if a.f.absent {
		a.f.absent = false
		return nil
	}
	return uevent.ErrDeadline
}

// core is a signed core of 10 blocks and its head: superblock and top of tree.
func core() (cmdline.Core, []byte) {
	c := cmdline.Core{
		Version: "0.1.0", Salt: [32]byte{5}, DataBlocks: 10,
		HashOffset: 10 * 4096, FECOffset: 12 * 4096, FECRoots: 2,
	}
	top := bytes.Repeat([]byte{7}, verity.BlockSize)
	c.RootHash = sha256.Sum256(append(c.Salt[:], top...))
	return c, append(verity.Superblock{Salt: c.Salt, DataBlocks: 10}.Bytes(), top...)
}

func machineDisk(c cmdline.Core, head []byte) *fakeDisks {
	image := make([]byte, c.Size())
	copy(image[c.HashOffset:], head)
	const sectors = 4096
	parts := []part{
		{gpt.ESP, "esp", 64, 127},
		{gpt.Core, "core-a", 128, 128 + c.Size()/512 - 1},
		{gpt.Core, "core-b", 2048, 3000},
		{gpt.State, "state", 3001, 4000},
	}
	f := &fakeDisks{sectors: sectors, contents: map[string][]byte{
		"/dev/vda": table(sectors, parts), "/dev/vda2": image, "/dev/vda3": make([]byte, 953*512),
	}}
	for i, p := range parts {
		f.kernel = append(f.kernel, block.Partition{Name: "vda" + string(rune('1'+i)), Number: i + 1, Start: p.first * 512, Size: (p.last - p.first + 1) * 512})
	}
	return f
}

func TestWaitSlot(t *testing.T) {
	c, head := core()
	found := slot{Label: "core-a", Device: "/dev/vda2", Disk: "vda", ESP: "/dev/vda1", State: "/dev/vda4"}
	swaps := found
	swaps.Swap = "/dev/vda5"
	addSwap := func(f *fakeDisks) {
		f.contents["/dev/vda"] = table(f.sectors, []part{
			{gpt.ESP, "esp", 64, 127},
			{gpt.Core, "core-a", 128, 128 + c.Size()/512 - 1},
			{gpt.Core, "core-b", 2048, 3000},
			{gpt.State, "state", 3501, 4000},
			{gpt.Swap, "swap", 3001, 3500},
		})
		f.kernel[3] = block.Partition{Name: "vda4", Number: 4, Start: 3501 * 512, Size: 500 * 512}
		f.kernel = append(f.kernel, block.Partition{Name: "vda5", Number: 5, Start: 3001 * 512, Size: 500 * 512})
	}
	for _, test := range []struct {
		name   string
		swap   bool // the signed command line wants it
		change func(*fakeDisks)
		want   slot
		err    string
	}{
		{name: "swap", swap: true, change: addSwap, want: swaps},
		{name: "swap that nobody has signed", change: addSwap, want: found},
		{name: "no swap", swap: true, change: func(*fakeDisks) {}, err: "vda: no partition of type 0657fd6d"},
		{name: "good", change: func(*fakeDisks) {}, want: found},
		{name: "late", change: func(f *fakeDisks) { f.absent = true }, want: found},
		{name: "in slot b", change: func(f *fakeDisks) {
			f.contents["/dev/vda3"], f.contents["/dev/vda2"] = append(f.contents["/dev/vda2"], make([]byte, 1<<19)...), f.contents["/dev/vda3"]
		}, want: slot{Label: "core-b", Device: "/dev/vda3", Disk: "vda", ESP: "/dev/vda1", State: "/dev/vda4"}},
		{name: "top of the tree damaged", change: func(f *fakeDisks) { f.contents["/dev/vda2"][c.HashOffset+4096]++ }, err: "core-a on vda: the top of its tree is damaged"},
		{name: "another core", change: func(f *fakeDisks) {
			f.contents["/dev/vda2"][c.HashOffset+4096]++
			f.contents["/dev/vda2"][c.HashOffset]++
		}, err: "core-a on vda: holds another core; core-b on vda: holds another core"},
		{name: "truncated", change: func(f *fakeDisks) {
			f.contents["/dev/vda"] = table(f.sectors, []part{{gpt.ESP, "esp", 64, 127}, {gpt.Core, "core-a", 128, 200}})
			f.kernel[1].Size = 73 * 512
		}, err: "core-a on vda: truncated: 37376 bytes, the signed core needs 57344"},
		{name: "kernel disagrees", change: func(f *fakeDisks) { f.kernel[1].Start += 512 }, err: "core-a on vda: kernel sees"},
		{name: "kernel does not see", change: func(f *fakeDisks) { f.kernel = f.kernel[:1] }, err: "kernel does not see it"},
		{name: "no ESP", change: func(f *fakeDisks) {
			f.contents["/dev/vda"] = table(f.sectors, []part{{gpt.Core, "x", 64, 127}, {gpt.Core, "core-a", 128, 128 + c.Size()/512 - 1}})
		}, err: "vda: no partition of type c12a7328"},
		{name: "no state", change: func(f *fakeDisks) {
			f.contents["/dev/vda"] = table(f.sectors, []part{{gpt.ESP, "esp", 64, 127}, {gpt.Core, "core-a", 128, 128 + c.Size()/512 - 1}})
		}, err: "vda: no partition of type ca7d7ccb"},
		{name: "two of state", change: func(f *fakeDisks) {
			f.contents["/dev/vda"] = table(f.sectors, []part{{gpt.ESP, "esp", 64, 127}, {gpt.Core, "core-a", 128, 128 + c.Size()/512 - 1}, {gpt.State, "b", 2048, 3000}, {gpt.State, "a", 3001, 4000}})
		}, err: "vda: two partitions of type ca7d7ccb"},
		{name: "no slots", change: func(f *fakeDisks) {
			f.contents["/dev/vda"] = table(f.sectors, []part{{gpt.ESP, "esp", 64, 127}})
		}, err: "vda: no partition of Cloison's type"},
		{name: "no table", change: func(f *fakeDisks) { f.contents["/dev/vda"] = nil }, err: "vda: cannot read the partition table"},
	} {
		f := machineDisk(c, head)
		test.change(f)
		signed := c
		signed.Swap = test.swap
		got, err := waitSlot(f, arrivals{f}, signed, time.Second)
		if test.err != "" {
			if err == nil || !strings.HasPrefix(err.Error(), "no slot holds root hash ") || !strings.Contains(err.Error(), test.err) {
				t.Errorf("waitSlot(%s) = %+v, %v, want an error with %q", test.name, got, err, test.err)
			}
			continue
		}
		if err != nil || got != test.want {
			t.Errorf("waitSlot(%s) = %+v, %v, want %+v", test.name, got, err, test.want)
		}
	}
	broken := errors.New("broken")
	if _, err := waitSlot(&fakeDisks{absent: true}, failing{broken}, c, time.Second); !errors.Is(err, broken) {
		t.Errorf("waitSlot with a broken socket = %v, want %v", err, broken)
	}
	empty := &fakeDisks{absent: true}
	if _, err := waitSlot(empty, failing{uevent.ErrDeadline}, c, time.Second); err == nil || !strings.Contains(err.Error(), "there is no disk") {
		t.Errorf("waitSlot without a disk = %v", err)
	}
}

type failing struct{ err error }

func (f failing) Wait(time.Duration) error { return f.err }
