// Package logcheck verifies what a machine has logged: files that it exported,
// or the folder of a whole log. It needs the log's public key, and no machine;
// without a key it says which one the files name.
package logcheck

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cloison/format/hint"
	"cloison/format/logtree"
)

// Verify reads files in their order. A folder stands for all files of a machine's
// log; then nothing may be missing. The report says what is wrong: an error is one
// of reading.
func Verify(key string, paths []string) (logtree.Report, error) {
	v, err := logtree.NewVerifier(key)
	if err != nil {
		return logtree.Report{}, hint.Wrap(err, "the key is one word, cloison-log-…+…+…: the log's first record and each of its files have it")
	}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return logtree.Report{}, err
		}
		files := []string{path}
		if info.IsDir() {
			if len(paths) > 1 {
				return logtree.Report{}, errors.New("a folder is a whole log: name it alone")
			}
			if files, err = list(path); err != nil {
				return logtree.Report{}, err
			}
			v.Whole = true
		}
		for _, f := range files {
			if err := one(v, f); err != nil {
				return logtree.Report{}, err
			}
		}
	}
	return v.Report(), nil
}

func one(v *logtree.Verifier, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(v.File(filepath.Base(path), f), f.Close())
}

// list finds the files of a log, in order.
func list(folder string) ([]string, error) {
	var files []string
	for _, form := range []string{"*.jsonl", "*.jsonl.zst"} {
		found, err := filepath.Glob(filepath.Join(folder, form))
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s holds no log", folder)
	}
	slices.Sort(files)
	// Where the power failed between two steps a file is there in both forms.
	return slices.CompactFunc(files, func(a, b string) bool { return strings.TrimSuffix(b, ".zst") == a }), nil
}
