// Package verity builds and checks dm-verity hash trees: SHA-256 over blocks of
// 4096 bytes, format version 1 (the salt is hashed before each block), preceded
// by cryptsetup's superblock. It needs readers of the data and of the tree, and
// nothing of the machine that it runs on.
//
// Sources: kernel Documentation/admin-guide/device-mapper/verity.rst, sections
// "On-disk format" and "Hash Tree"; cryptsetup wiki, DMVerity, for the
// superblock.
package verity

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"cloison/format/verity/pieces"
)

const (
	// BlockSize is the size in bytes of data blocks and of hash blocks.
	BlockSize = 4096
	// fanOut is the number of digests in one hash block.
	fanOut = BlockSize / sha256.Size
	// maxBlocks keeps byte offsets within int64, what io.ReaderAt can reach.
	maxBlocks = 1 << 51
)

// Tree is a complete hash tree.
type Tree struct {
	Root       [32]byte // root hash
	Salt       [32]byte
	UUID       [16]byte
	DataBlocks uint64
	// Hashes is the hash area as on disk: the superblock's block, then the
	// levels, top level first. Its length is HashBytes(DataBlocks).
	Hashes []byte
}

// level is one row of the tree. Level 0 holds the digests of the data blocks.
type level struct {
	start  uint64 // first block, counted from the superblock
	blocks uint64
}

// levels returns the rows of the tree over dataBlocks, level 0 first. The tree
// over one block has no row: its root hash is the digest of the data block.
func levels(dataBlocks uint64) []level {
	var rows []level
	for n := dataBlocks; n > 1; {
		n = (n + fanOut - 1) / fanOut
		rows = append(rows, level{blocks: n})
	}
	at := uint64(1) // after the superblock
	for i := len(rows) - 1; i >= 0; i-- {
		rows[i].start = at
		at += rows[i].blocks
	}
	return rows
}

// HashBlocks returns the number of blocks of all levels over dataBlocks, without
// the superblock.
func HashBlocks(dataBlocks uint64) uint64 {
	var n uint64
	for _, l := range levels(dataBlocks) {
		n += l.blocks
	}
	return n
}

// HashBytes returns the size in bytes of the hash area over dataBlocks:
// superblock and levels.
func HashBytes(dataBlocks uint64) uint64 {
	return (1 + HashBlocks(dataBlocks)) * BlockSize
}

// TopBlockOffset returns where the block lies whose digest is the root hash, in
// bytes from the start of an image with its data at 0 and its superblock at
// hashOffset. That is the block after the superblock; with a single data block,
// which has no tree, it is the data block.
func TopBlockOffset(dataBlocks, hashOffset uint64) uint64 {
	if dataBlocks == 1 {
		return 0
	}
	return hashOffset + BlockSize
}

// MatchesRoot reports whether topBlock, the 4096 bytes at TopBlockOffset, is the
// top of the tree with this root hash. It says nothing of the blocks below.
func MatchesRoot(topBlock []byte, root, salt [32]byte) bool {
	return len(topBlock) == BlockSize && digest(topBlock, &salt) == root
}

func digest(block []byte, salt *[32]byte) [32]byte {
	var salted [sha256.Size + BlockSize]byte
	copy(salted[:], salt[:])
	copy(salted[len(salt):], block)
	return sha256.Sum256(salted[:])
}

func checkBlocks(dataBlocks uint64) error {
	if dataBlocks == 0 {
		return errors.New("no data blocks")
	}
	if dataBlocks > maxBlocks {
		return fmt.Errorf("%d data blocks, at most %d", dataBlocks, uint64(maxBlocks))
	}
	return nil
}

// Build reads dataBlocks blocks from the start of data and returns their tree. It
// reads from several goroutines at once, each block once, and hashes on all cores.
func Build(data io.ReaderAt, dataBlocks uint64, salt [32]byte, uuid [16]byte) (*Tree, error) {
	if err := checkBlocks(dataBlocks); err != nil {
		return nil, fmt.Errorf("cannot build verity tree: %w", err)
	}
	if err := reaches(data, dataBlocks); err != nil {
		return nil, fmt.Errorf("cannot build verity tree: %w", err)
	}
	t := &Tree{
		Salt: salt, UUID: uuid, DataBlocks: dataBlocks,
		Hashes: make([]byte, HashBytes(dataBlocks)),
	}
	copy(t.Hashes, Superblock{UUID: uuid, Salt: salt, DataBlocks: dataBlocks}.Bytes())

	src, blocks := data, dataBlocks
	for _, l := range levels(dataBlocks) {
		row := t.Hashes[l.start*BlockSize:][:l.blocks*BlockSize]
		err := hash(src, blocks, &salt, func(i uint64, digests []byte) error {
			copy(row[i*BlockSize:], digests)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("cannot build verity tree: %w", err)
		}
		src, blocks = bytes.NewReader(row), l.blocks
	}
	top := make([]byte, BlockSize)
	if err := readFull(src, top, 0); err != nil {
		return nil, fmt.Errorf("cannot build verity tree: %w", err)
	}
	t.Root = digest(top, &salt)
	return t, nil
}

// hash calls visit with the digests of the blocks of src, in runs of fanOut: run
// i is what hash block i of the level above holds, without its padding. visit
// runs on several goroutines and must not keep digests. The error is that of the
// lowest run that failed.
func hash(src io.ReaderAt, blocks uint64, salt *[32]byte, visit func(run uint64, digests []byte) error) error {
	return pieces.Run((blocks+fanOut-1)/fanOut, func() (func(uint64) error, error) {
		buf := make([]byte, sha256.Size+fanOut*BlockSize)
		digests := make([]byte, 0, BlockSize)
		return func(run uint64) error {
			n := min(fanOut, blocks-run*fanOut)
			if err := readFull(src, buf[sha256.Size:][:n*BlockSize], run*fanOut*BlockSize); err != nil {
				return err
			}
			digests = digests[:0]
			for i := range n {
				// The salt goes over the end of the block before, which is
				// hashed already: salt and block then lie side by side, and
				// neither is copied.
				salted := buf[i*BlockSize:][:sha256.Size+BlockSize]
				copy(salted, salt[:])
				sum := sha256.Sum256(salted)
				digests = append(digests, sum[:]...)
			}
			return visit(run, digests)
		}, nil
	})
}

// reaches makes sure that r has that many blocks, before memory is asked for in
// proportion.
func reaches(r io.ReaderAt, blocks uint64) error {
	return readFull(r, make([]byte, BlockSize), (blocks-1)*BlockSize)
}

// readFull fills b from byte offset off of r.
func readFull(r io.ReaderAt, b []byte, off uint64) error {
	n, err := r.ReadAt(b, int64(off))
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("block %d: %w", (off+uint64(n))/BlockSize, err)
}
