// Package ext4 reads from an ext4 superblock what has to be known before it is
// mounted. It needs nothing but the standard library.
//
// Source: Linux, Documentation/filesystems/ext4/super.rst. Integers are
// little-endian.
package ext4

import (
	"encoding/binary"
	"errors"
)

// Where the superblock is, in bytes from the start of the volume.
const Start, Size = 1024, 1024

// BytesPerFile is how large a part of a volume there is for each file and folder,
// in the file systems that we make: so many they can have.
const BytesPerFile = 64 << 10

const (
	magic   = 0xef53
	quota   = 0x100  // RO_COMPAT_QUOTA
	project = 0x2000 // RO_COMPAT_PROJECT
)

// CountsProjects reports whether a file system keeps what the files of each
// project take: whether it may be mounted with prjquota.
func CountsProjects(superblock []byte) (bool, error) {
	if len(superblock) != Size || binary.LittleEndian.Uint16(superblock[0x38:]) != magic {
		return false, errors.New("there is no superblock of ext4")
	}
	features := binary.LittleEndian.Uint32(superblock[0x64:])
	return features&quota != 0 && features&project != 0, nil
}
