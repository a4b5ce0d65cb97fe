package machine

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"cloison/format/gpt"
)

// extent is a piece of a disk, in bytes.
type extent struct{ Offset, Size int64 }

// stateOf finds the partition of the state volume on a disk image; nil where
// there is no image, no partition table or no such partition.
func stateOf(image string) (*extent, error) {
	f, err := os.Open(image)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read from
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	table, err := gpt.Read(f, info.Size(), 512)
	if err != nil {
		return nil, nil
	}
	for _, p := range table.Partitions {
		if p.Type == gpt.State {
			return &extent{int64(p.Start), int64(p.Size)}, nil
		}
	}
	return nil, nil
}

// Whence values of lseek(2) that package io does not name.
const (
	seekData = 3
	seekHole = 4
)

// copySparse copies the file from to the path to, holes as holes, in place of
// what is there, which gives the new file the pieces that it keeps. On failure
// nothing of the copy stays.
func copySparse(to, from string, keep ...extent) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() // only read from
	info, err := in.Stat()
	if err != nil {
		return err
	}
	part := to + ".part"
	out, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := out.Close(); err == nil {
			err = closeErr
		}
		if err == nil {
			err = os.Rename(part, to)
		}
		if err != nil {
			os.Remove(part)
		}
	}()
	if err := out.Truncate(info.Size()); err != nil {
		return err
	}
	if err := copyData(out, in, extent{0, info.Size()}); err != nil {
		return err
	}
	for _, e := range keep {
		if err := copyKept(out, to, e); err != nil {
			return err
		}
	}
	return nil
}

// copyKept copies a piece of the file that is replaced.
func copyKept(out *os.File, from string, e extent) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() // only read from
	return copyData(out, in, e)
}

// copyData copies what is not a hole.
func copyData(out, in *os.File, e extent) error {
	for at, end := e.Offset, e.Offset+e.Size; at < end; {
		data, err := in.Seek(at, seekData)
		if errors.Is(err, syscall.ENXIO) || err == nil && data >= end {
			return nil // only a hole is left
		}
		if err != nil {
			return err
		}
		hole, err := in.Seek(data, seekHole)
		if err != nil {
			return err
		}
		if _, err := in.Seek(data, io.SeekStart); err != nil {
			return err
		}
		if _, err := out.Seek(data, io.SeekStart); err != nil {
			return err
		}
		at = min(hole, end)
		if _, err := io.CopyN(out, in, at-data); err != nil {
			return err
		}
	}
	return nil
}
