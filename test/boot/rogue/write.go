package rogue

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"cloison/linux/file"
	"cloison/target/state"
)

const (
	writeFolder = state.Folder + "/rogue"
	logs        = 3  // record n is appended to log n % logs
	replaceEach = 5  // every so many records a file is replaced by renaming
	makeEach    = 7  // every so many records a file is made
	keep        = 10 // so many of those stay
)

// record is the one with number n: a line of 81 bytes to 1 KiB, and sometimes of
// 16 KiB. It hangs on the number alone, so that what is not exactly it is wrong.
func record(n int) []byte {
	times := 1 + n*37%16
	if n%20 == 0 {
		times = 256
	}
	sum := sha256.Sum256([]byte(strconv.Itoa(n)))
	text := hex.EncodeToString(sum[:])
	return fmt.Appendf(nil, "%016d%s\n", n, bytes.Repeat([]byte(text), times))
}

// last is the greatest multiple of each that is not above n.
func last(n, each int) int { return n / each * each }

func logName(i int) string { return filepath.Join(writeFolder, "log"+strconv.Itoa(i)) }

var valueName = filepath.Join(writeFolder, "value")

func madeName(n int) string { return filepath.Join(writeFolder, fmt.Sprintf("made%d", n)) }

// write checks what it finds of records and writes more of them for ever. It says of each when fsync has confirmed it.
func (r *rogue) write() error {
	if err := errors.Join(os.MkdirAll(writeFolder, 0o700), file.SyncDir(state.Folder)); err != nil {
		return err
	}
	n, err := r.found()
	if err != nil {
		return err
	}
	var open [logs]*os.File
	for i := range open {
		if open[i], err = os.OpenFile(logName(i), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600); err != nil {
			return err
		}
	}
	if err := file.SyncDir(writeFolder); err != nil {
		return err
	}
	// What belongs to the last record may have been cut off.
	if err := replace(n); err != nil {
		return err
	}
	for {
		n++
		if _, err := open[n%logs].Write(record(n)); err != nil {
			return err
		}
		if err := open[n%logs].Sync(); err != nil {
			return err
		}
		if err := replace(n); err != nil {
			return err
		}
		r.say("fsynced %d", n)
	}
}

// check only checks.
func (r *rogue) check() error {
	_, err := r.found()
	return err
}

// found says the number of the last record, or what is wrong.
func (r *rogue) found() (int, error) {
	n, err := found()
	if err != nil {
		return 0, fmt.Errorf("WRONG: %w", err)
	}
	r.say("found %d", n)
	return n, nil
}

// replace writes record n where files are replaced and made. There is no record 0.
func replace(n int) error {
	if n == 0 {
		return nil
	}
	if n%replaceEach == 0 {
		if err := file.WriteAtomic(valueName, record(n), 0o600); err != nil {
			return err
		}
	}
	if n%makeEach == 0 {
		if err := file.WriteAtomic(madeName(n), record(n), 0o600); err != nil {
			return err
		}
		if err := os.Remove(madeName(n - keep*makeEach)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// found checks all that is there, and returns the number of the last whole
// record. Each was confirmed before the next was begun: so all of it must be
// there but what belongs to the last one.
func found() (n int, err error) {
	var ends [logs]int // number of the last record in each log
	for i := range ends {
		if ends[i], err = foundLog(i); err != nil {
			return 0, err
		}
		n = max(n, ends[i])
	}
	for i, end := range ends {
		if want := max(0, n-(n-i+logs)%logs); end != want {
			return 0, fmt.Errorf("the last record is %d, but log %d ends with %d, not %d", n, i, end, want)
		}
	}
	if err := foundFile(valueName, last(n, replaceEach), last(n-1, replaceEach)); err != nil {
		return 0, err
	}
	for made := last(n-1, makeEach); made > max(0, n-(keep-1)*makeEach); made -= makeEach {
		if err := foundFile(madeName(made), made); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// foundLog checks a log, and cuts off a part of a record that was never
// confirmed.
func foundLog(i int) (end int, err error) {
	text, err := os.ReadFile(logName(i))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	next := i
	if i == 0 {
		next = logs
	}
	at := 0
	for at < len(text) {
		want := record(next)
		rest := text[at:]
		if len(rest) < len(want) && bytes.HasPrefix(want, rest) {
			return end, os.Truncate(logName(i), int64(at))
		}
		if !bytes.HasPrefix(rest, want) {
			return 0, fmt.Errorf("log %d at %d is not record %d", i, at, next)
		}
		at, end, next = at+len(want), next, next+logs
	}
	return end, nil
}

// foundFile checks a file that holds one of the records; record 0 is no file.
func foundFile(name string, allowed ...int) error {
	text, err := os.ReadFile(name)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return err
	}
	for _, n := range allowed {
		if n <= 0 && missing || n > 0 && !missing && bytes.Equal(text, record(n)) {
			return nil
		}
	}
	if missing {
		return fmt.Errorf("%s is missing, want one of the records %v", name, allowed)
	}
	return fmt.Errorf("%s has %d bytes, which are none of the records %v", name, len(text), allowed)
}
