package log

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"cloison/format/logrecord"
	"cloison/format/logtree"
	"cloison/linux/file"
)

const (
	keyFile = "key"
	// damaged is behind the name of a file that could not be continued.
	damaged = ".damaged"
	// maxDamaged is how many of them are kept.
	maxDamaged = 4
	// maxReaders is how many files are read at the same time: each takes the window
	// of its compression, twice.
	maxReaders = 2
	// The last record of a log that was ended in order.
	closed = "closed"
)

var segmentForm = regexp.MustCompile(`^([0-9]{12})\.jsonl(\.zst)?$`)

// openStore opens the log of a folder, or begins one. notes is what has to be
// said of how the log was found; it is in no record yet.
func openStore(folder string, limits Limits, boot string, now func() time.Time) (s *store, notes []string, err error) {
	s = &store{
		folder: folder, limits: limits, boot: boot, now: now, readers: make(chan struct{}, maxReaders), grown: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot open the log: %w", err)
		}
	}()
	fresh, err := s.loadKey()
	if err != nil {
		return nil, nil, err
	}
	if err := s.list(); err != nil {
		return nil, nil, err
	}
	if fresh && len(s.segments) > 0 {
		notes = append(notes, "the log's key is gone, and there were records: a new log begins")
	}
	for len(s.segments) > 0 {
		note, err := s.resume()
		if err != nil {
			return nil, nil, err
		}
		if note != "" {
			notes = append(notes, note)
		}
		if s.newest != nil {
			s.pack()
			return s, notes, nil
		}
	}
	if !fresh {
		// One key signs one tree: this is another log.
		notes = append(notes, "all records of the log are gone: a new log begins")
		if err := s.newKey(); err != nil {
			return nil, nil, err
		}
	}
	return s, notes, s.begin(s.free())
}

// loadKey reads the log's key, or makes it.
func (s *store) loadKey() (fresh bool, err error) {
	b, err := os.ReadFile(filepath.Join(s.folder, keyFile))
	if errors.Is(err, os.ErrNotExist) {
		return true, s.newKey()
	}
	if err != nil {
		return false, err
	}
	if s.key, err = logtree.ParseKey(string(b)); err != nil {
		// What it has signed can still be verified.
		return true, errors.Join(os.Rename(filepath.Join(s.folder, keyFile), filepath.Join(s.folder, keyFile+damaged)), s.newKey())
	}
	return false, nil
}

func (s *store) newKey() (err error) {
	if s.key, err = logtree.NewKey(rand.Reader); err != nil {
		return err
	}
	return file.WriteAtomic(filepath.Join(s.folder, keyFile), []byte(s.key.Text()), 0o400)
}

// list finds the files, in order. What a power cut left of making one goes.
func (s *store) list() error {
	entries, err := os.ReadDir(s.folder)
	if err != nil {
		return err
	}
	var old []string
	for _, e := range entries {
		at := filepath.Join(s.folder, e.Name())
		if filepath.Ext(e.Name()) == ".new" {
			if err := os.Remove(at); err != nil {
				return err
			}
		}
		if filepath.Ext(e.Name()) == damaged && e.Name() != keyFile+damaged {
			old = append(old, at)
		}
		m := segmentForm.FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		number, err := strconv.ParseUint(m[1], 10, 64)
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		g := segment{number: number, size: info.Size(), packed: m[2] != ""}
		if last := len(s.segments) - 1; last >= 0 && s.segments[last].number == number {
			// The compressed one is complete under its name: names come in order.
			if err := os.Remove(s.raw(number)); err != nil {
				return err
			}
			s.segments[last] = g
			continue
		}
		s.segments = append(s.segments, g)
	}
	for len(old) > maxDamaged {
		if err := os.Remove(old[0]); err != nil {
			return err
		}
		old = old[1:]
	}
	// Heads are small; the newest file is read whole later.
	good := s.segments[:0]
	for i, g := range s.segments {
		h, tree, err := s.head(g)
		if err != nil && i < len(s.segments)-1 {
			if err := s.aside(g); err != nil {
				return err
			}
			continue
		}
		g.begin, g.since = tree.End, h.Start()
		good = append(good, g)
	}
	s.segments = good
	return nil
}

// path is where a file is.
func (s *store) path(g segment) string {
	if g.packed {
		return s.packed(g.number)
	}
	return s.raw(g.number)
}

// head reads the first line of a file, which must be of this log.
func (s *store) head(g segment) (h logtree.Header, tree logtree.Range, err error) {
	f, err := os.Open(s.path(g))
	if err != nil {
		return h, tree, err
	}
	defer f.Close()
	lines, err := logtree.NewLines(f)
	if err != nil {
		return h, tree, err
	}
	defer lines.Close()
	line, err := lines.Next()
	if err != nil {
		return h, tree, err
	}
	if h, tree, err = logtree.ParseHeader(line); err == nil && h.Key != s.key.Public() {
		err = errors.New("it is of another log")
	}
	return h, tree, err
}

// aside keeps a file that cannot be continued, out of the way.
func (s *store) aside(g segment) error { return os.Rename(s.path(g), s.path(g)+damaged) }

// free is a number that no file has or had.
func (s *store) free() uint64 {
	highest := uint64(0)
	entries, _ := os.ReadDir(s.folder) // it was read a moment ago
	for _, e := range entries {
		if n, err := strconv.ParseUint(e.Name()[:min(12, len(e.Name()))], 10, 64); err == nil {
			highest = max(highest, n)
		}
	}
	return highest + 1
}

// resume goes on with the newest file. Where that cannot be, the file is put
// aside and there is no newest: the one before is tried next.
func (s *store) resume() (note string, err error) {
	g := s.last()
	_, tree, err := s.head(*g)
	if err != nil {
		empty := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		name := filepath.Base(s.path(*g))
		if empty && !g.packed {
			// The power failed while it was begun: nothing was in it.
			err = os.Remove(s.path(*g))
		} else {
			err, note = s.aside(*g), fmt.Sprintf("the file %s of the log is damaged (%v): it is kept as %s%s", name, err, name, damaged)
		}
		s.segments = s.segments[:len(s.segments)-1]
		return note, err
	}
	s.tree = tree
	f, err := os.Open(s.path(*g))
	if err != nil {
		return "", err
	}
	defer f.Close()
	found, err := s.read(f, g.packed)
	if err != nil {
		return "", err
	}
	note = found.note()
	s.tree = found.tree
	if found.tampered == "" {
		s.signed, s.note = found.signed, found.text
	}
	if g.packed {
		// What came behind it was put aside: go on in a new one.
		return note, s.begin(s.free())
	}
	if s.newest, err = os.OpenFile(s.path(*g), os.O_RDWR, 0); err != nil {
		return "", err
	}
	g.size = found.end
	if found.cut > 0 {
		err = errors.Join(s.newest.Truncate(found.end), s.newest.Sync())
	}
	return note, err
}

// found is what the newest file had in it.
type found struct {
	tree     logtree.Range
	end      int64 // bytes that are good
	cut      int64 // bytes behind them
	closing  bool  // the last record ends the log
	orderly  bool  // and is signed
	signed   logtree.Checkpoint
	text     string // of the last checkpoint
	tampered string // what is not as it was written, under a checkpoint
}

// note is what has to be said of it.
func (f *found) note() string {
	switch {
	case f.tampered != "":
		return "the log was changed: " + f.tampered
	case f.cut > 0:
		return fmt.Sprintf("the log was not ended in order: %d bytes of records that no checkpoint covered were incomplete and are cut off; %d of %d records are covered", f.cut, f.signed.Size, f.tree.End)
	case !f.orderly:
		return fmt.Sprintf("the log was not ended in order: the last checkpoint covers %d of %d records", f.signed.Size, f.tree.End)
	}
	return ""
}

// read follows the newest file to its end. Lines that are wrong in front of a
// checkpoint were changed: a checkpoint is written when all before it is. They
// stay, and so does the proof. What is wrong behind the last one is what a power
// cut leaves.
//
// Of lines that a checkpoint proves only the hashes are made; the others are
// looked at one by one.
func (s *store) read(f *os.File, packed bool) (found, error) {
	public, err := logtree.ParsePublic(s.key.Public())
	if err != nil {
		return found{}, err
	}
	lines, err := logtree.NewLines(f)
	if err != nil {
		return found{}, err
	}
	defer lines.Close()
	line, err := lines.Next()
	r := found{tree: s.tree.Clone(), end: int64(len(line)) + 1} // up to the last checkpoint
	tree := s.tree                                              // up to here
	var behind [][]byte
	doubtful := false // a checkpoint among them is not ours
	for err == nil {
		if line, err = lines.Next(); err != nil {
			break
		}
		behind = append(behind, bytes.Clone(line))
		if !logtree.IsCheckpoint(line) {
			tree.Add(logtree.LeafHash(line))
			continue
		}
		c, text, verdict := checkpointOf(line, public, tree)
		if text == "" {
			doubtful = true
			continue
		}
		// We signed it, so what is before it was whole.
		if r.tampered == "" && (doubtful || verdict != "") {
			_, wrong := r.follow(behind[:len(behind)-1], public)
			r.tampered = cmp.Or(wrong, verdict)
		}
		var last []byte // record
		for _, line := range behind {
			r.end += int64(len(line)) + 1
			if !logtree.IsCheckpoint(line) {
				last = line
			}
		}
		if last != nil {
			record, err := logrecord.Parse(string(last))
			r.closing = err == nil && closes(record)
		}
		r.tree, r.signed, r.text, r.orderly = tree.Clone(), c, text, r.closing
		behind, doubtful = nil, false
	}
	r, _ = r.follow(behind, public)
	if packed {
		return r, nil
	}
	info, err := f.Stat()
	if err != nil {
		return found{}, err
	}
	r.cut = info.Size() - r.end
	return r, nil
}

// follow looks at lines behind what was found, and adds those before the first
// that is wrong.
func (f found) follow(lines [][]byte, public logtree.Public) (r found, wrong string) {
	r = f
	r.tree = f.tree.Clone()
	for _, line := range lines {
		if logtree.IsCheckpoint(line) {
			if _, _, wrong = checkpointOf(line, public, r.tree); wrong != "" {
				return r, wrong
			}
		} else {
			record, err := logrecord.Parse(string(line))
			if err != nil {
				return r, err.Error()
			}
			if record.Sequence != r.tree.End {
				return r, fmt.Sprintf("record %d stands where record %d should", record.Sequence, r.tree.End)
			}
			r.tree.Add(logtree.LeafHash(line))
			r.closing, r.orderly = closes(record), false
		}
		r.end += int64(len(line)) + 1
	}
	return r, ""
}

// closes says whether a record is the one with which a log ends in order.
func closes(r logrecord.Record) bool { return r.Source == logSource && r.Message == closed }

// checkpointOf reads the line of a checkpoint. text is empty where we did not
// sign it; verdict says what is wrong.
func checkpointOf(line []byte, public logtree.Public, tree logtree.Range) (c logtree.Checkpoint, text, verdict string) {
	note, err := logtree.ParseCheckpointLine(line)
	if err == nil {
		c, err = logtree.OpenCheckpoint(note, public)
	}
	if err != nil {
		return c, "", err.Error()
	}
	root, err := tree.Root()
	if err != nil || c.Size != tree.End || c.Root != root {
		return c, note, fmt.Sprintf("the %d records before the checkpoint of %s are not those that were signed", c.Size, c.Time.Format(time.RFC3339))
	}
	return c, note, ""
}
