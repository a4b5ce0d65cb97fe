package log

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"cloison/format/logrecord"
	"cloison/format/logtree"
	"cloison/linux/file"
)

// Limits bound what the log takes of the state volume.
type Limits struct {
	File  int64         // of one file before it is compressed, in bytes
	Total int64         // of all files, in bytes
	Age   time.Duration // of a record
}

// logSource is the log, where it speaks for itself.
const logSource = "log"

// segment is one file of the log.
type segment struct {
	number uint64
	begin  uint64 // its first record
	since  time.Time
	size   int64 // on the disk, in bytes; of the newest what was committed
	packed bool  // compressed
}

// store is the files of the log. One goroutine writes; what others read is below
// the lock.
//
// When what is durable: a record a second after it came at the latest; with a
// checkpoint, all before it. A checkpoint is in the file behind its records, and
// both are written out before anybody is told of it. So a power cut takes at most
// what no checkpoint covers.
type store struct {
	folder string
	limits Limits
	key    logtree.Key
	boot   string
	now    func() time.Time
	newest *os.File
	dirty  bool
	pruned time.Time // when a file was removed for its age
	owed   string    // what has to be said of a file that is removed
	packs  sync.WaitGroup
	// readers bounds how many files are read, and decompressed, at the same time.
	readers chan struct{}

	mu       sync.Mutex
	tree     logtree.Range
	segments []segment
	signed   logtree.Checkpoint
	note     string
	grown    chan struct{} // closed when there are more records
	packing  bool
}

func (s *store) raw(number uint64) string {
	return filepath.Join(s.folder, fmt.Sprintf("%012d.jsonl", number))
}

func (s *store) packed(number uint64) string { return s.raw(number) + ".zst" }

func (s *store) last() *segment { return &s.segments[len(s.segments)-1] }

// begin makes a new file, the newest from here on.
func (s *store) begin(number uint64) error {
	head := append(logtree.HeaderLine(s.key.Public(), number, s.tree, s.now()), '\n')
	f, err := os.OpenFile(s.raw(number), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("cannot begin a file of the log: %w", err)
	}
	_, err = f.Write(head)
	if err = errors.Join(err, f.Sync(), file.SyncDir(s.folder)); err != nil {
		return fmt.Errorf("cannot begin a file of the log: %w", errors.Join(err, f.Close(), os.Remove(f.Name())))
	}
	if s.newest != nil {
		err = s.newest.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newest = f
	s.segments = append(s.segments, segment{number: number, begin: s.tree.End, since: s.now(), size: int64(len(head))})
	return err
}

// write appends records: all of them or none. A full disk costs the oldest
// records, and only where there are no others the new ones.
func (s *store) write(records []logrecord.Record) error {
	tree := s.tree.Clone()
	var b []byte
	for i := range records {
		records[i].Sequence, records[i].Boot = tree.End, s.boot
		start := len(b)
		var err error
		if b, err = records[i].Append(b); err != nil {
			return err
		}
		tree.Add(logtree.LeafHash(b[start:]))
		b = append(b, '\n')
	}
	if size := s.last().size; size+int64(len(b)) > s.limits.File && s.last().begin != s.tree.End {
		if err := s.rotate(); err != nil {
			return err
		}
	}
	if err := s.put(b); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tree = tree
	s.dirty = true
	close(s.grown)
	s.grown = make(chan struct{})
	return nil
}

// put writes behind the end of the newest file.
func (s *store) put(b []byte) error {
	at := s.last().size
	n, err := s.newest.WriteAt(b, at)
	if err != nil && len(s.segments) > 1 {
		if err = s.drop("the disk is full"); err == nil {
			n, err = s.newest.WriteAt(b, at)
		}
	}
	if err != nil || n < len(b) {
		// Half a line is none.
		return fmt.Errorf("cannot write to the log: %w", errors.Join(err, s.newest.Truncate(at)))
	}
	s.mu.Lock()
	s.last().size += int64(n)
	s.mu.Unlock()
	return nil
}

// sync makes durable what was written.
func (s *store) sync() error {
	if !s.dirty {
		return nil
	}
	if err := s.newest.Sync(); err != nil {
		return fmt.Errorf("cannot write the log out: %w", err)
	}
	s.dirty = false
	return nil
}

// checkpoint signs the tree, behind its records in the file, and makes both
// durable. Where nothing is new the last one stands.
func (s *store) checkpoint() error {
	if s.signed.Size == s.tree.End && s.note != "" {
		return s.sync()
	}
	root, err := s.tree.Root()
	if err != nil {
		return err
	}
	c := logtree.Checkpoint{Log: s.key.Name(), Size: s.tree.End, Root: root, Time: s.now().Truncate(time.Microsecond), Boot: s.boot}
	note, err := c.Sign(s.key)
	if err != nil {
		return err
	}
	if err := s.put(append(logtree.CheckpointLine(note), '\n')); err != nil {
		return err
	}
	s.dirty = true
	if err := s.sync(); err != nil {
		return err
	}
	s.mu.Lock()
	s.signed, s.note = c, note
	s.mu.Unlock()
	return nil
}

// rotate begins the next file, and has the last one compressed.
func (s *store) rotate() error {
	if err := s.checkpoint(); err != nil {
		return err
	}
	if err := s.begin(s.last().number + 1); err != nil {
		return err
	}
	s.pack()
	return nil
}

// pack compresses the files that are not, oldest first, beside everything else.
func (s *store) pack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.packing {
		return
	}
	s.packing = true
	s.packs.Go(func() {
		for {
			s.mu.Lock()
			i := slices.IndexFunc(s.segments, func(g segment) bool { return !g.packed })
			if i < 0 || i == len(s.segments)-1 {
				s.packing = false
				s.mu.Unlock()
				return
			}
			number := s.segments[i].number
			s.mu.Unlock()
			size, err := s.packOne(number)
			s.mu.Lock()
			i = slices.IndexFunc(s.segments, func(g segment) bool { return g.number == number })
			if err == nil && i >= 0 {
				s.segments[i].packed, s.segments[i].size = true, size
			}
			if err == nil && i < 0 { // it was removed meanwhile
				err = os.Remove(s.packed(number))
			}
			if err != nil {
				// A full disk: it stays as it is, and is tried again with the next one.
				s.packing = false
				s.mu.Unlock()
				return
			}
			s.mu.Unlock()
		}
	})
}

// packOne replaces a file by its compressed form, which is complete under its
// name before the other one goes.
func (s *store) packOne(number uint64) (size int64, err error) {
	in, err := os.Open(s.raw(number))
	if err != nil {
		return 0, fmt.Errorf("cannot compress a file of the log: %w", err)
	}
	defer in.Close()
	temporary := s.packed(number) + ".new"
	out, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, fmt.Errorf("cannot compress a file of the log: %w", err)
	}
	err = logtree.Compress(out, in)
	if err == nil {
		size, err = out.Seek(0, io.SeekCurrent)
	}
	err = errors.Join(err, out.Sync(), out.Close())
	if err == nil {
		err = errors.Join(os.Rename(temporary, s.packed(number)), file.SyncDir(s.folder))
	}
	if err == nil {
		err = os.Remove(s.raw(number))
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	} else {
		err = errors.Join(err, os.Remove(temporary))
	}
	if err != nil {
		return 0, fmt.Errorf("cannot compress a file of the log: %w", err)
	}
	return size, nil
}

// total is what all files take.
func (s *store) total() (n int64) {
	for _, g := range s.segments {
		n += g.size
	}
	return n
}

// tidy removes the oldest files where there is too much, or they are too old:
// for their age one in an hour, because the clock may be wrong and somebody has
// to have the time to notice.
func (s *store) tidy() error {
	if s.owed != "" {
		if err := s.say(s.owed); err != nil {
			return err
		}
		s.owed = ""
	}
	for {
		s.mu.Lock()
		count, total := len(s.segments), s.total()
		s.mu.Unlock()
		if count < 2 {
			return nil
		}
		now := s.now()
		switch {
		case total > s.limits.Total:
			if err := s.remove(fmt.Sprintf("the log may have %d bytes", s.limits.Total)); err != nil {
				return err
			}
		// The newest record of a file is not newer than the next file.
		case now.Sub(s.segments[1].since) > s.limits.Age && now.Sub(s.pruned) > time.Hour:
			s.pruned = now
			return s.remove(fmt.Sprintf("they are older than %v", s.limits.Age))
		default:
			return nil
		}
	}
}

// remove removes the oldest file. That it does is in the log before, with a
// checkpoint: one that is missing otherwise was removed by somebody else.
func (s *store) remove(why string) error {
	if err := s.say(logtree.Removed(s.segments[1].begin, why)); err != nil {
		return err
	}
	if err := s.drop(why); err != nil {
		return err
	}
	s.owed = ""
	return nil
}

// drop removes the oldest file; that it did is to be said. On a full disk there
// is no room to say it before.
func (s *store) drop(why string) error {
	oldest := s.segments[0]
	s.owed = logtree.Removed(s.segments[1].begin, why)
	s.mu.Lock()
	s.segments = slices.Delete(slices.Clone(s.segments), 0, 1)
	s.mu.Unlock()
	// It may be just now that it is compressed.
	for _, path := range []string{s.raw(oldest.number), s.packed(oldest.number)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("cannot remove a file of the log: %w", err)
		}
	}
	return nil
}

// say writes and signs one record of the log itself.
func (s *store) say(message string) error {
	if err := s.write([]logrecord.Record{s.record(message)}); err != nil {
		return err
	}
	return s.checkpoint()
}

// record is one of the log itself.
func (s *store) record(message string) logrecord.Record {
	return logrecord.Record{Time: s.now().Truncate(time.Microsecond), Source: logSource, Message: message}
}

// close writes everything out.
func (s *store) close() error {
	err := s.checkpoint()
	s.packs.Wait()
	return errors.Join(err, s.newest.Close())
}
