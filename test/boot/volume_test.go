package boot

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"cloison/format/luks2"
)

// integrity is where a dm-integrity volume has its data. All is in bytes.
type integrity struct {
	start  int64 // of the first area, from the start of the partition
	tagRun int64 // length of the tags of one area, before its data
	run    int64 // length of the data of one area
	blocks int64 // of data
}

// readIntegrity reads the superblock (Linux, drivers/md/dm-integrity.c).
func readIntegrity(r io.ReaderAt) (integrity, error) {
	b := make([]byte, 64)
	if _, err := r.ReadAt(b, luks2.HeaderSize); err != nil {
		return integrity{}, err
	}
	le := binary.LittleEndian
	interleave, tag, journal, sectors := b[9], le.Uint16(b[10:]), le.Uint32(b[12:]), le.Uint64(b[16:])
	if string(b[:8]) != "integrt\x00" || tag != sha256.Size || b[28] != 3 {
		return integrity{}, fmt.Errorf("no superblock of dm-integrity with tags of 32 bytes and blocks of 4096: %x", b)
	}
	// A section of the journal has 8 sectors of entries and 8 times 4 entries of
	// 8 sectors: an entry takes 8 + 8 * 8 + 32 bytes of the 504 of a sector.
	const section = 8 + 8*4*8
	run := int64(512) << interleave
	return integrity{
		start:  luks2.HeaderSize + 512*(8+int64(journal)*section),
		tagRun: run / 4096 * int64(tag), run: run, blocks: int64(sectors) / 8,
	}, nil
}

// volumeCipher is authenc(hmac(sha256),xts(aes))-plain64.
type volumeCipher struct {
	data, tweak cipher.Block
	mac         []byte
}

func newVolumeCipher(key []byte) (volumeCipher, error) {
	if len(key) != 96 {
		return volumeCipher{}, fmt.Errorf("a volume key of %d bytes", len(key))
	}
	data, err1 := aes.NewCipher(key[:32])
	tweak, err2 := aes.NewCipher(key[32:64])
	return volumeCipher{data, tweak, key[64:]}, errors.Join(err1, err2)
}

// open checks and decrypts one block; sector counts 512 bytes.
func (c volumeCipher) open(sector uint64, ciphertext, tag []byte) ([]byte, bool) {
	var t [16]byte
	binary.LittleEndian.PutUint64(t[:], sector)
	mac := hmac.New(sha256.New, c.mac)
	mac.Write(t[:8]) // the sector, then the IV, which is the sector again
	mac.Write(t[:])
	mac.Write(ciphertext)
	if !hmac.Equal(mac.Sum(nil), tag) {
		return nil, false
	}
	// XTS (IEEE 1619-2018, section 5.3): whole blocks only.
	c.tweak.Encrypt(t[:], t[:])
	plain := make([]byte, len(ciphertext))
	for i := 0; i < len(plain); i += 16 {
		for j := range t {
			plain[i+j] = ciphertext[i+j] ^ t[j]
		}
		c.data.Decrypt(plain[i:i+16], plain[i:i+16])
		carry := byte(0)
		for j := range t {
			plain[i+j] ^= t[j]
			t[j], carry = t[j]<<1|carry, t[j]>>7
		}
		if carry != 0 {
			t[0] ^= 0x87
		}
	}
	return plain, true
}
