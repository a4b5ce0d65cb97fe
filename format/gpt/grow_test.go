package gpt

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestGrow(t *testing.T) {
	small := image(nil)
	large := append(bytes.Clone(small), make([]byte, 8<<20)...)
	grown, pieces, err := Grow(bytes.NewReader(large), int64(len(large)), 512, 3)
	if want := uint64(9<<20 - 128*512); err != nil || grown.Size != want || grown.Start != 128*512 || len(pieces) != 2 {
		t.Fatalf("Grow = %+v, %d pieces, %v, want a size of %d and 2 pieces", grown, len(pieces), err, want)
	}
	before, err := Read(bytes.NewReader(large), int64(len(large)), 512)
	if err != nil {
		t.Fatal(err)
	}
	// Cut after any byte that was written: the table is the old or the new one.
	now := bytes.Clone(large)
	for _, p := range pieces {
		for n := 0; n <= len(p.Data); n += 509 {
			cut := bytes.Clone(now)
			copy(cut[p.Offset:], p.Data[:n])
			got, err := Read(bytes.NewReader(cut), int64(len(cut)), 512)
			if err != nil || got.Disk != before.Disk || !slices.Equal(got.Partitions, before.Partitions) && got.Partitions[1] != grown {
				t.Fatalf("cut after %d bytes at %d: %+v, %v", n, p.Offset, got, err)
			}
		}
		copy(now[p.Offset:], p.Data)
	}
	after, err := Read(bytes.NewReader(now), int64(len(now)), 512)
	if err != nil || after.Backup || after.Partitions[1] != grown || after.Partitions[0] != before.Partitions[0] {
		t.Errorf("after growing: %+v, %v", after, err)
	}
	clear(now[512:1024])
	if after, err = Read(bytes.NewReader(now), int64(len(now)), 512); err != nil || !after.Backup || after.Partitions[1] != grown {
		t.Errorf("the backup after growing: %+v, %v", after, err)
	}
	// A second time mends the primary; a third has nothing to do.
	for _, want := range []int{2, 0} {
		_, pieces, err := Grow(bytes.NewReader(now), int64(len(now)), 512, 3)
		if err != nil || len(pieces) != want {
			t.Errorf("Grow again: %d pieces, %v, want %d", len(pieces), err, want)
		}
		for _, p := range pieces {
			copy(now[p.Offset:], p.Data)
		}
	}
	for number, want := range map[int]string{1: "is behind it", 2: "there is none"} {
		if _, _, err := Grow(bytes.NewReader(large), int64(len(large)), 512, number); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Grow(%d) = %v, want %q", number, err, want)
		}
	}
}
