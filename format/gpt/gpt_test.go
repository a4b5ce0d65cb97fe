package gpt

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"
)

const sectors = 4096

// image makes a disk with an ESP and a slot, and lets change alter the primary
// header and entries before they are summed.
func image(change func(header, entries []byte)) []byte {
	disk := make([]byte, sectors*512)
	entries := make([]byte, 128*128)
	put := func(i int, kind GUID, first, last uint64, label string) {
		e := entries[i*128:]
		copy(e, kind[:])
		e[16] = byte(i + 1)
		binary.LittleEndian.PutUint64(e[32:], first)
		binary.LittleEndian.PutUint64(e[40:], last)
		for j, c := range label {
			binary.LittleEndian.PutUint16(e[56+2*j:], uint16(c))
		}
	}
	put(0, ESP, 64, 127, "esp")
	put(2, Core, 128, 1023, "core-a")
	header := func(at, twin, entriesAt uint64) []byte {
		h := make([]byte, 92)
		copy(h, signature)
		le := binary.LittleEndian
		le.PutUint32(h[8:], revision1_0)
		le.PutUint32(h[12:], 92)
		le.PutUint64(h[24:], at)
		le.PutUint64(h[32:], twin)
		le.PutUint64(h[40:], 34)
		le.PutUint64(h[48:], sectors-34)
		le.PutUint64(h[72:], entriesAt)
		le.PutUint32(h[80:], 128)
		le.PutUint32(h[84:], 128)
		return h
	}
	sum := func(h, e []byte) {
		binary.LittleEndian.PutUint32(h[88:], crc32.ChecksumIEEE(e))
		binary.LittleEndian.PutUint32(h[16:], 0)
		binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h))
	}
	backup := header(sectors-1, 1, sectors-33)
	sum(backup, entries)
	copy(disk[(sectors-33)*512:], entries)
	copy(disk[(sectors-1)*512:], backup)
	primary := header(1, sectors-1, 2)
	if change != nil {
		change(primary, entries)
	}
	sum(primary, entries)
	copy(disk[512:], primary)
	copy(disk[1024:], entries)
	return disk
}

func TestRead(t *testing.T) {
	both := func(f func(h, e []byte)) []byte { // damage the backup as well
		d := image(f)
		d[(sectors-1)*512]++
		return d
	}
	le := binary.LittleEndian
	for _, test := range []struct {
		name   string
		disk   []byte
		backup bool
		err    string
	}{
		{name: "good", disk: image(nil)},
		{name: "primary signature", disk: func() []byte { d := image(nil); d[512]++; return d }(), backup: true},
		{name: "primary entries", disk: func() []byte { d := image(nil); d[1024+56]++; return d }(), backup: true},
		{name: "copied to a larger disk", disk: append(both(nil), make([]byte, 8192)...)},
		{name: "both damaged", disk: func() []byte { d := both(nil); d[512]++; return d }(), err: "no signature"},
		{name: "header checksum", disk: func() []byte { d := both(nil); d[512+56]++; return d }(), err: "header checksum"},
		{name: "cut", disk: image(nil)[:sectors*256], err: "its twin is at"},
		{name: "tiny", disk: make([]byte, 1024), err: "a disk of 1024 bytes"},
		{name: "elsewhere", disk: both(func(h, _ []byte) { le.PutUint64(h[24:], 5) }), err: "says it is at sector 5"},
		{name: "twin", disk: both(func(h, _ []byte) { le.PutUint64(h[32:], 1) }), err: "its twin is at sector 1"},
		{name: "revision", disk: both(func(h, _ []byte) { h[8] = 9 }), err: "is unknown"},
		{name: "entry size", disk: both(func(h, _ []byte) { le.PutUint32(h[84:], 256) }), err: "entries of 256 bytes"},
		{name: "entry count", disk: both(func(h, _ []byte) { le.PutUint32(h[80:], 1<<31) }), err: "2147483648 entries"},
		{name: "entries over the header", disk: both(func(h, _ []byte) { le.PutUint64(h[72:], 1) }), err: "overlap something"},
		{name: "entries over data", disk: both(func(h, _ []byte) { le.PutUint64(h[72:], 30) }), err: "overlap something"},
		{name: "entries far away", disk: both(func(h, _ []byte) { le.PutUint64(h[72:], 1<<63) }), err: "overlap something"},
		{name: "usable", disk: both(func(h, _ []byte) { le.PutUint64(h[40:], sectors-33) }), err: "usable sectors"},
		{name: "partition outside", disk: both(func(_, e []byte) { le.PutUint64(e[40:], sectors-2) }), err: "partition 1: sectors"},
		{name: "partition reversed", disk: both(func(_, e []byte) { le.PutUint64(e[40:], 63) }), err: "partition 1: sectors"},
		{name: "overlap", disk: both(func(_, e []byte) { le.PutUint64(e[40:], 128) }), err: "partitions 1 and 3 overlap"},
		{name: "label", disk: both(func(_, e []byte) { e[56] = 7 }), err: "in its label"},
	} {
		table, err := Read(bytes.NewReader(test.disk), int64(len(test.disk)), 512)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("Read(%s) = %v, want an error with %q", test.name, err, test.err)
			}
			continue
		}
		if err != nil || table.Backup != test.backup || len(table.Partitions) != 2 {
			t.Errorf("Read(%s) = %+v, %v, want two partitions, backup %t", test.name, table, err, test.backup)
			continue
		}
		if p, want := table.Partitions[1], (Partition{Number: 3, Type: Core, ID: GUID{3}, Start: 128 * 512, Size: 896 * 512, Label: "core-a"}); p != want {
			t.Errorf("Read(%s) = %+v, want %+v", test.name, p, want)
		}
	}
	if _, err := Read(bytes.NewReader(nil), 1<<20, 520); err == nil {
		t.Error("Read with sectors of 520 bytes = nil error")
	}
	if _, err := Read(bytes.NewReader(nil), 1<<20, 512); err == nil {
		t.Error("Read of an unreadable disk = nil error")
	}
}

func FuzzRead(f *testing.F) {
	f.Add(image(nil)[:40*512], true)
	f.Fuzz(func(t *testing.T, start []byte, fix bool) {
		disk := image(nil)
		copy(disk, start)
		if fix { // let the fuzzer reach what the checksums protect
			h := disk[512:604]
			binary.LittleEndian.PutUint32(h[88:], crc32.ChecksumIEEE(disk[1024:1024+128*128]))
			binary.LittleEndian.PutUint32(h[16:], 0)
			binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h))
		}
		table, err := Read(bytes.NewReader(disk), int64(len(disk)), 512)
		if err != nil {
			return
		}
		for _, p := range table.Partitions {
			if p.Size == 0 || p.Start+p.Size > uint64(len(disk)) || p.Start+p.Size < p.Start {
				t.Fatalf("Read = partition %+v on a disk of %d bytes", p, len(disk))
			}
		}
	})
}
