package fec_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"cloison/format/fec"
	"cloison/format/verity"
	"cloison/format/verity/veritytest"
)

// TestEncode compares with what veritysetup wrote.
func TestEncode(t *testing.T) {
	for _, image := range veritytest.Images {
		data := bytes.NewReader(veritytest.Data(image.DataBlocks))
		tree, err := verity.Build(data, image.DataBlocks, veritytest.Salt, veritytest.UUID)
		if err != nil {
			t.Fatal(err)
		}
		blocks := verity.CoveredBlocks(image.DataBlocks)
		region := verity.Covered(data, bytes.NewReader(tree.Hashes), image.DataBlocks)
		parity, err := fec.Encode(region, blocks, image.Roots)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(parity)); got != image.Parity {
			t.Errorf("Encode(%d data blocks, %d roots) has digest %s, want %s", image.DataBlocks, image.Roots, got, image.Parity)
		}
		if err := fec.Verify(region, blocks, bytes.NewReader(parity), image.Roots); err != nil {
			t.Errorf("Verify(%d data blocks) = %v, want nil", image.DataBlocks, err)
		}
	}
}

func TestParitySize(t *testing.T) {
	for _, test := range []struct {
		blocks uint64
		roots  int
		want   uint64
	}{
		{1, 2, 2 * 4096},
		{253, 2, 2 * 4096},
		{254, 2, 4 * 4096},
		{132105, 2, 2 * 523 * 4096},
		{231, 24, 24 * 4096},
		{232, 24, 48 * 4096},
	} {
		if got := fec.ParitySize(test.blocks, test.roots); got != test.want {
			t.Errorf("ParitySize(%d, %d) = %d, want %d", test.blocks, test.roots, got, test.want)
		}
	}
}

// TestCodeWords evaluates every code word, collected as the kernel collects it,
// at the roots of the generator: that each value is zero defines the code.
func TestCodeWords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		roots := rapid.IntRange(fec.MinRoots, fec.MaxRoots).Draw(t, "roots")
		blocks := rapid.Uint64Range(1, 600).Draw(t, "blocks")
		data := veritytest.Data(blocks)
		parity, err := fec.Encode(bytes.NewReader(data), blocks, roots)
		if err != nil {
			t.Fatal(err)
		}
		if uint64(len(parity)) != fec.ParitySize(blocks, roots) {
			t.Fatalf("Encode made %d bytes, want %d", len(parity), fec.ParitySize(blocks, roots))
		}
		rounds := len(parity) / roots / fec.BlockSize
		word := rapid.IntRange(0, rounds*fec.BlockSize-1).Draw(t, "word")
		var code []byte
		for strip := range 255 - roots {
			at := strip*rounds*fec.BlockSize + word
			if at < len(data) {
				code = append(code, data[at])
			} else {
				code = append(code, 0)
			}
		}
		code = append(code, parity[word*roots:][:roots]...)
		x := byte(1) // α⁰
		for root := range roots {
			var value byte
			for _, c := range code {
				value = times(value, x) ^ c
			}
			if value != 0 {
				t.Fatalf("code word %d of %d blocks is %d at root %d of %d, want 0", word, blocks, value, root, roots)
			}
			x = times(x, 2)
		}
	})
}

// times multiplies by long division: the product without carries, then
// subtracting the field polynomial from the top.
func times(a, b byte) byte {
	var product uint16
	for i := range 8 {
		if b>>i&1 == 1 {
			product ^= uint16(a) << i
		}
	}
	for i := 15; i >= 8; i-- {
		if product>>i&1 == 1 {
			product ^= 0x11d << (i - 8)
		}
	}
	return byte(product)
}

func TestVerify(t *testing.T) {
	const blocks = 3000 // 12 rounds
	data := veritytest.Data(blocks)
	parity, err := fec.Encode(bytes.NewReader(data), blocks, 2)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.IntRange(0, len(parity)-1).Draw(t, "first")
		second := rapid.IntRange(first, len(parity)-1).Draw(t, "second")
		changed := append([]byte(nil), parity...)
		changed[first] ^= 1
		changed[second] ^= 2
		err := fec.Verify(bytes.NewReader(data), blocks, bytes.NewReader(changed), 2)
		var bad *fec.Mismatch
		if !errors.As(err, &bad) || bad.Block != uint64(first/fec.BlockSize) {
			t.Fatalf("Verify(bytes %d and %d changed) = %v, want block %d", first, second, err, first/fec.BlockSize)
		}
	})

	// A strip has 12 blocks. Byte 2048 of block 13, the second of strip 1, is in
	// code word 4096+2048, whose parity starts at byte 12288.
	for at, want := range map[int]string{
		0:               "cannot verify parity: parity block 0 does not belong to the image",
		13*4096 + 2048:  "cannot verify parity: parity block 3 does not belong to the image",
		blocks*4096 - 1: "cannot verify parity: parity block 23 does not belong to the image",
	} {
		data[at] ^= 1
		err := fec.Verify(bytes.NewReader(data), blocks, bytes.NewReader(parity), 2)
		data[at] ^= 1
		if err == nil || err.Error() != want {
			t.Errorf("Verify(byte %d of the region changed) = %v, want %s", at, err, want)
		}
	}
}

func TestErrors(t *testing.T) {
	data := veritytest.Data(600)
	for _, test := range []struct {
		size   int
		blocks uint64
		roots  int
		want   string
	}{
		{4096, 1, 1, "cannot make parity: 1 parity roots, want 2 to 24"},
		{4096, 1, 25, "cannot make parity: 25 parity roots, want 2 to 24"},
		{4096, 0, 2, "cannot make parity: no blocks to protect"},
		{4096, 1<<51 + 1, 2, "cannot make parity: 2251799813685249 blocks, at most 2251799813685248"},
		{600*4096 - 1, 600, 2, "cannot make parity: region block 599: unexpected EOF"},
		{4096, 1 << 51, 2, "cannot make parity: region block 2251799813685247: unexpected EOF"},
	} {
		if _, err := fec.Encode(bytes.NewReader(data[:test.size]), test.blocks, test.roots); err == nil || err.Error() != test.want {
			t.Errorf("Encode(%d bytes, %d, %d) = %v, want %s", test.size, test.blocks, test.roots, err, test.want)
		}
	}

	parity, err := fec.Encode(bytes.NewReader(data), 600, 2)
	if err != nil {
		t.Fatal(err)
	}
	err = fec.Verify(bytes.NewReader(data), 600, bytes.NewReader(parity[:len(parity)-1]), 2)
	if want := "cannot verify parity: parity block 5: unexpected EOF"; err == nil || err.Error() != want {
		t.Errorf("Verify(cut parity) = %v, want %s", err, want)
	}
}
