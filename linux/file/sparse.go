package file

import (
	"errors"
	"io"
	"iter"
	"os"

	"golang.org/x/sys/unix"
)

// Range is a part of a file, in bytes.
type Range struct{ Start, End int64 }

// Data yields the parts of a file that are not holes, in order. A file system
// that knows no holes has one part.
//
// Source: lseek(2), SEEK_DATA.
func Data(f *os.File) iter.Seq2[Range, error] {
	return func(yield func(Range, error) bool) {
		for at := int64(0); ; {
			start, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
			if errors.Is(err, unix.ENXIO) { // no data after this
				return
			}
			end := int64(0)
			if err == nil {
				end, err = unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
			}
			if err != nil {
				yield(Range{}, &os.PathError{Op: "seek", Path: f.Name(), Err: err})
				return
			}
			if !yield(Range{start, end}, nil) {
				return
			}
			at = end
		}
	}
}

// zeros is what a hole reads as.
var zeros [1 << 20]byte

// Read writes all of a file to w, without asking the disk for its holes.
func Read(w io.Writer, f *os.File) (size int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	for part, err := range Data(f) {
		if err != nil {
			return size, err
		}
		if err := hole(w, part.Start-size); err != nil {
			return size, err
		}
		if _, err := io.Copy(w, io.NewSectionReader(f, part.Start, part.End-part.Start)); err != nil {
			return size, err
		}
		size = part.End
	}
	return info.Size(), hole(w, info.Size()-size)
}

func hole(w io.Writer, size int64) error {
	for size > 0 {
		n, err := w.Write(zeros[:min(size, int64(len(zeros)))])
		if err != nil {
			return err
		}
		size -= int64(n)
	}
	return nil
}
