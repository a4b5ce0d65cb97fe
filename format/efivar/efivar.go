// Package efivar reads the contents of the EFI variables that a boot depends
// on: Secure Boot's state, the loader's times and its boot counter.
//
// Sources: UEFI specification 2.10, section 3.3 (SecureBoot, SetupMode) and 8.2
// (attributes); the Boot Loader Interface and the Automatic Boot Assessment of
// the UAPI group and systemd (LoaderBootCountPath, LoaderTimeInitUSec, …), whose
// strings are UTF-16LE ended by a zero. It needs nothing but the standard
// library.
package efivar

import (
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

// Attributes are the first four bytes, little-endian, of an efivarfs file.
type Attributes uint32

// The attributes of UEFI 2.10, section 8.2.1.
const (
	NonVolatile       Attributes = 1
	BootServiceAccess Attributes = 2
	RuntimeAccess     Attributes = 4
)

// Variable is one variable as efivarfs shows it.
type Variable struct {
	Attributes Attributes
	Data       []byte
}

// Parse splits the contents of an efivarfs file.
func Parse(file []byte) (Variable, error) {
	if len(file) < 4 {
		return Variable{}, fmt.Errorf("%d bytes are no variable", len(file))
	}
	return Variable{Attributes(binary.LittleEndian.Uint32(file)), file[4:]}, nil
}

// Flag reads a variable of one byte, 0 or 1, that the firmware itself keeps:
// one that a program could have stored (non-volatile) is refused.
func (v Variable) Flag() (bool, error) {
	if v.Attributes != BootServiceAccess|RuntimeAccess {
		return false, fmt.Errorf("attributes %#x are not the firmware's own", uint32(v.Attributes))
	}
	if len(v.Data) != 1 || v.Data[0] > 1 {
		return false, fmt.Errorf("contents %x are neither 00 nor 01", v.Data)
	}
	return v.Data[0] == 1, nil
}

// Text reads a UTF-16LE string ended by its only zero.
func (v Variable) Text() (string, error) {
	b := v.Data
	if len(b) < 2 || len(b)%2 != 0 || len(b) > 8192 {
		return "", fmt.Errorf("%d bytes are no UTF-16 string", len(b))
	}
	u := make([]uint16, len(b)/2)
	for i := range u {
		u[i] = binary.LittleEndian.Uint16(b[2*i:])
		if (u[i] == 0) != (i == len(u)-1) {
			return "", errors.New("string is not ended by its only zero")
		}
		if utf16.IsSurrogate(rune(u[i])) {
			return "", errors.New("character beyond the basic plane")
		}
	}
	return string(utf16.Decode(u[:len(u)-1])), nil
}

// Texts reads a list of strings, each ended by a zero (LoaderEntries).
func (v Variable) Texts() ([]string, error) {
	if len(v.Data) == 0 {
		return nil, nil
	}
	var list []string
	for start, i := 0, 0; i+1 < len(v.Data); i += 2 {
		if v.Data[i] != 0 || v.Data[i+1] != 0 {
			continue
		}
		s, err := Variable{Data: v.Data[start : i+2]}.Text()
		if err != nil {
			return nil, err
		}
		list, start = append(list, s), i+2
		if start == len(v.Data) {
			return list, nil
		}
	}
	return nil, errors.New("list is not ended by a zero")
}

// Since reads a decimal number of microseconds, as the loader stores its times.
func (v Variable) Since() (time.Duration, error) {
	s, err := v.Text()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(s, 10, 48)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, fmt.Errorf("%q is not a number of microseconds", s)
	}
	return time.Duration(n) * time.Microsecond, nil
}

// Counted is the place of a boot entry with its counter.
type Counted struct {
	Folder  string // below the ESP, with slashes and no leading one: EFI/Linux
	Version string // of the release
	Left    uint   // tries that remain
	Done    uint   // tries that were made, this boot included
}

var counted = regexp.MustCompile(`^cloison_([0-9][0-9A-Za-z.~^-]{0,63})\+([0-9]{1,4})(?:-([0-9]{1,4}))?\.efi$`)

// CountPath reads LoaderBootCountPath, e.g. \EFI\Linux\cloison_0.1.0+2-1.efi.
// It accepts no other folder and no other name than Cloison's.
func CountPath(path string) (Counted, error) {
	const folder = `\EFI\Linux\`
	name, ok := strings.CutPrefix(path, folder)
	m := counted.FindStringSubmatch(name)
	if !ok || m == nil {
		return Counted{}, fmt.Errorf("boot counter %q is not on an entry of ours", path)
	}
	left, _ := strconv.ParseUint(m[2], 10, 16) // the expression allows four digits
	c := Counted{Folder: "EFI/Linux", Version: m[1], Left: uint(left)}
	if m[3] != "" {
		done, _ := strconv.ParseUint(m[3], 10, 16)
		c.Done = uint(done)
	}
	if c.Path() != path {
		return Counted{}, fmt.Errorf("boot counter %q is not written the usual way", path)
	}
	return c, nil
}

// Name is the file's name with its counter, as it is now.
func (c Counted) Name() string {
	if c.Done == 0 {
		return fmt.Sprintf("cloison_%s+%d.efi", c.Version, c.Left)
	}
	return fmt.Sprintf("cloison_%s+%d-%d.efi", c.Version, c.Left, c.Done)
}

// GoodName is the name without the counter: the boot was good.
func (c Counted) GoodName() string { return fmt.Sprintf("cloison_%s.efi", c.Version) }

// Path is Name as the loader writes it.
func (c Counted) Path() string { return `\` + strings.ReplaceAll(c.Folder, "/", `\`) + `\` + c.Name() }

// OtherEntry reports whether entries (LoaderEntries) holds an entry of Cloison
// besides selected (LoaderEntrySelected) that the loader would still try: one
// without a counter or with tries left. Names are compared without their
// counters, because the loader renames the entry that it starts. The profiles of
// one UKI, which the loader calls NAME.efi@PROFILE, share its counter.
func OtherEntry(entries []string, selected string) bool {
	self, _, ok := entry(selected)
	for _, e := range entries {
		version, exhausted, is := entry(e)
		if ok && is && !exhausted && version != self {
			return true
		}
	}
	return false
}

var named = regexp.MustCompile(`^cloison_([0-9][0-9A-Za-z.~^-]{0,63})(\+[0-9]{1,4}(?:-[0-9]{1,4})?)?\.efi(?:@[0-9a-z]+)?$`)

func entry(name string) (version string, exhausted, ok bool) {
	m := named.FindStringSubmatch(name)
	if m == nil {
		return "", false, false
	}
	return m[1], m[2] == "+0" || strings.HasPrefix(m[2], "+0-"), true
}
