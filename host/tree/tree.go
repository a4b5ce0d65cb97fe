// Package tree finds Cloison's source tree, which holds everything that an
// image is made from. It needs the file system only.
package tree

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"

	"cloison/format/hint"
)

// Find returns the absolute root of the source tree that dir is in.
func Find(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for at := dir; ; at = filepath.Dir(at) {
		module, err := os.ReadFile(filepath.Join(at, "go.mod"))
		if err == nil && bytes.HasPrefix(module, []byte("module cloison\n")) {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", hint.Wrap(errors.New("cannot find Cloison's source tree"),
				"run cloison inside a clone of the repository")
		}
	}
}

// Cache returns the folder in which a user's downloads and intermediate
// results are kept, by content. Removing it costs time, never correctness.
func Cache() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", hint.Wrap(err, "set HOME or XDG_CACHE_HOME")
	}
	return filepath.Join(dir, "cloison"), nil
}
