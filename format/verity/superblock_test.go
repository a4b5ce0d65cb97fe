package verity_test

import (
	"bytes"
	"testing"

	"cloison/format/verity"
	"cloison/format/verity/veritytest"
)

var super = verity.Superblock{UUID: veritytest.UUID, Salt: veritytest.Salt, DataBlocks: 16385}

func TestParseSuperblock(t *testing.T) {
	got, err := verity.ParseSuperblock(super.Bytes())
	if err != nil || got != super {
		t.Errorf("ParseSuperblock(Bytes of %v) = %v, %v, want the same", super, got, err)
	}
	for _, test := range []struct {
		at   int
		to   byte
		want string
	}{
		{7, 1, "no verity superblock: wrong signature"},
		{8, 2, "verity superblock version 2, want 1"},
		{12, 0, "verity hash type 0, want 1"},
		{37, '5', `verity hash algorithm "sha255\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", want "sha256"`},
		{63, 'x', `verity hash algorithm "sha256\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00x", want "sha256"`},
		{65, 0x20, "verity data blocks of 8192 bytes, want 4096"},
		{69, 0x02, "verity hash blocks of 512 bytes, want 4096"},
		{79, 0x80, "9223372036854792193 data blocks, at most 2251799813685248"},
		{80, 31, "verity salt of 31 bytes, want 32"},
		{82, 1, "verity superblock has set bytes in its padding"},
		{120, 1, "verity superblock has set bytes in its padding"},
		{344, 1, "verity superblock has set bytes in its padding"},
		{4095, 1, "verity superblock has set bytes in its padding"},
	} {
		b := super.Bytes()
		b[test.at] = test.to
		if _, err := verity.ParseSuperblock(b); text(err) != test.want {
			t.Errorf("ParseSuperblock(byte %d = %d) = %v, want %s", test.at, test.to, err, test.want)
		}
	}
	empty := verity.Superblock{}
	if _, err := verity.ParseSuperblock(empty.Bytes()); text(err) != "no data blocks" {
		t.Errorf("ParseSuperblock(no data blocks) = %v", err)
	}
	for _, size := range []int{0, 512, 4095, 4097} {
		if _, err := verity.ParseSuperblock(make([]byte, size)); err == nil {
			t.Errorf("ParseSuperblock(%d bytes) = nil error", size)
		}
	}
}

func FuzzParseSuperblock(f *testing.F) {
	f.Add(super.Bytes())
	f.Add([]byte{})
	f.Add(make([]byte, verity.BlockSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := verity.ParseSuperblock(b)
		if err != nil {
			return
		}
		if !bytes.Equal(s.Bytes(), b) {
			t.Errorf("%v.Bytes() is not what was parsed", s)
		}
	})
}
