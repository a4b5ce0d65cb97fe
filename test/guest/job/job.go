// Package job is what the guest's /init is told to do, and what it answers.
// It needs nothing but the standard library.
//
// The format is Cloison's own and used by tests only: the job is JSON in the
// file /job of the initramfs; the answer is written to the disk called answer:
// its length in 8 bytes, little-endian, then JSON.
package job

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Names that both sides agree on.
const (
	File   = "job"    // in the initramfs
	Answer = "answer" // the disk that the answer goes to
	Disks  = "/disk"  // folder with a link to the node of each disk
)

// Command is one program that the guest runs. Nothing interprets its arguments.
type Command struct {
	Args  []string `json:"args"` // the program's absolute path first
	Stdin []byte   `json:"stdin,omitempty"`
	// Any code but 0 ends the job, unless MayFail.
	MayFail bool `json:"may_fail,omitempty"`
}

// Result is how a command ended.
type Result struct {
	Stdout []byte        `json:"stdout"`
	Stderr []byte        `json:"stderr"`
	Code   int           `json:"code"` // -1 where a signal ended it
	Took   time.Duration `json:"took"` // by the guest's clock
}

// Report is the guest's answer: the results of the commands that were run, and
// what kept it from running the others.
type Report struct {
	Results []Result `json:"results"`
	Error   string   `json:"error,omitempty"`
}

// AnswerSize is the size of the answer's disk in bytes.
const AnswerSize = 32 << 20

// Write writes the report, padded to whole blocks.
func Write(w io.WriterAt, r Report) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if len(text) > AnswerSize-8 {
		return fmt.Errorf("an answer of %d bytes is too long", len(text))
	}
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(text)))
	b = append(b, text...)
	_, err = w.WriteAt(append(b, make([]byte, -len(b)&4095)...), 0)
	return err
}

// Read reads what Write has written.
func Read(r io.ReaderAt) (Report, error) {
	var head [8]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return Report{}, err
	}
	n := binary.LittleEndian.Uint64(head[:])
	if n == 0 || n > AnswerSize-8 {
		return Report{}, errors.New("it has not answered")
	}
	text := make([]byte, n)
	if _, err := r.ReadAt(text, 8); err != nil {
		return Report{}, err
	}
	var report Report
	err := json.Unmarshal(text, &report)
	return report, err
}
