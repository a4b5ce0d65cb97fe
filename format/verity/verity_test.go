package verity_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cloison/format/verity"
	"cloison/format/verity/veritytest"
)

func build(t rapid.TB, data []byte) *verity.Tree {
	t.Helper()
	blocks := uint64(len(data) / verity.BlockSize)
	tree, err := verity.Build(bytes.NewReader(data), blocks, veritytest.Salt, veritytest.UUID)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// TestBuild compares with what veritysetup wrote.
func TestBuild(t *testing.T) {
	for _, image := range veritytest.Images {
		tree := build(t, veritytest.Data(image.DataBlocks))
		if got := fmt.Sprintf("%x", tree.Root); got != image.Root {
			t.Errorf("Build(%d blocks).Root = %s, want %s", image.DataBlocks, got, image.Root)
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(tree.Hashes)); got != image.Hashes {
			t.Errorf("Build(%d blocks).Hashes has digest %s, want %s", image.DataBlocks, got, image.Hashes)
		}
	}
}

func TestBuildErrors(t *testing.T) {
	for _, test := range []struct {
		size   int
		blocks uint64
		want   string
	}{
		{4096, 0, "cannot build verity tree: no data blocks"},
		{4096, 1<<51 + 1, "cannot build verity tree: 2251799813685249 data blocks, at most 2251799813685248"},
		{4096, 1 << 51, "cannot build verity tree: block 2251799813685247: unexpected EOF"},
		{300*4096 - 1, 300, "cannot build verity tree: block 299: unexpected EOF"},
	} {
		_, err := verity.Build(bytes.NewReader(make([]byte, test.size)), test.blocks, veritytest.Salt, veritytest.UUID)
		if err == nil || err.Error() != test.want {
			t.Errorf("Build(%d bytes, %d blocks) = %v, want %s", test.size, test.blocks, err, test.want)
		}
	}
}

// failing is a disk that cannot read the block at one offset.
type failing struct {
	io.ReaderAt
	off int64
}

var errDisk = errors.New("disk error")

func (f failing) ReadAt(b []byte, off int64) (int, error) {
	if off <= f.off && f.off < off+int64(len(b)) {
		n, _ := f.ReaderAt.ReadAt(b[:f.off-off], off)
		return n, errDisk
	}
	return f.ReaderAt.ReadAt(b, off)
}

func TestReadError(t *testing.T) {
	data := veritytest.Data(300)
	tree := build(t, data)
	disk := failing{bytes.NewReader(data), 150 * verity.BlockSize}
	if _, err := verity.Build(disk, 300, tree.Salt, tree.UUID); !errors.Is(err, errDisk) || !strings.Contains(err.Error(), "block 150:") {
		t.Errorf("Build on a bad disk = %v, want block 150: %v", err, errDisk)
	}
	if err := verity.Verify(disk, bytes.NewReader(tree.Hashes), 300, tree.Root, tree.Salt); !errors.Is(err, errDisk) {
		t.Errorf("Verify on a bad disk = %v, want %v", err, errDisk)
	}
}

func TestSizes(t *testing.T) {
	for _, test := range []struct{ data, hashes, bytes uint64 }{
		{1, 0, 4096},
		{2, 1, 2 * 4096},
		{128, 1, 2 * 4096},
		{129, 3, 4 * 4096},
		{16384, 129, 130 * 4096},
		{16385, 132, 133 * 4096}, // 129 + 2 + 1
		{131072, 1033, 1034 * 4096},
	} {
		if got := verity.HashBlocks(test.data); got != test.hashes {
			t.Errorf("HashBlocks(%d) = %d, want %d", test.data, got, test.hashes)
		}
		if got := verity.HashBytes(test.data); got != test.bytes {
			t.Errorf("HashBytes(%d) = %d, want %d", test.data, got, test.bytes)
		}
		if got := verity.CoveredBlocks(test.data); got != test.data+test.hashes {
			t.Errorf("CoveredBlocks(%d) = %d, want %d", test.data, got, test.data+test.hashes)
		}
	}
}

func TestMatchesRoot(t *testing.T) {
	for _, blocks := range []uint64{1, 2, 129} {
		data := veritytest.Data(blocks)
		tree := build(t, data)
		image := append(data, tree.Hashes...)
		at := verity.TopBlockOffset(blocks, blocks*verity.BlockSize)
		top := image[at:][:verity.BlockSize]
		if !verity.MatchesRoot(top, tree.Root, tree.Salt) {
			t.Errorf("MatchesRoot(top block over %d) = false, want true", blocks)
		}
		if verity.MatchesRoot(top[:4095], tree.Root, tree.Salt) {
			t.Errorf("MatchesRoot(short top block over %d) = true, want false", blocks)
		}
		if verity.MatchesRoot(top, tree.Root, [32]byte{}) {
			t.Errorf("MatchesRoot(top block over %d, other salt) = true, want false", blocks)
		}
		top[4095] ^= 1
		if verity.MatchesRoot(top, tree.Root, tree.Salt) {
			t.Errorf("MatchesRoot(changed top block over %d) = true, want false", blocks)
		}
	}
}

func TestVerify(t *testing.T) {
	const blocks = 129*128 + 5 // levels of 130, 2 and 1 blocks
	data := veritytest.Data(blocks)
	tree := build(t, data)
	const (
		level2 = 1 * verity.BlockSize // offsets in the hash area
		level1 = 2 * verity.BlockSize
		level0 = 4 * verity.BlockSize
	)
	type change struct {
		area []byte
		at   int
	}
	for _, test := range []struct {
		name    string
		changes []change
		want    string
	}{
		{"nothing", nil, ""},
		{"first data block", []change{{data, 0}}, "data block 0 does not match the verity tree"},
		{"last data block", []change{{data, len(data) - 1}}, "data block 16516 does not match the verity tree"},
		{"several data blocks", []change{{data, 9000 * 4096}, {data, 777*4096 + 5}, {data, 778 * 4096}}, "data block 777 does not match the verity tree"},
		{"level 0", []change{{data, 0}, {tree.Hashes, level0 + 100*4096}}, "block 100 of hash level 0 does not match the verity tree"},
		{"level 0 padding", []change{{tree.Hashes, len(tree.Hashes) - 1}}, "block 129 of hash level 0 does not match the verity tree"},
		{"level 1", []change{{tree.Hashes, level0}, {tree.Hashes, level1 + 4096}}, "block 1 of hash level 1 does not match the verity tree"},
		{"level 2", []change{{tree.Hashes, level1}, {tree.Hashes, level2}}, "block 0 of hash level 2 does not match the verity tree"},
		{"superblock salt", []change{{tree.Hashes, 88}}, fmt.Sprintf("verity superblock has salt %x, want %x", flip(tree.Salt), tree.Salt)},
		{"superblock count", []change{{tree.Hashes, 72}}, "verity superblock counts 16516 data blocks, want 16517"},
		{"superblock signature", []change{{tree.Hashes, 0}}, "no verity superblock: wrong signature"},
	} {
		for _, c := range test.changes {
			c.area[c.at] ^= 1
		}
		err := verity.Verify(bytes.NewReader(data), bytes.NewReader(tree.Hashes), blocks, tree.Root, tree.Salt)
		for _, c := range test.changes {
			c.area[c.at] ^= 1
		}
		want := ""
		if test.want != "" {
			want = "cannot verify image: " + test.want
		}
		if got := text(err); got != want {
			t.Errorf("%s: Verify = %q, want %q", test.name, got, want)
		}
	}

	err := verity.Verify(bytes.NewReader(data), bytes.NewReader(tree.Hashes), blocks, flip(tree.Root), tree.Salt)
	var bad *verity.Mismatch
	if !errors.As(err, &bad) || *bad != (verity.Mismatch{Level: 2, Block: 0}) {
		t.Errorf("Verify(other root) = %v, want a mismatch in level 2", err)
	}
	err = verity.Verify(bytes.NewReader(data), bytes.NewReader(tree.Hashes[:len(tree.Hashes)-1]), blocks, tree.Root, tree.Salt)
	if want := "cannot verify image: verity tree: block 133: unexpected EOF"; text(err) != want {
		t.Errorf("Verify(cut tree) = %q, want %q", text(err), want)
	}
}

// TestVerifyPadding has a tree whose padding is not zero yet vouched for by the
// root hash: veritysetup refuses it, so do we.
func TestVerifyPadding(t *testing.T) {
	data := veritytest.Data(2)
	tree := build(t, data)
	top := tree.Hashes[verity.BlockSize:]
	top[2*sha256.Size] = 1
	root := sha256.Sum256(append(tree.Salt[:], top...))
	err := verity.Verify(bytes.NewReader(data), bytes.NewReader(tree.Hashes), 2, root, tree.Salt)
	if want := "cannot verify image: hash level 0 has set bytes in its padding"; text(err) != want {
		t.Errorf("Verify = %q, want %q", text(err), want)
	}
}

// TestEveryByteCounts changes one byte anywhere in data or tree.
func TestEveryByteCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		blocks := rapid.Uint64Range(1, 400).Draw(t, "blocks")
		data := veritytest.Data(blocks)
		tree := build(t, data)
		if err := verity.Verify(bytes.NewReader(data), bytes.NewReader(tree.Hashes), blocks, tree.Root, tree.Salt); err != nil {
			t.Fatalf("Verify(untouched) = %v", err)
		}
		image := append(data, tree.Hashes...)
		at := rapid.IntRange(0, len(image)-1).Draw(t, "at")
		image[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "change"))
		err := verity.Verify(bytes.NewReader(image), bytes.NewReader(image[len(data):]), blocks, tree.Root, tree.Salt)
		uuid := len(data) + 16
		if uuid <= at && at < uuid+16 {
			if err != nil {
				t.Fatalf("Verify(other UUID) = %v, want nil", err)
			}
			return
		}
		if err == nil {
			t.Fatalf("Verify(byte %d of %d changed) = nil, want an error", at, len(image))
		}
		var bad *verity.Mismatch
		if at < len(data) && (!errors.As(err, &bad) || *bad != (verity.Mismatch{Level: verity.DataLevel, Block: uint64(at / verity.BlockSize)})) {
			t.Fatalf("Verify(byte %d changed) = %v, want data block %d", at, err, at/verity.BlockSize)
		}
	})
}

// TestCovered reads the protected region in all sorts of pieces.
func TestCovered(t *testing.T) {
	data := veritytest.Data(130)
	tree := build(t, data)
	want := append(append([]byte(nil), data...), tree.Hashes[verity.BlockSize:]...)
	image := append(append([]byte(nil), data...), tree.Hashes...)
	// Something follows in the file: it must not be read as part of the region.
	image = append(image, 0xff, 0xff)
	region := verity.Covered(bytes.NewReader(image), bytes.NewReader(image[len(data):]), 130)
	rapid.Check(t, func(t *rapid.T) {
		off := rapid.IntRange(0, len(want)+10).Draw(t, "off")
		b := make([]byte, rapid.IntRange(1, 5*verity.BlockSize).Draw(t, "length"))
		n, err := region.ReadAt(b, int64(off))
		expected := want[min(off, len(want)):min(off+len(b), len(want))]
		if !bytes.Equal(b[:n], expected) {
			t.Fatalf("ReadAt(%d bytes, %d) read %d bytes, want %d, or other ones", len(b), off, n, len(expected))
		}
		if n < len(b) && err != io.EOF || n == len(b) && err != nil {
			t.Fatalf("ReadAt(%d bytes, %d) = %d, %v", len(b), off, n, err)
		}
	})
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func flip(b [32]byte) [32]byte {
	b[0] ^= 1
	return b
}
