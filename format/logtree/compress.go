package logtree

import (
	"bufio"
	"bytes"
	"fmt"
	"io"

	"cloison/format/logrecord"

	"github.com/klauspost/compress/zstd"
)

// window is the zstd window of a file of the log, in bytes: what reading one
// costs of memory.
const window = 1 << 20

// magic begins a zstd frame (RFC 8878, section 3.1.1).
var magic = []byte{0x28, 0xb5, 0x2f, 0xfd}

// Compress writes a file of the log compressed.
func Compress(w io.Writer, r io.Reader) error {
	z, err := zstd.NewWriter(w, zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return fmt.Errorf("cannot compress a file of the log: %w", err)
	}
	_, err = io.Copy(z, r)
	if e := z.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("cannot compress a file of the log: %w", err)
	}
	return nil
}

// Lines reads the lines of a file of the log, which may be compressed.
type Lines struct {
	r *bufio.Reader
	z *zstd.Decoder
}

// NewLines begins to read. Close ends it.
func NewLines(r io.Reader) (*Lines, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	// An error comes again at the first line.
	if start, _ := b.Peek(len(magic)); !bytes.Equal(start, magic) {
		return &Lines{r: bufio.NewReaderSize(b, logrecord.MaxLine+1)}, nil
	}
	z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(window))
	if err != nil {
		return nil, fmt.Errorf("cannot read a compressed file of the log: %w", err)
	}
	return &Lines{bufio.NewReaderSize(z, logrecord.MaxLine+1), z}, nil
}

// Next returns the next line without its line feed; it is there until the next
// call. A last line without one comes with io.ErrUnexpectedEOF.
func (l *Lines) Next() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	switch {
	case err == nil:
		return line[:len(line)-1], nil
	case err == io.EOF && len(line) > 0:
		return line, io.ErrUnexpectedEOF
	case err == io.EOF:
		return nil, io.EOF
	}
	return line, fmt.Errorf("cannot read a line of the log: %w", err)
}

// Close frees what reading took. The file stays open.
func (l *Lines) Close() {
	if l.z != nil {
		l.z.Close()
	}
}
