// Package cmdline parses and prints the part of the signed command line that
// belongs to Cloison: which core image may be started, by its dm-verity root
// hash.
//
// The text is the kernel's static options, then a space, then
//
//	cloison.version=V cloison.roothash=HEX cloison.salt=HEX
//	cloison.data_blocks=N cloison.hash_offset=BYTES cloison.fec_offset=BYTES
//	cloison.fec_roots=N [cloison.swap=1] [cloison.unlock=passphrase] [cloison.development=1]
//
// on one line, in this order, each once, separated by one space. The same text
// is the UKI's .cmdline section (UAPI group, Unified Kernel Image, section
// "UKI components") and the file /cmdline of the initramfs. The format is
// Cloison's own; it needs nothing but the standard library.
package cmdline

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// BlockSize is the size in bytes of a data block and of a hash block.
const BlockSize = 4096

// maxLen bounds the text in bytes; the kernel's own limit on x86 is 2048
// (COMMAND_LINE_SIZE).
const maxLen = 2048

// maxBlocks keeps every offset far below 1<<63 bytes: 1<<40 blocks are 4 PiB.
const maxBlocks = 1 << 40

// Core says which core image the signer allows. Offsets are bytes from the
// start of the partition, multiples of BlockSize; DataBlocks counts blocks of
// BlockSize bytes.
type Core struct {
	Version        string // of the release; see checkVersion
	RootHash, Salt [32]byte
	DataBlocks     uint64 // blocks of the file system
	HashOffset     uint64 // of the verity superblock
	FECOffset      uint64 // of the parity
	FECRoots       uint   // parity bytes per codeword, 2 to 24
	Swap           bool   // the system swaps, to the disk's swap partition
	Passphrase     bool   // a person opens the state volume, and no TPM
	Development    bool   // signed by keys that prove nothing
}

// Parse reads the whole signed command line. It refuses what String would not
// have printed: another order, another spelling of a number, an unknown or a
// repeated key.
func Parse(text string) (Core, error) {
	c, err := parse(text)
	if err != nil {
		return Core{}, fmt.Errorf("cannot parse the signed command line: %w", err)
	}
	return c, nil
}

func parse(text string) (Core, error) {
	var c Core
	if len(text) > maxLen {
		return c, fmt.Errorf("%d bytes, at most %d", len(text), maxLen)
	}
	for _, b := range []byte(text) {
		if b < ' ' || b > '~' {
			return c, fmt.Errorf("byte %#02x is not printable ASCII", b)
		}
	}
	words := strings.Split(text, " ")
	for len(words) > 0 && !strings.HasPrefix(words[0], "cloison.") {
		if words[0] == "" {
			return c, errors.New("empty word: words are separated by one space")
		}
		words = words[1:]
	}
	keys := []struct {
		name string
		set  func(string) error
	}{
		{"version", func(s string) error { c.Version = s; return checkVersion(s) }},
		{"roothash", func(s string) error { return digest(s, &c.RootHash) }},
		{"salt", func(s string) error { return digest(s, &c.Salt) }},
		{"data_blocks", func(s string) error { return number(s, &c.DataBlocks) }},
		{"hash_offset", func(s string) error { return number(s, &c.HashOffset) }},
		{"fec_offset", func(s string) error { return number(s, &c.FECOffset) }},
		{"fec_roots", func(s string) error {
			var n uint64
			err := number(s, &n)
			c.FECRoots = uint(min(n, 255))
			return err
		}},
	}
	for _, k := range keys {
		if len(words) == 0 {
			return c, fmt.Errorf("cloison.%s is missing", k.name)
		}
		value, ok := strings.CutPrefix(words[0], "cloison."+k.name+"=")
		if !ok {
			return c, fmt.Errorf("%q where cloison.%s=… must stand", words[0], k.name)
		}
		if err := k.set(value); err != nil {
			return c, fmt.Errorf("cloison.%s: %w", k.name, err)
		}
		words = words[1:]
	}
	for _, flag := range c.flags() {
		if len(words) > 0 && words[0] == flag.word {
			*flag.set, words = true, words[1:]
		}
	}
	if len(words) > 0 {
		return c, fmt.Errorf("unexpected word %q at the end", words[0])
	}
	return c, c.Check()
}

// Check reports whether the values fit together.
func (c Core) Check() error {
	if err := checkVersion(c.Version); err != nil {
		return fmt.Errorf("version: %w", err)
	}
	switch {
	case c.DataBlocks < 2 || c.DataBlocks > maxBlocks:
		return fmt.Errorf("%d data blocks, want 2 to %d", c.DataBlocks, uint64(maxBlocks))
	case c.HashOffset%BlockSize != 0 || c.FECOffset%BlockSize != 0:
		return fmt.Errorf("offsets %d and %d must be multiples of %d", c.HashOffset, c.FECOffset, BlockSize)
	case c.HashOffset < c.DataBlocks*BlockSize:
		return fmt.Errorf("hash offset %d lies within the %d data blocks", c.HashOffset, c.DataBlocks)
	case c.FECOffset < c.HashOffset+2*BlockSize:
		return fmt.Errorf("parity offset %d leaves no room for a hash tree at %d", c.FECOffset, c.HashOffset)
	case c.FECOffset > 4*maxBlocks*BlockSize:
		return fmt.Errorf("parity offset %d is too large", c.FECOffset)
	case c.FECRoots < 2 || c.FECRoots > 24:
		return fmt.Errorf("%d parity roots, want 2 to 24", c.FECRoots)
	case c.RootHash == [32]byte{}:
		return errors.New("root hash is all zero")
	}
	return nil
}

// String prints the part that belongs to Cloison, without the kernel's options.
func (c Core) String() string {
	s := fmt.Sprintf("cloison.version=%s cloison.roothash=%x cloison.salt=%x cloison.data_blocks=%d cloison.hash_offset=%d cloison.fec_offset=%d cloison.fec_roots=%d",
		c.Version, c.RootHash, c.Salt, c.DataBlocks, c.HashOffset, c.FECOffset, c.FECRoots)
	for _, flag := range c.flags() {
		if *flag.set {
			s += " " + flag.word
		}
	}
	return s
}

// flags are the words that may be missing, in their order.
func (c *Core) flags() []struct {
	word string
	set  *bool
} {
	return []struct {
		word string
		set  *bool
	}{{"cloison.swap=1", &c.Swap}, {"cloison.unlock=passphrase", &c.Passphrase}, {"cloison.development=1", &c.Development}}
}

// CoveredBlocks returns how many blocks the parity covers: the data, and all
// from the hash tree (after its superblock) up to the parity itself, as
// veritysetup has it where all three share a device.
func (c Core) CoveredBlocks() uint64 {
	return c.DataBlocks + c.FECOffset/BlockSize - c.HashOffset/BlockSize - 1
}

// Size returns the size of the image in bytes: where its parity ends. A codeword
// has 255 bytes, FECRoots of them parity; each byte is of another block.
func (c Core) Size() uint64 {
	data := uint64(255 - c.FECRoots)
	return c.FECOffset + (c.CoveredBlocks()+data-1)/data*uint64(c.FECRoots)*BlockSize
}

// checkVersion reports whether s can be a release version: 1 to 64 characters
// of [0-9A-Za-z.~^-], the first a digit. "+" and "_" are left out because file
// names on the ESP use them around the version (cloison_VERSION+TRIES.efi).
func checkVersion(s string) error {
	if s == "" || len(s) > 64 || s[0] < '0' || s[0] > '9' {
		return fmt.Errorf("%q is no version: want a digit, then at most 63 more characters", s)
	}
	for _, r := range s {
		if !strings.ContainsRune("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.~^-", r) {
			return fmt.Errorf("%q is no version: character %q", s, r)
		}
	}
	return nil
}

func digest(s string, d *[32]byte) error {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(d) || hex.EncodeToString(b) != s {
		return fmt.Errorf("%q is not 64 lower-case hexadecimal digits", s)
	}
	copy(d[:], b)
	return nil
}

func number(s string, n *uint64) error {
	v, err := strconv.ParseUint(s, 10, 63)
	if err != nil || strconv.FormatUint(v, 10) != s {
		return fmt.Errorf("%q is not a plain decimal number", s)
	}
	*n = v
	return nil
}
