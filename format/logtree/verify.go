package logtree

import (
	"errors"
	"fmt"
	"io"
	"time"

	"cloison/format/logrecord"
)

// maxFaults bounds how many faults of a log are kept; the rest are counted.
const maxFaults = 100

// Verifier reads the files of a log, one after the other, and says what is wrong
// with them. It stops at no fault: it goes on from the next place that a file's
// head gives, so that one record that was changed is told from many.
type Verifier struct {
	// Whole says that the files are to be all that a machine has: the first one
	// begins where the log says that it removed what was before.
	Whole bool

	key     *Public
	text    string // of key
	tree    Range
	open    bool // tree is known
	parted  bool // records were not like the tree: nothing is sure until the next head
	last    *Checkpoint
	faults  []Fault
	more    int // faults that were not kept
	first   uint64
	records uint64
	proven  uint64 // the records before it are covered by a checkpoint that holds
	signed  int
	removed uint64 // as the log says
}

// Fault is something that is not as the machine wrote it.
type Fault struct {
	File string `json:"file"`
	At   uint64 `json:"at"` // the record that should have come
	What string `json:"what"`
}

// Report is what a Verifier has found.
type Report struct {
	Log         string      `json:"log"`
	Key         string      `json:"key"`
	First       uint64      `json:"first"`   // the first record there is
	End         uint64      `json:"end"`     // behind the last
	Records     uint64      `json:"records"` // seen
	Proven      uint64      `json:"proven"`  // the records before it are under a checkpoint
	Checkpoints int         `json:"checkpoints"`
	Last        *Checkpoint `json:"last"`
	Faults      []Fault     `json:"faults"`
	More        int         `json:"more"` // faults that are not listed
}

// NewVerifier returns one for the log of a public key; without a key it takes
// that of the first file.
func NewVerifier(key string) (*Verifier, error) {
	v := &Verifier{}
	if key == "" {
		return v, nil
	}
	p, err := ParsePublic(key)
	if err != nil {
		return nil, err
	}
	v.key, v.text = &p, key
	return v, nil
}

func (v *Verifier) fault(file, format string, args ...any) {
	if len(v.faults) == maxFaults {
		v.more++
		return
	}
	v.faults = append(v.faults, Fault{file, v.tree.End, fmt.Sprintf(format, args...)})
}

// File reads the next file. What is wrong with it is a fault; an error is one of
// reading.
func (v *Verifier) File(name string, r io.Reader) error {
	lines, err := NewLines(r)
	if err != nil {
		v.fault(name, "%v", err)
		return nil
	}
	defer lines.Close()
	line, err := lines.Next()
	if err != nil {
		v.fault(name, "it has no first line: %v", err)
		v.open = false
		return nil
	}
	if !v.head(name, line) {
		v.open = false
		return nil
	}
	for {
		line, err := lines.Next()
		switch {
		case err == io.EOF:
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			v.fault(name, "its last line is cut off")
			return nil
		case err != nil:
			v.fault(name, "%v", err)
			return nil
		}
		v.line(name, line)
	}
}

// head begins a file. What it says of the records before is believed only with a
// checkpoint that comes after.
func (v *Verifier) head(name string, line []byte) bool {
	h, tree, err := ParseHeader(line)
	if err != nil {
		v.fault(name, "%v", err)
		return false
	}
	if v.key == nil {
		p, err := ParsePublic(h.Key)
		if err != nil {
			v.fault(name, "%v", err)
			return false
		}
		v.key, v.text = &p, h.Key
	}
	if h.Key != v.text {
		v.fault(name, "it is of another log: its key is %s", h.Key)
		return false
	}
	switch {
	case !v.open && v.records == 0 && v.signed == 0:
		v.first = tree.End
	case tree.End > v.tree.End:
		v.fault(name, "the records from %d to %d are missing", v.tree.End, tree.End-1)
	case tree.End < v.tree.End:
		v.fault(name, "it begins again at record %d: files are twice, or not in order", tree.End)
	case !v.parted && v.open && !equal(tree, v.tree):
		v.fault(name, "the records before it are not those that were there when it was begun")
	}
	v.tree, v.open, v.parted = tree, true, false
	return true
}

func equal(a, b Range) bool {
	if a.End != b.End || len(a.Nodes) != len(b.Nodes) {
		return false
	}
	for i := range a.Nodes {
		if a.Nodes[i] != b.Nodes[i] {
			return false
		}
	}
	return true
}

// line takes one line behind the head.
func (v *Verifier) line(name string, line []byte) {
	switch {
	case IsCheckpoint(line):
		v.checkpoint(name, line)
	case len(line) > len(skippedStart) && string(line[:len(skippedStart)]) == skippedStart:
		r, err := ParseSkipped(line, v.tree.End)
		if err == nil {
			err = v.tree.Join(r)
		}
		if err != nil {
			v.fault(name, "%v", err)
		}
	case len(line) > len(headerStart) && string(line[:len(headerStart)]) == headerStart:
		// Files one behind the other in one stream.
		if !v.head(name, line) {
			v.open = false
		}
	default:
		v.record(name, line)
	}
}

func (v *Verifier) record(name string, line []byte) {
	r, err := logrecord.Parse(string(line))
	switch {
	case err != nil:
		v.fault(name, "%v", err)
	case r.Sequence != v.tree.End:
		v.fault(name, "record %d stands where record %d should", r.Sequence, v.tree.End)
	}
	if err == nil {
		if before, ok := parseRemoved(r); ok {
			v.removed = max(v.removed, before)
		}
	}
	v.records++
	v.tree.Add(LeafHash(line))
}

func (v *Verifier) checkpoint(name string, line []byte) {
	text, err := ParseCheckpointLine(line)
	var c Checkpoint
	if err == nil {
		c, err = OpenCheckpoint(text, *v.key)
	}
	if err != nil {
		v.fault(name, "%v", err)
		return
	}
	v.signed++
	root, err := v.tree.Root()
	switch {
	case err != nil:
		v.fault(name, "%v", err)
	case c.Size != v.tree.End:
		v.fault(name, "a checkpoint of %d records stands behind record %d", c.Size, int64(v.tree.End)-1)
		v.parted = true
	case c.Root != root:
		if !v.parted {
			v.fault(name, "the records from %d on are not those that were signed at %s", v.proven, c.Time.Format(time.RFC3339))
		}
		v.parted = true
	default:
		v.proven = max(v.proven, c.Size)
		if v.last == nil || c.Size >= v.last.Size {
			v.last = &c
		}
	}
}

// Report says what was found.
func (v *Verifier) Report() Report {
	if v.Whole && v.records > 0 && v.first > v.removed {
		v.fault("", "the first record is %d, and the log says that it removed those before %d", v.first, v.removed)
	}
	r := Report{
		Key: v.text, First: v.first, End: v.tree.End, Records: v.records, Proven: v.proven, Checkpoints: v.signed, Last: v.last,
		Faults: v.faults, More: v.more,
	}
	if v.key != nil {
		r.Log = v.key.Name()
	}
	if r.Faults == nil {
		r.Faults = []Fault{}
	}
	return r
}
