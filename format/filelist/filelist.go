// Package filelist is the list of the programs and libraries in the initramfs,
// its file /tools: what is not on it, /init takes for planted.
//
// The format is Cloison's own: one path a line, relative to the root, sorted by
// bytes, each once, each line ended by a newline. It needs nothing but the
// standard library.
package filelist

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// maxSize bounds a list, in bytes.
const maxSize = 1 << 16

// Print returns the list of the paths, which it sorts.
func Print(paths []string) (string, error) {
	sorted := slices.Sorted(slices.Values(paths))
	text := strings.Join(sorted, "\n")
	if len(sorted) > 0 {
		text += "\n"
	}
	if _, err := Parse(text); err != nil {
		return "", fmt.Errorf("cannot list files: %w", err)
	}
	return text, nil
}

// Parse reads a list. It refuses what Print would not have printed.
func Parse(text string) ([]string, error) {
	if len(text) > maxSize {
		return nil, errors.New("cannot parse the list of files: too long")
	}
	var paths []string
	for line := range strings.Lines(text) {
		path, ended := strings.CutSuffix(line, "\n")
		switch {
		case !ended:
			return nil, fmt.Errorf("cannot parse the list of files: %q does not end", line)
		case !fs.ValidPath(path) || path == "." || !printable(path):
			return nil, fmt.Errorf("cannot parse the list of files: %q is no path", path)
		case len(paths) > 0 && paths[len(paths)-1] >= path:
			return nil, fmt.Errorf("cannot parse the list of files: %q is not in its place", path)
		}
		paths = append(paths, path)
	}
	return paths, nil
}

func printable(path string) bool {
	return !strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r > '~' })
}
