package verity

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
)

// DataLevel is the Level of a Mismatch in the data itself.
const DataLevel = -1

// Mismatch is a block that is not what the tree above it says.
type Mismatch struct {
	Level int    // DataLevel, or the hash level: 0 holds the digests of the data
	Block uint64 // within the data or within that level
}

func (m *Mismatch) Error() string {
	if m.Level == DataLevel {
		return fmt.Sprintf("data block %d does not match the verity tree", m.Block)
	}
	return fmt.Sprintf("block %d of hash level %d does not match the verity tree", m.Block, m.Level)
}

// Verify checks dataBlocks blocks of data against the hash area in hashes, which
// starts with the superblock: first that the superblock agrees with dataBlocks
// and salt (its UUID may be any), then each hash block from the root down, then
// each data block. The first block that does not fit, in that order, is returned
// as a *Mismatch within the error. So that a bad block is not taken for a bad
// tree, a level is read only when all above it is right.
func Verify(data, hashes io.ReaderAt, dataBlocks uint64, root, salt [32]byte) error {
	if err := verify(data, hashes, dataBlocks, root, salt); err != nil {
		return fmt.Errorf("cannot verify image: %w", err)
	}
	return nil
}

func verify(data, hashes io.ReaderAt, dataBlocks uint64, root, salt [32]byte) error {
	if err := checkBlocks(dataBlocks); err != nil {
		return err
	}
	head := make([]byte, BlockSize)
	if err := readFull(hashes, head, 0); err != nil {
		return fmt.Errorf("verity superblock: %w", err)
	}
	super, err := ParseSuperblock(head)
	if err != nil {
		return err
	}
	if super.DataBlocks != dataBlocks {
		return fmt.Errorf("verity superblock counts %d data blocks, want %d", super.DataBlocks, dataBlocks)
	}
	if super.Salt != salt {
		return fmt.Errorf("verity superblock has salt %x, want %x", super.Salt, salt)
	}
	if err := reaches(hashes, HashBytes(dataBlocks)/BlockSize); err != nil {
		return fmt.Errorf("verity tree: %w", err)
	}

	rows := levels(dataBlocks)
	above := append([]byte(nil), root[:]...)
	for i := len(rows) - 1; i >= 0; i-- {
		row := make([]byte, rows[i].blocks*BlockSize)
		if err := readFull(hashes, row, rows[i].start*BlockSize); err != nil {
			return fmt.Errorf("hash level %d: %w", i, err)
		}
		if err := match(bytes.NewReader(row), rows[i].blocks, i, above, &salt); err != nil {
			return err
		}
		// The digests vouch for the padding; the format wants zeros there.
		used := dataBlocks * sha256.Size
		if i > 0 {
			used = rows[i-1].blocks * sha256.Size
		}
		if !zero(row[used:]) {
			return fmt.Errorf("hash level %d has set bytes in its padding", i)
		}
		above = row
	}
	return match(data, dataBlocks, DataLevel, above, &salt)
}

// match compares the digests of the blocks of src with those in want.
func match(src io.ReaderAt, blocks uint64, level int, want []byte, salt *[32]byte) error {
	return hash(src, blocks, salt, func(run uint64, digests []byte) error {
		expected := want[run*BlockSize:][:len(digests)]
		if bytes.Equal(digests, expected) {
			return nil
		}
		var i int
		for bytes.Equal(digests[i:][:sha256.Size], expected[i:][:sha256.Size]) {
			i += sha256.Size
		}
		return &Mismatch{Level: level, Block: run*fanOut + uint64(i/sha256.Size)}
	})
}
