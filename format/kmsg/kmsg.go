// Package kmsg reads the records of the kernel's log and knows the ones that
// tell of repaired and of forged blocks.
//
// Source: Linux, Documentation/ABI/testing/dev-kmsg, and the messages of
// drivers/md/dm-verity-fec.c
// and drivers/md/dm-crypt.c. It needs nothing but the standard library.
package kmsg

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Record is one message.
type Record struct {
	Level    int           // 0 (emergency) to 7 (debug)
	Sequence uint64        // grows by one with each record
	Time     time.Duration // since the kernel started, to the microsecond
	Text     string        // first line, without the dictionary that follows
}

// Parse reads one record: "prefix,sequence,microseconds,flags[,…];text\n…".
func Parse(record string) (Record, error) {
	head, text, ok := strings.Cut(record, ";")
	fields := strings.Split(head, ",")
	if !ok || len(fields) < 4 {
		return Record{}, errors.New("cannot parse the kernel's record: no prefix")
	}
	prefix, err1 := strconv.ParseUint(fields[0], 10, 32)
	sequence, err2 := strconv.ParseUint(fields[1], 10, 64)
	usec, err3 := strconv.ParseUint(fields[2], 10, 48)
	if err := errors.Join(err1, err2, err3); err != nil {
		return Record{}, fmt.Errorf("cannot parse the kernel's record: %w", err)
	}
	text, _, _ = strings.Cut(text, "\n")
	return Record{int(prefix & 7), sequence, time.Duration(usec) * time.Microsecond, text}, nil
}

// Corrected reports whether the record says that dm-verity repaired a block by
// forward error correction. The kernel limits how many of these it prints:
// count the blocks with the device's status instead.
func (r Record) Corrected() bool {
	return strings.HasPrefix(r.Text, "device-mapper: verity-fec: ") && strings.Contains(r.Text, ": corrected ")
}

// Forged reports whether the record says that a sector of an encrypted device
// failed its authentication, and of which (dm-2). The kernel limits how many of
// these it prints.
func (r Record) Forged() (device string, sector uint64, ok bool) {
	// The header of the trusted keys, which dm-crypt includes, adds its name
	// (Linux 7.3).
	text := strings.TrimPrefix(r.Text, "trusted_key: ")
	text, ok1 := strings.CutPrefix(text, "device-mapper: crypt: ")
	device, number, ok2 := strings.Cut(text, ": INTEGRITY AEAD ERROR, sector ")
	sector, err := strconv.ParseUint(number, 10, 64)
	if !ok1 || !ok2 || err != nil || strings.ContainsAny(device, ": /") {
		return "", 0, false
	}
	return device, sector, true
}
