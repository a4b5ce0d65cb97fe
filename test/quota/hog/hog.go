// Package hog takes as much of a folder as it gets: first in bytes, then in
// files. Only tests have it.
package hog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Most is what it takes at most, in bytes or in files, where nothing stops it.
const Most = 64 << 20

// chunk is how much it writes at a time, in bytes: a block of the file system.
const chunk = 4096

// Write writes one file until it may not, and says how many bytes it has
// written and what stopped it.
func Write(folder string) (bytes int, stopped error) {
	f, err := os.OpenFile(filepath.Join(folder, "hog"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	b := make([]byte, chunk)
	for stopped == nil && bytes < Most {
		n, err := f.Write(b)
		bytes, stopped = bytes+n, err
	}
	// What is not on the disk was not refused by it either.
	return bytes, errors.Join(stopped, f.Sync(), f.Close())
}

// Make makes empty files until it may not.
func Make(folder string) (files int, stopped error) {
	for ; files < Most; files++ {
		f, err := os.OpenFile(filepath.Join(folder, fmt.Sprintf("hog%d", files)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return files, err
		}
		if err := f.Close(); err != nil {
			return files, err
		}
	}
	return files, nil
}
