// Package packagelist reads, prints and compares lists of exact Debian
// packages: the lock file of the SDK. One package a line, sorted by name:
//
//	NAME VERSION ARCHITECTURE SHA256
//
// The SHA-256 is that of the .deb file, in lower-case hex. It needs nothing;
// the format is Cloison's own (docs/formats.md).
package packagelist

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Package is one Debian package, exactly.
type Package struct {
	Name         string `json:"name"`
	Version      string `json:"version"`
	Architecture string `json:"architecture"`
	SHA256       string `json:"sha256"` // of the .deb, lower-case hex
}

// Parse reads a list. It refuses what Print would not write.
func Parse(text []byte) ([]Package, error) {
	var list []Package
	scanner := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; scanner.Scan(); n++ {
		if strings.HasPrefix(scanner.Text(), "#") {
			continue
		}
		field := strings.Split(scanner.Text(), " ")
		if len(field) != 4 || slices.Contains(field, "") {
			return nil, fmt.Errorf("line %d is not NAME VERSION ARCHITECTURE SHA256", n)
		}
		digest, err := hex.DecodeString(field[3])
		if err != nil || len(digest) != 32 || strings.ToLower(field[3]) != field[3] {
			return nil, fmt.Errorf("line %d: %q is not a SHA-256 in lower-case hex", n, field[3])
		}
		p := Package{field[0], field[1], field[2], field[3]}
		if len(list) > 0 && compare(list[len(list)-1], p) >= 0 {
			return nil, fmt.Errorf("line %d: %s is out of order", n, p.Name)
		}
		list = append(list, p)
	}
	if err := scanner.Err(); err != nil {
		return nil, err
	}
	return list, nil
}

// Print returns the canonical text of a list.
func Print(list []Package) []byte {
	list = slices.SortedFunc(slices.Values(list), compare)
	var text bytes.Buffer
	for _, p := range list {
		fmt.Fprintf(&text, "%s %s %s %s\n", p.Name, p.Version, p.Architecture, p.SHA256)
	}
	return text.Bytes()
}

// Difference says, one line a package, how got is not what was asked for.
func Difference(want, got []Package) []string {
	var lines []string
	asked, have := index(want), index(got)
	for _, p := range want {
		other, ok := have[key(p)]
		switch {
		case !ok:
			lines = append(lines, fmt.Sprintf("%s %s is locked, the suite has none", p.Name, p.Version))
		case other.Version != p.Version:
			lines = append(lines, fmt.Sprintf("%s %s is locked, the suite has %s", p.Name, p.Version, other.Version))
		case other.SHA256 != p.SHA256:
			lines = append(lines, fmt.Sprintf("%s %s is locked with another SHA-256 than the suite has", p.Name, p.Version))
		}
	}
	for _, p := range got {
		if _, ok := asked[key(p)]; !ok {
			lines = append(lines, fmt.Sprintf("%s %s is not locked", p.Name, p.Version))
		}
	}
	slices.Sort(lines)
	return lines
}

func index(list []Package) map[string]Package {
	byKey := map[string]Package{}
	for _, p := range list {
		byKey[key(p)] = p
	}
	return byKey
}

func key(p Package) string { return p.Name + ":" + p.Architecture }

func compare(a, b Package) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Architecture, b.Architecture))
}
