// Package passphrase makes and reads recovery passphrases: 128 random bits in
// 28 characters that a person can read out, type on a console and mistype
// without harm. And it has the rule for passphrases that a person chooses. It
// needs nothing but the standard library.
//
//	0k3v-9x2m-7tqf-a1zd-52hw-ge8r-cn4p
//
// The alphabet is Crockford's base 32 (https://www.crockford.com/base32.html),
// which leaves out i, l, o and u. The last 12 bits are a checksum.
package passphrase

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
)

const (
	alphabet   = "0123456789abcdefghjkmnpqrstvwxyz"
	characters = 28 // of 5 bits: 128 random ones and 12 of the checksum
	group      = 4
)

// Print returns the passphrase of 128 random bits. Its bytes, hyphens and all,
// are what opens a volume.
func Print(random [16]byte) string {
	sum := checksum(random)
	// 140 bits, the last character ends at the checksum's twelfth.
	b := append(random[:], byte(sum>>4), byte(sum<<4))
	var text strings.Builder
	for i := range characters {
		if i > 0 && i%group == 0 {
			text.WriteByte('-')
		}
		value := uint16(b[i*5/8]) << 8
		if i*5/8+1 < len(b) {
			value |= uint16(b[i*5/8+1])
		}
		text.WriteByte(alphabet[value>>(11-i*5%8)&31])
	}
	return text.String()
}

// checksum is 12 bits.
func checksum(random [16]byte) uint16 {
	sum := sha256.Sum256(append([]byte("cloison recovery passphrase 1\x00"), random[:]...))
	return uint16(sum[0])<<4 | uint16(sum[1])>>4
}

// Parse returns the passphrase that a person meant: upper case, spaces,
// missing hyphens, o for 0, and i and l for 1 are taken. It tells a mistyped
// passphrase from a wrong one, all but once in 4096 times.
func Parse(typed string) (string, error) {
	var b [18]byte
	n := 0
	for _, c := range strings.ToLower(typed) {
		switch c {
		case '-', ' ', '\t', '\r', '\n':
			continue
		case 'o':
			c = '0'
		case 'i', 'l':
			c = '1'
		}
		value := strings.IndexRune(alphabet, c)
		if value < 0 {
			return "", fmt.Errorf("a recovery passphrase has no character %q", c)
		}
		if n == characters {
			return "", fmt.Errorf("a recovery passphrase has %d characters, this one more", characters)
		}
		at := n * 5
		wide := uint16(value) << (11 - at%8)
		b[at/8] |= byte(wide >> 8)
		if at/8+1 < len(b) {
			b[at/8+1] |= byte(wide)
		}
		n++
	}
	if n != characters {
		return "", fmt.Errorf("a recovery passphrase has %d characters, this one %d", characters, n)
	}
	random := [16]byte(b[:])
	if checksum(random) != uint16(b[16])<<4|uint16(b[17])>>4 {
		return "", errors.New("this is no recovery passphrase: a character is wrong or in another place")
	}
	return Print(random), nil
}

// Least is how many characters a chosen passphrase has at least, and how many of
// them differ from one another. Most is what a console takes.
const (
	Least     = 16
	Different = 8
	Most      = 200
)

// CheckChosen reports whether a person may choose a passphrase. The rule is one
// that can be told in a sentence; what it lets pass can still be a poor choice.
func CheckChosen(text string) error {
	seen := map[rune]bool{}
	for _, c := range text {
		if c < ' ' || c > '~' {
			return errors.New("a passphrase has letters, digits, signs and spaces of ASCII only")
		}
		seen[c] = true
	}
	switch {
	case len(text) < Least:
		return fmt.Errorf("a passphrase has %d characters at least, this one %d", Least, len(text))
	case len(text) > Most:
		return fmt.Errorf("a passphrase has %d characters at most, this one %d", Most, len(text))
	case len(seen) < Different:
		return fmt.Errorf("a passphrase has %d different characters at least, this one %d", Different, len(seen))
	}
	return nil
}
