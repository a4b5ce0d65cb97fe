package log

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"

	"cloison/format/logtree"
)

// view is the log as it was at a moment: who reads it keeps no one from writing.
type view struct {
	store    *store
	segments []segment
	end      uint64
	signed   logtree.Checkpoint
	note     string
	grown    <-chan struct{}
}

func (s *store) view() view {
	s.mu.Lock()
	defer s.mu.Unlock()
	return view{s, append([]segment(nil), s.segments...), s.tree.End, s.signed, s.note, s.grown}
}

// first is the oldest record there is.
func (v view) first() uint64 { return v.segments[0].begin }

// find returns which file has a record.
func (v view) find(sequence uint64) int {
	return max(0, sort.Search(len(v.segments), func(i int) bool { return v.segments[i].begin > sequence })-1)
}

// file reads the lines of one file as long as visit wants more.
func (v view) file(i int, visit func(line []byte) (more bool, err error)) (more bool, err error) {
	v.store.readers <- struct{}{}
	defer func() { <-v.store.readers }()
	g := v.segments[i]
	var in io.Reader
	f, err := os.Open(v.store.raw(g.number))
	if err == nil {
		// What is written behind it meanwhile is not in the view.
		in = f
		if i == len(v.segments)-1 {
			in = io.LimitReader(f, g.size)
		}
	}
	if errors.Is(err, os.ErrNotExist) {
		f, err = os.Open(v.store.packed(g.number))
		in = f
	}
	if err != nil {
		return false, fmt.Errorf("cannot read the log: %w", err)
	}
	defer f.Close()
	lines, err := logtree.NewLines(in)
	if err != nil {
		return false, err
	}
	defer lines.Close()
	for {
		line, err := lines.Next()
		if err == io.EOF {
			return true, nil
		}
		if err == nil {
			more, err = visit(line)
		}
		if err != nil || !more {
			return false, err
		}
	}
}

// records visits the records from a sequence on.
func (v view) records(first uint64, visit func(sequence uint64, line []byte) (more bool)) error {
	first = max(first, v.first())
	for i := v.find(first); i < len(v.segments) && first < v.end; i++ {
		at, head := v.segments[i].begin, true
		more, err := v.file(i, func(line []byte) (bool, error) {
			if head || logtree.IsCheckpoint(line) {
				head = false
				return true, nil
			}
			at++
			return at <= first || visit(at-1, line), nil
		})
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// tree returns the tree of the records before a sequence.
func (v view) tree(sequence uint64) (logtree.Range, error) {
	var tree logtree.Range
	if sequence < v.first() {
		return tree, &removed{v.first()}
	}
	head := true
	_, err := v.file(v.find(sequence), func(line []byte) (bool, error) {
		if head {
			head = false
			var err error
			_, tree, err = logtree.ParseHeader(line)
			return tree.End < sequence, err
		}
		if !logtree.IsCheckpoint(line) {
			tree.Add(logtree.LeafHash(line))
		}
		return tree.End < sequence, nil
	})
	if err == nil && tree.End != sequence {
		err = fmt.Errorf("internal error: a file of the log ends at record %d, not at %d", tree.End, sequence)
	}
	return tree, err
}

// between returns the range of records.
func (v view) between(begin, end uint64) (logtree.Range, error) {
	r := logtree.Range{Begin: begin, End: begin}
	if begin == end {
		return r, nil
	}
	err := v.records(begin, func(_ uint64, line []byte) bool {
		r.Add(logtree.LeafHash(line))
		return r.End < end
	})
	if err == nil && r.End != end {
		err = fmt.Errorf("internal error: the log ends at record %d, not at %d", r.End, end)
	}
	return r, err
}

// removed says that records are not there any more.
type removed struct{ first uint64 }

func (r *removed) Error() string {
	return fmt.Sprintf("the records before %d were removed", r.first)
}

// prove shows that the tree of the last checkpoint has grown from that of size
// records.
func (v view) prove(size uint64) (before, added logtree.Range, err error) {
	if size == 0 {
		// Nothing has to be read: what was added is the tree.
		added, err = v.tree(v.signed.Size)
		return logtree.Range{}, added, err
	}
	if before, err = v.tree(size); err != nil {
		return before, added, err
	}
	added, err = v.between(size, v.signed.Size)
	return before, added, err
}

// export gives lines of a file that shows the records from first to end, and is
// under the first checkpoint behind them. at is where to go on; the head comes
// with at = first. budget is of the lines as they are in a message, in bytes.
func (v view) export(first, end, at uint64, budget int) (lines []string, next uint64, done bool, err error) {
	take := func(line []byte) bool {
		if budget -= len(line) + len(line)/4 + 16; budget < 0 && len(lines) > 0 {
			return false
		}
		lines = append(lines, string(line))
		return true
	}
	if at == first {
		tree, err := v.tree(first)
		if err != nil {
			return nil, 0, false, err
		}
		take(logtree.HeaderLine(v.store.key.Public(), 0, tree, v.store.now()))
	}
	skip := logtree.Range{Begin: end, End: end}
	next = at
	visited := v.segments[v.find(at)].begin
	for i := v.find(at); i < len(v.segments); i++ {
		head := true
		more, err := v.file(i, func(line []byte) (bool, error) {
			if head {
				head = false
				return true, nil
			}
			if logtree.IsCheckpoint(line) {
				if visited < end {
					return true, nil
				}
				if skip.End > skip.Begin {
					lines = append(lines, string(logtree.SkippedLine(skip)))
				}
				lines, done = append(lines, string(line)), true
				return false, nil
			}
			visited++
			switch {
			case visited <= at:
			case visited <= end:
				if !take(line) {
					return false, nil
				}
				next = visited
			default:
				skip.Add(logtree.LeafHash(line))
			}
			return true, nil
		})
		if err != nil || !more {
			return lines, next, done, err
		}
	}
	return lines, next, false, errors.New("internal error: no checkpoint stands behind the records")
}

// verify verifies one file, and that the one after it follows. next is the one
// after it, 0 at the end.
func (v view) verify(file int) (r logtree.Report, next int, err error) {
	verifier, err := logtree.NewVerifier(v.store.key.Public())
	if err != nil {
		return r, 0, err
	}
	pass := func(i int, most int) error {
		reader, writer := io.Pipe()
		go func() {
			_, err := v.file(i, func(line []byte) (bool, error) {
				_, err := writer.Write(append(bytes.Clone(line), '\n'))
				most--
				return most != 0, err
			})
			_ = writer.CloseWithError(err) // returns no error
		}()
		return errors.Join(verifier.File(fmt.Sprintf("%012d", v.segments[i].number), reader), reader.Close())
	}
	if err := pass(file, 0); err != nil {
		return r, 0, err
	}
	if file+1 < len(v.segments) {
		next = file + 1
		if err := pass(next, 1); err != nil {
			return r, 0, err
		}
	}
	return verifier.Report(), next, nil
}
