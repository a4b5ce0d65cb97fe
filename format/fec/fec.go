// Package fec makes and checks the Reed-Solomon parity with which dm-verity
// corrects blocks that it found corrupted. It needs a reader of the protected
// region: the data blocks followed by the levels of the hash tree, without the
// verity superblock (package verity's Covered gives it).
//
// The code is RS(255, 255-roots) over GF(2⁸) with field polynomial 0x11d and
// generator polynomial (x-α⁰)(x-α¹)…, α = 2. The region is cut into 255-roots
// strips of equal length, a whole number of blocks, of which the last may be
// short or missing and counts as zeros. Byte i of every strip together form
// code word i; its parity bytes follow those of code word i-1. One round is the
// 4096 code words that one block of each strip takes part in, and makes roots
// blocks of parity.
//
// Sources: kernel drivers/md/dm-verity-fec.c and dm-verity-fec.h;
// Documentation/admin-guide/device-mapper/verity.rst, "fec_roots";
// veritysetup(8), "FORWARD ERROR CORRECTION".
package fec

import (
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/reedsolomon"

	"cloison/format/verity/pieces"
)

const (
	// BlockSize is the size in bytes of the blocks of the region.
	BlockSize = 4096
	// MinRoots and MaxRoots bound the parity bytes for each code word.
	MinRoots = 2
	MaxRoots = 24

	codeWord  = 255     // bytes: data and parity
	maxBlocks = 1 << 51 // keeps byte offsets within int64
	// perPiece is how many rounds one core encodes at a time. 253 strips of
	// that many blocks must stay in its cache.
	perPiece = 2
)

// rounds returns the length of a strip in blocks.
func rounds(blocks uint64, roots int) uint64 {
	strips := uint64(codeWord - roots)
	return (blocks + strips - 1) / strips
}

// ParitySize returns the number of bytes of parity for a region of that many
// blocks. It panics when roots is not within MinRoots … MaxRoots.
func ParitySize(blocks uint64, roots int) uint64 {
	if roots < MinRoots || roots > MaxRoots {
		panic(fmt.Sprintf("internal error: %d parity roots", roots))
	}
	return rounds(blocks, roots) * uint64(roots) * BlockSize
}

// Encode returns the parity of a region of that many blocks of 4096 bytes. It
// reads each block once, from several goroutines, and uses all cores; beside the
// result it needs about 3 MiB of memory for each.
func Encode(region io.ReaderAt, blocks uint64, roots int) ([]byte, error) {
	if err := check(blocks, roots); err != nil {
		return nil, fmt.Errorf("cannot make parity: %w", err)
	}
	// The end must be there before memory is asked for in proportion.
	end := make([]byte, BlockSize)
	if n, err := region.ReadAt(end, int64((blocks-1)*BlockSize)); n < len(end) {
		return nil, fmt.Errorf("cannot make parity: %w", short("region", (blocks-1)*BlockSize+uint64(n), err))
	}
	parity := make([]byte, ParitySize(blocks, roots))
	err := encode(region, blocks, roots, func(off uint64, part []byte) error {
		copy(parity[off:], part)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot make parity: %w", err)
	}
	return parity, nil
}

// Mismatch is a block of parity that does not belong to the region.
type Mismatch struct {
	Block uint64 // counted from the start of the parity
}

func (m *Mismatch) Error() string {
	return fmt.Sprintf("parity block %d does not belong to the image", m.Block)
}

// Verify makes the parity of the region anew and compares it with what parity
// holds. The first block that differs is returned as a *Mismatch within the
// error.
func Verify(region io.ReaderAt, blocks uint64, parity io.ReaderAt, roots int) error {
	err := check(blocks, roots)
	if err == nil {
		err = encode(region, blocks, roots, func(off uint64, part []byte) error {
			return compare(parity, off, part)
		})
	}
	if err != nil {
		return fmt.Errorf("cannot verify parity: %w", err)
	}
	return nil
}

// compare checks that parity holds want at byte offset off.
func compare(parity io.ReaderAt, off uint64, want []byte) error {
	got := make([]byte, len(want))
	if n, err := parity.ReadAt(got, int64(off)); n < len(got) {
		return short("parity", off+uint64(n), err)
	}
	for at := 0; at < len(want); at += BlockSize {
		if !bytes.Equal(got[at:at+BlockSize], want[at:at+BlockSize]) {
			return &Mismatch{Block: (off + uint64(at)) / BlockSize}
		}
	}
	return nil
}

func check(blocks uint64, roots int) error {
	switch {
	case roots < MinRoots || roots > MaxRoots:
		return fmt.Errorf("%d parity roots, want %d to %d", roots, MinRoots, MaxRoots)
	case blocks == 0:
		return fmt.Errorf("no blocks to protect")
	case blocks > maxBlocks:
		return fmt.Errorf("%d blocks, at most %d", blocks, uint64(maxBlocks))
	}
	return nil
}

// short is the error of a read that ended at byte offset at.
func short(what string, at uint64, err error) error {
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%s block %d: %w", what, at/BlockSize, err)
}

// encode calls visit with consecutive parts of the parity and their byte
// offsets. visit runs on several goroutines and must not keep part.
func encode(region io.ReaderAt, blocks uint64, roots int, visit func(off uint64, part []byte) error) error {
	strips := codeWord - roots
	length := rounds(blocks, roots) * BlockSize // of a strip, bytes
	size := blocks * BlockSize
	const step = perPiece * BlockSize // bytes of each strip in a piece

	return pieces.Run((length+step-1)/step, func() (func(uint64) error, error) {
		encoder, err := reedsolomon.New(strips, roots,
			reedsolomon.WithCustomMatrix(parityRows(roots)),
			reedsolomon.WithMaxGoroutines(1), reedsolomon.WithInversionCache(false))
		if err != nil {
			return nil, err
		}
		buf := make([]byte, codeWord*step)
		part := make([]byte, roots*step)
		shards := make([][]byte, codeWord)
		return func(piece uint64) error {
			off := piece * step
			n := min(step, length-off)
			for i := range shards {
				shards[i] = buf[uint64(i)*step:][:n]
			}
			for i, shard := range shards[:strips] {
				at := uint64(i)*length + off
				have := uint64(0)
				if at < size {
					have = min(n, size-at)
					if n, err := region.ReadAt(shard[:have], int64(at)); uint64(n) < have {
						return short("region", at+uint64(n), err)
					}
				}
				clear(shard[have:])
			}
			if err := encoder.Encode(shards); err != nil {
				return err
			}
			interleave(part[:n*uint64(roots)], shards[strips:])
			return visit(off*uint64(roots), part[:n*uint64(roots)])
		}, nil
	})
}

// interleave writes byte 0 of every shard, then byte 1 of every shard, and so on.
func interleave(dst []byte, shards [][]byte) {
	for i, shard := range shards {
		for j, c := range shard {
			dst[j*len(shards)+i] = c
		}
	}
}

// parityRows returns the matrix that turns the data bytes of a code word into its
// parity bytes: column i is the remainder of x^(254-i) by the generator
// polynomial, highest coefficient first.
func parityRows(roots int) [][]byte {
	generator := []byte{1} // highest coefficient first
	for root, r := byte(1), 0; r < roots; r++ {
		next := append(generator, 0)
		for i := len(generator); i > 0; i-- {
			next[i] ^= multiply(next[i-1], root)
		}
		generator, root = next, multiply(root, 2)
	}

	rows := make([][]byte, roots)
	strips := codeWord - roots
	for i := range rows {
		rows[i] = make([]byte, strips)
	}
	remainder := append([]byte(nil), generator[1:]...) // of x^roots
	for column := strips - 1; column >= 0; column-- {
		for i, c := range remainder {
			rows[i][column] = c
		}
		carry := remainder[0]
		copy(remainder, remainder[1:])
		remainder[roots-1] = 0
		for i := range remainder {
			remainder[i] ^= multiply(carry, generator[i+1])
		}
	}
	return rows
}

// multiply is the product in GF(2⁸) modulo 0x11d.
func multiply(a, b byte) byte {
	var product byte
	for ; b != 0; b >>= 1 {
		if b&1 != 0 {
			product ^= a
		}
		carry := a & 0x80
		a <<= 1
		if carry != 0 {
			a ^= 0x1d
		}
	}
	return product
}
