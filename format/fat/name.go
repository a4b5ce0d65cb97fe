package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// entry is one of a folder's entries, 32 bytes.
type entry []byte

func (e entry) attributes() byte { return e[11] }

func (e entry) cluster() uint32 {
	return uint32(binary.LittleEndian.Uint16(e[20:]))<<16 | uint32(binary.LittleEndian.Uint16(e[26:]))
}

func (e entry) size() uint32 { return binary.LittleEndian.Uint32(e[28:]) }

// sum is what each part of the long name repeats of the short one.
func (e entry) sum() (sum byte) {
	for _, c := range e[:11] {
		sum = sum>>1 | sum<<7
		sum += c
	}
	return sum
}

// punctuation may stand in a short name besides letters and digits.
const punctuation = "$%'-_@~`!(){}^#&"

// shortName returns the 8.3 name. The two flags of byte 12, which Windows NT
// came with and mtools writes, say that a part is in lower case.
func (e entry) shortName() (string, error) {
	base, extension := strings.TrimRight(string(e[:8]), " "), strings.TrimRight(string(e[8:11]), " ")
	for i, c := range []byte(base + extension) {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune(punctuation, rune(c)) {
			return "", fmt.Errorf("byte %#02x at %d of a short name", c, i)
		}
	}
	if base == "" {
		return "", errors.New("an empty short name")
	}
	if e[12]&0x08 != 0 {
		base = strings.ToLower(base)
	}
	if e[12]&0x10 != 0 {
		extension = strings.ToLower(extension)
	}
	if extension == "" {
		return base, nil
	}
	return base + "." + extension, nil
}

// longName collects the parts of a long name, which stand last part first
// before the entry that they name.
type longName struct {
	units []uint16
	next  int // number of the part that must come next; 0: complete
	sum   byte
}

func (n *longName) pending() bool { return n.units != nil }

func (n *longName) add(e entry) error {
	order := int(e[0])
	switch {
	case order&lastLong != 0 && n.pending():
		return errors.New("a long name without an entry")
	case order&lastLong != 0:
		n.next, n.sum = order&^lastLong, e[13]
		if n.next == 0 || n.next > maxLongEntries {
			return fmt.Errorf("a long name of %d parts", n.next)
		}
	case !n.pending() || order != n.next || n.next == 0 || e[13] != n.sum:
		return errors.New("the parts of a long name do not fit together")
	}
	if e[12] != 0 || binary.LittleEndian.Uint16(e[26:]) != 0 {
		return errors.New("a part of a long name is malformed")
	}
	n.next--
	units := make([]uint16, 0, unitsPerLong)
	for _, r := range [][2]int{{1, 11}, {14, 26}, {28, 32}} {
		for i := r[0]; i < r[1]; i += 2 {
			units = append(units, binary.LittleEndian.Uint16(e[i:]))
		}
	}
	n.units = append(units, n.units...)
	return nil
}

// take ends the long name at its entry. Only printable ASCII is accepted:
// nothing on this partition needs more, and case folding is then simple.
func (n *longName) take(e entry) (string, error) {
	units, next, sum := n.units, n.next, n.sum
	*n = longName{}
	if next != 0 || sum != e.sum() {
		return "", errors.New("the parts of a long name do not fit together")
	}
	var name strings.Builder
	for i, u := range units {
		if u == 0 {
			for _, rest := range units[i+1:] {
				if rest != 0xffff {
					return "", errors.New("there is something after the end of a long name")
				}
			}
			break
		}
		if u < ' ' || u > '~' || strings.ContainsRune(`"*/:<>?\|`, rune(u)) {
			return "", fmt.Errorf("character %#04x in a long name", u)
		}
		name.WriteByte(byte(u))
	}
	if s := name.String(); s != "" && strings.Trim(s, ". ") != "" && strings.TrimRight(s, ". ") == s {
		return s, nil
	}
	return "", fmt.Errorf("a long name %q", name.String())
}
