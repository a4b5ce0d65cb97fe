package verity

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Layout of the superblock, in bytes from its start; integers are little
// endian. Source: cryptsetup wiki, DMVerity, "Verity superblock format".
const (
	offSignature     = 0   // 8 bytes, "verity" and two zeros
	offVersion       = 8   // uint32, 1
	offHashType      = 12  // uint32, 1: the salt comes before the data
	offUUID          = 16  // 16 bytes
	offAlgorithm     = 32  // 32 bytes, zero padded
	offDataBlockSize = 64  // uint32, bytes
	offHashBlockSize = 68  // uint32, bytes
	offDataBlocks    = 72  // uint64
	offSaltSize      = 80  // uint16, bytes
	offSalt          = 88  // 256 bytes, zero padded
	endSalt          = 344 // then zeros to the end of the block
)

const (
	signature = "verity\x00\x00"
	algorithm = "sha256"
)

// Superblock is what the block before the tree says. Nothing signs it: dm-verity
// does not read it, tools do. What it does not hold is fixed in this package:
// SHA-256, blocks of 4096 bytes, salt of 32 bytes before the data.
type Superblock struct {
	UUID       [16]byte // in the order in which a UUID is printed
	Salt       [32]byte
	DataBlocks uint64 // protected blocks of 4096 bytes
}

// Bytes returns the superblock as on disk: 4096 bytes, of which the format uses
// the first 344.
func (s Superblock) Bytes() []byte {
	b := make([]byte, BlockSize)
	copy(b[offSignature:], signature)
	binary.LittleEndian.PutUint32(b[offVersion:], 1)
	binary.LittleEndian.PutUint32(b[offHashType:], 1)
	copy(b[offUUID:], s.UUID[:])
	copy(b[offAlgorithm:], algorithm)
	binary.LittleEndian.PutUint32(b[offDataBlockSize:], BlockSize)
	binary.LittleEndian.PutUint32(b[offHashBlockSize:], BlockSize)
	binary.LittleEndian.PutUint64(b[offDataBlocks:], s.DataBlocks)
	binary.LittleEndian.PutUint16(b[offSaltSize:], uint16(len(s.Salt)))
	copy(b[offSalt:], s.Salt[:])
	return b
}

// ParseSuperblock reads a superblock of exactly 4096 bytes. It refuses another
// version, algorithm, block size or salt size than this package writes, a number
// of data blocks of zero or above 2⁵¹, and any set byte where zeros belong: what
// it accepts, Bytes prints again unchanged.
func ParseSuperblock(b []byte) (Superblock, error) {
	var s Superblock
	if len(b) != BlockSize {
		return s, fmt.Errorf("verity superblock has %d bytes, want %d", len(b), BlockSize)
	}
	if string(b[offSignature:offVersion]) != signature {
		return s, errors.New("no verity superblock: wrong signature")
	}
	if v := binary.LittleEndian.Uint32(b[offVersion:]); v != 1 {
		return s, fmt.Errorf("verity superblock version %d, want 1", v)
	}
	if t := binary.LittleEndian.Uint32(b[offHashType:]); t != 1 {
		return s, fmt.Errorf("verity hash type %d, want 1", t)
	}
	if name := b[offAlgorithm:offDataBlockSize]; string(name[:len(algorithm)]) != algorithm || !zero(name[len(algorithm):]) {
		return s, fmt.Errorf("verity hash algorithm %q, want %q", name, algorithm)
	}
	if n := binary.LittleEndian.Uint32(b[offDataBlockSize:]); n != BlockSize {
		return s, fmt.Errorf("verity data blocks of %d bytes, want %d", n, BlockSize)
	}
	if n := binary.LittleEndian.Uint32(b[offHashBlockSize:]); n != BlockSize {
		return s, fmt.Errorf("verity hash blocks of %d bytes, want %d", n, BlockSize)
	}
	if n := binary.LittleEndian.Uint16(b[offSaltSize:]); int(n) != len(s.Salt) {
		return s, fmt.Errorf("verity salt of %d bytes, want %d", n, len(s.Salt))
	}
	if !zero(b[offSaltSize+2:offSalt]) || !zero(b[offSalt+len(s.Salt):endSalt]) || !zero(b[endSalt:]) {
		return s, errors.New("verity superblock has set bytes in its padding")
	}
	n := binary.LittleEndian.Uint64(b[offDataBlocks:])
	if err := checkBlocks(n); err != nil {
		return s, err
	}
	s.DataBlocks = n
	copy(s.UUID[:], b[offUUID:])
	copy(s.Salt[:], b[offSalt:])
	return s, nil
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
