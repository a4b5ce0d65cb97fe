package ext4

import "testing"

// superblock has what mke2fs writes: its magic number, and compatible features
// of reading.
func superblock(features uint16) []byte {
	b := make([]byte, Size)
	b[0x38], b[0x39] = 0x53, 0xef
	b[0x64], b[0x65] = byte(features), byte(features>>8)
	return b
}

func TestCountsProjects(t *testing.T) {
	for features, want := range map[uint16]bool{0: false, 0x046b: false, 0x056b: false, 0x246b: false, 0x256b: true} {
		if got, err := CountsProjects(superblock(features)); got != want || err != nil {
			t.Errorf("CountsProjects of features %#x = %v, %v, want %v", features, got, err, want)
		}
	}
	for _, bad := range [][]byte{nil, make([]byte, Size), superblock(0)[:Size-1]} {
		if got, err := CountsProjects(bad); err == nil {
			t.Errorf("CountsProjects of %d bytes that are no superblock = %v", len(bad), got)
		}
	}
}

// FuzzCountsProjects: the answer comes from two bits of a superblock, and from
// nothing else.
func FuzzCountsProjects(f *testing.F) {
	f.Add(superblock(0x256b))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := CountsProjects(b)
		if err != nil {
			if got {
				t.Error("an answer and an error")
			}
			return
		}
		if again, err := CountsProjects(superblock(uint16(b[0x64]) | uint16(b[0x65])<<8)); again != got || err != nil {
			t.Errorf("CountsProjects = %v, of the same features %v, %v", got, again, err)
		}
	})
}
