package log

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"cloison/linux/file"
)

// store is the files of the log: segments by number, of which the newest grows.
type store struct {
	folder  string
	size    int64 // of a segment, in bytes
	count   int   // of segments
	numbers []uint64
	newest  *os.File
	length  int64
	lost    uint64 // lines that could not be written since the last that was
}

var segmentForm = regexp.MustCompile(`^([0-9]{12})\.log$`)

func (s *store) path(number uint64) string {
	return filepath.Join(s.folder, fmt.Sprintf("%012d.log", number))
}

// openStore opens the log of a folder. What a power cut left of a last line is
// cut off.
func openStore(folder string, size int64, count int) (*store, error) {
	s := &store{folder: folder, size: size, count: count}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("cannot open the log: %w", err)
	}
	for _, e := range entries {
		if m := segmentForm.FindStringSubmatch(e.Name()); m != nil {
			n, err := strconv.ParseUint(m[1], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("cannot open the log: %w", err)
			}
			s.numbers = append(s.numbers, n)
		}
	}
	slices.Sort(s.numbers)
	if len(s.numbers) == 0 {
		return s, s.begin(1)
	}
	number := s.numbers[len(s.numbers)-1]
	if s.newest, err = os.OpenFile(s.path(number), os.O_RDWR, 0); err != nil {
		return nil, fmt.Errorf("cannot open the log: %w", err)
	}
	b, err := io.ReadAll(s.newest)
	if err == nil {
		s.length = int64(bytes.LastIndexByte(b, '\n') + 1)
		err = s.newest.Truncate(s.length)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open the log: %w", err), s.newest.Close())
	}
	return s, s.shrink()
}

// begin makes a new segment, the newest from here on.
func (s *store) begin(number uint64) error {
	f, err := os.OpenFile(s.path(number), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("cannot begin a segment of the log: %w", err)
	}
	if s.newest != nil {
		err = errors.Join(s.newest.Sync(), s.newest.Close())
	}
	s.newest, s.length, s.numbers = f, 0, append(s.numbers, number)
	return errors.Join(err, file.SyncDir(s.folder), s.shrink())
}

// shrink removes the oldest segments that are too many.
func (s *store) shrink() error {
	for len(s.numbers) > s.count {
		if err := os.Remove(s.path(s.numbers[0])); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("cannot remove a segment of the log: %w", err)
		}
		s.numbers = s.numbers[1:]
	}
	return nil
}

// add writes one line. A full disk costs the oldest lines, and only where there
// are none the new one.
func (s *store) add(line string) error {
	if s.length+int64(len(line)) > s.size {
		if err := s.begin(s.numbers[len(s.numbers)-1] + 1); err != nil {
			s.lost++
			return err
		}
	}
	n, err := s.newest.WriteAt([]byte(line), s.length)
	if err != nil && len(s.numbers) > 1 {
		oldest := s.path(s.numbers[0])
		s.numbers = s.numbers[1:]
		if err = os.Remove(oldest); err == nil {
			n, err = s.newest.WriteAt([]byte(line), s.length)
		}
	}
	if err != nil || n < len(line) {
		s.lost++
		// Half a line is none.
		return fmt.Errorf("cannot write to the log: %w", errors.Join(err, s.newest.Truncate(s.length)))
	}
	s.length += int64(n)
	return nil
}

func (s *store) sync() error { return s.newest.Sync() }

// tail returns the last lines, at most so many and in so many bytes.
func (s *store) tail(count, most int) ([]string, error) {
	var lines []string
	for i := len(s.numbers) - 1; i >= 0 && len(lines) < count; i-- {
		b, err := os.ReadFile(s.path(s.numbers[i]))
		if err != nil {
			return nil, fmt.Errorf("cannot read the log: %w", err)
		}
		for len(b) > 0 && len(lines) < count {
			start := bytes.LastIndexByte(b[:len(b)-1], '\n') + 1
			line := string(b[start : len(b)-1])
			if most -= len(line); most < 0 {
				slices.Reverse(lines)
				return lines, nil
			}
			lines, b = append(lines, line), b[:start]
		}
	}
	slices.Reverse(lines)
	return lines, nil
}
