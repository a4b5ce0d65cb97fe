package verity

import "io"

// Covered returns what dm-verity's forward error correction protects, end to
// end: dataBlocks blocks of data, then the levels of the hash area that starts
// with its superblock in hashes. The superblock is not protected. The length is
// CoveredBlocks(dataBlocks) blocks.
// Source: kernel drivers/md/dm-verity-fec.c; verity.rst, "fec_blocks".
func Covered(data, hashes io.ReaderAt, dataBlocks uint64) io.ReaderAt {
	return &covered{data, hashes, int64(dataBlocks * BlockSize), int64(CoveredBlocks(dataBlocks) * BlockSize)}
}

// CoveredBlocks returns the number of blocks that forward error correction
// protects: data and levels. It is the fec_blocks of a dm-verity table.
func CoveredBlocks(dataBlocks uint64) uint64 {
	return dataBlocks + HashBlocks(dataBlocks)
}

type covered struct {
	data, hashes io.ReaderAt
	split, size  int64 // bytes
}

func (c *covered) ReadAt(b []byte, off int64) (int, error) {
	if off >= c.size {
		return 0, io.EOF
	}
	var end error
	if int64(len(b)) > c.size-off {
		b, end = b[:c.size-off], io.EOF
	}
	var n int
	if off < c.split {
		part := b[:min(int64(len(b)), c.split-off)]
		var err error
		if n, err = c.data.ReadAt(part, off); n < len(part) {
			return n, err
		}
	}
	if n < len(b) {
		m, err := c.hashes.ReadAt(b[n:], off+int64(n)-c.split+BlockSize)
		if n += m; n < len(b) {
			return n, err
		}
	}
	return n, end
}
