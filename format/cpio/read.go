package cpio

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

const (
	magic      = "070701"
	headerSize = 110
	trailer    = "TRAILER!!!"
)

// Read returns the files of an archive and their time (seconds since 1970).
// It is as strict as the archive is small: it refuses whatever Archive would
// not write, down to the padding, so that nothing can hide in what it accepts.
func Read(archive []byte) (files []File, time int64, err error) {
	for rest := archive; ; {
		var h header
		var f File
		if h, f, rest, err = readEntry(rest, len(archive)); err != nil {
			return nil, 0, fmt.Errorf("cannot read the archive after %d files: %w", len(files), err)
		}
		if f.Name == trailer {
			if len(rest) > 0 {
				return nil, 0, fmt.Errorf("cannot read the archive: %d bytes after its end", len(rest))
			}
			break
		}
		if len(files) == 0 {
			time = int64(h.time)
		}
		files = append(files, f)
	}
	same, err := Archive(files, time)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read the archive: %w", err)
	}
	if !bytes.Equal(same, archive) {
		return nil, 0, errors.New("cannot read the archive: it is not in canonical form (owner, time, links, order or padding)")
	}
	return files, time, nil
}

// header has the fields of an entry that File has no room for.
type header struct{ time uint32 }

// readEntry reads one entry; total is the length of the archive, of which b
// is the rest.
func readEntry(b []byte, total int) (header, File, []byte, error) {
	fail := func(format string, args ...any) (header, File, []byte, error) {
		return header{}, File{}, nil, fmt.Errorf(format, args...)
	}
	if len(b) < headerSize {
		return fail("a header is cut off")
	}
	if string(b[:len(magic)]) != magic {
		return fail("no entry begins with %q", b[:len(magic)])
	}
	var raw [52]byte // 13 fields of 8 digits
	if _, err := hex.Decode(raw[:], b[len(magic):headerSize]); err != nil {
		return fail("a header is malformed: %w", err)
	}
	field := func(i int) uint32 { return binary.BigEndian.Uint32(raw[4*i:]) }
	mode, time, size, nameSize := field(1), field(5), uint64(field(6)), uint64(field(11))
	at := uint64(total - len(b)) // names and data are aligned within the archive
	nameEnd := headerSize + nameSize
	dataStart := nameEnd + -(at+nameEnd)&3
	dataEnd := dataStart + size
	end := dataEnd + -(at+dataEnd)&3
	if nameSize < 2 || end > uint64(len(b)) {
		return fail("an entry is cut off")
	}
	name, ended := strings.CutSuffix(string(b[headerSize:nameEnd]), "\x00")
	if !ended || strings.Contains(name, "\x00") {
		return fail("a name is malformed: %q", name)
	}
	f := File{Name: name, Mode: mode}
	if size > 0 {
		f.Data = bytes.Clone(b[dataStart:dataEnd])
	}
	return header{time}, f, b[end:], nil
}
