package logtree

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"cloison/format/logrecord"
)

// Header is the first line of a file of the log: where in the tree it begins. The
// nodes before it are the proof that is kept when the files before it are not.
type Header struct {
	Key    string `json:"key"`  // the log's public key
	File   uint64 `json:"file"` // its number; 0 in what was exported
	Begin  uint64 `json:"begin"`
	Before []Hash `json:"before"` // the tree of all records before
	Since  string `json:"since"`  // when the file was begun, as in records
}

// header is its line.
type header struct {
	Log Header `json:"log"`
}

// checkpoint is the line of a checkpoint.
type checkpoint struct {
	Checkpoint string `json:"checkpoint"`
}

// skipped is the line that stands for records which were not exported.
type skipped struct {
	Skipped Skipped `json:"skipped"`
}

// Skipped stands for the records up to End by their nodes.
type Skipped struct {
	End   uint64 `json:"end"`
	Nodes []Hash `json:"nodes"`
}

const (
	headerStart     = `{"log":`
	checkpointStart = `{"checkpoint":`
	skippedStart    = `{"skipped":`
)

// printLine prints a line that is no record, without the line feed.
func printLine(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("internal error: %v", err)) // only strings, numbers and hashes
	}
	return b
}

// HeaderLine prints the first line of a file.
func HeaderLine(key string, file uint64, tree Range, since time.Time) []byte {
	before := tree.Nodes
	if before == nil {
		before = []Hash{}
	}
	return printLine(header{Header{key, file, tree.End, before, since.UTC().Format(logrecord.Stamp)}})
}

// CheckpointLine prints the line of a signed checkpoint.
func CheckpointLine(note string) []byte { return printLine(checkpoint{note}) }

// SkippedLine prints the line that stands for records.
func SkippedLine(r Range) []byte { return printLine(skipped{Skipped{r.End, r.Nodes}}) }

// IsCheckpoint reports whether a line is one of a checkpoint and not of a record.
func IsCheckpoint(line []byte) bool { return bytes.HasPrefix(line, []byte(checkpointStart)) }

// ParseHeader reads the first line of a file. tree is that of all records before.
func ParseHeader(line []byte) (h Header, tree Range, err error) {
	var l header
	if err := strict(line, &l); err != nil {
		return h, tree, fmt.Errorf("cannot parse the head of a file of the log: %w", err)
	}
	h = l.Log
	if _, err := time.Parse(logrecord.Stamp, h.Since); err != nil {
		return h, tree, errors.New("cannot parse the head of a file of the log: its time is none")
	}
	if tree, err = NewRange(0, h.Begin, h.Before); err != nil {
		return h, tree, fmt.Errorf("cannot parse the head of a file of the log: %w", err)
	}
	if h.Before == nil {
		return h, tree, errors.New("cannot parse the head of a file of the log: it does not say what was before")
	}
	return h, tree, nil
}

// Start is when the file was begun.
func (h Header) Start() time.Time {
	t, _ := time.Parse(logrecord.Stamp, h.Since) // it was checked when it was parsed
	return t
}

// ParseCheckpointLine returns the signed text of a checkpoint's line.
func ParseCheckpointLine(line []byte) (string, error) {
	var c checkpoint
	if err := strict(line, &c); err != nil {
		return "", fmt.Errorf("cannot parse the line of a checkpoint: %w", err)
	}
	return c.Checkpoint, nil
}

// ParseSkipped reads a line that stands for the records from begin on.
func ParseSkipped(line []byte, begin uint64) (Range, error) {
	var s skipped
	if err := strict(line, &s); err != nil {
		return Range{}, fmt.Errorf("cannot parse the line of skipped records: %w", err)
	}
	r, err := NewRange(begin, s.Skipped.End, s.Skipped.Nodes)
	if err != nil || r.Begin == r.End {
		return Range{}, errors.Join(errors.New("cannot parse the line of skipped records"), err)
	}
	return r, nil
}

// strict reads what printLine has printed, and nothing else.
func strict(line []byte, into any) error {
	if len(line) > logrecord.MaxLine {
		return fmt.Errorf("it is longer than %d bytes", logrecord.MaxLine)
	}
	if err := json.Unmarshal(line, into); err != nil {
		return err
	}
	if !bytes.Equal(printLine(into), line) {
		return errors.New("it would not be printed like that")
	}
	return nil
}

// removedBefore is the message of the record that the log writes before it
// removes its oldest file.
const removedBefore = "the records before %d are removed: %s"

// Removed is the message of the record which says that the records before a place
// are removed, and why.
func Removed(before uint64, why string) string { return fmt.Sprintf(removedBefore, before, why) }

// parseRemoved reads such a message.
func parseRemoved(r logrecord.Record) (before uint64, ok bool) {
	if r.Source != "log" || !strings.HasPrefix(r.Message, "the records before ") {
		return 0, false
	}
	_, err := fmt.Sscanf(r.Message, "the records before %d are removed:", &before)
	return before, err == nil
}
