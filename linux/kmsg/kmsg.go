// Package kmsg writes to the kernel's log and follows it (Linux,
// Documentation/ABI/testing/dev-kmsg).
//
// What PID 1 and the initramfs say goes this way and not to the terminal: the
// kernel prints a record in one piece, between its own, with the time.
package kmsg

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// Node is the log's device.
const Node = "/dev/kmsg"

// Levels of messages (syslog(2)). The kernel prints those below the console's
// level, and looks at it only when it gets to printing, which may be later.
const (
	Critical = 2
	Warning  = 4
	Info     = 6
)

// ConsoleLevels is the value of the parameter kernel.printk with which the
// console shows warnings and what is worse, and nothing less.
const ConsoleLevels = "5 4 1 5"

// maxLine keeps a record within the kernel's limit of 1024 bytes (LOG_LINE_MAX
// less the prefix).
const maxLine = 960

// Log is the open log, for writing.
type Log struct{ w io.WriteCloser }

// Open opens the log.
func Open() (*Log, error) {
	f, err := os.OpenFile(Node, os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the kernel's log: %w", err)
	}
	return &Log{f}, nil
}

// Printf writes one record of one line; control characters become spaces.
func (l *Log) Printf(level int, format string, args ...any) error {
	line := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, fmt.Sprintf(format, args...))
	if len(line) > maxLine {
		line = line[:maxLine-len("…")] + "…"
	}
	if _, err := fmt.Fprintf(l.w, "<%d>%s\n", 8|level, line); err != nil { // facility 1: user
		return fmt.Errorf("cannot write to the kernel's log: %w", err)
	}
	return nil
}

// Close closes the log.
func (l *Log) Close() error { return l.w.Close() }

// Follower reads records, from the oldest that the kernel still holds.
type Follower struct {
	f *os.File
	b []byte
}

// Follow opens the log for reading.
func Follow() (*Follower, error) {
	f, err := os.Open(Node)
	if err != nil {
		return nil, fmt.Errorf("cannot follow the kernel's log: %w", err)
	}
	return &Follower{f, make([]byte, 8192)}, nil
}

// Next waits for the next record and returns it. Records that the kernel has
// dropped meanwhile are skipped.
func (f *Follower) Next() (string, error) {
	for {
		n, err := f.f.Read(f.b)
		if errors.Is(err, syscall.EPIPE) { // overwritten before they were read
			continue
		}
		if err != nil {
			return "", fmt.Errorf("cannot follow the kernel's log: %w", err)
		}
		return string(f.b[:n]), nil
	}
}

// Close ends a waiting Next.
func (f *Follower) Close() error { return f.f.Close() }
