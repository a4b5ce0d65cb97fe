// Package progress tells a person what a long build is doing: a line that
// moves on a terminal, plain lines elsewhere. It needs only the stream that
// it writes to.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// Log is where stages report. Its methods may be called from several
// goroutines. The zero Log is silent.
type Log struct {
	mu       sync.Mutex
	w        io.Writer
	terminal bool
	open     bool // the last line on the terminal has no line end yet
}

// To returns a Log that writes to w.
func To(w io.Writer) *Log {
	f, isFile := w.(*os.File)
	return &Log{w: w, terminal: isFile && term.IsTerminal(int(f.Fd()))}
}

// Stage is one long piece of work.
type Stage struct {
	log   *Log
	name  string
	start time.Time
	shown time.Time
	tenth int64
}

// Start opens a stage; every stage ends with Done or Fail.
func (l *Log) Start(format string, args ...any) *Stage {
	s := &Stage{log: l, name: fmt.Sprintf(format, args...), start: time.Now()}
	l.print(s.name+" …", true)
	return s
}

// Say prints one whole line.
func (l *Log) Say(format string, args ...any) {
	l.print(fmt.Sprintf(format, args...), false)
}

// Update says how far the stage is: done of total, in any unit. On a
// terminal it is shown four times a second, elsewhere at every tenth.
func (s *Stage) Update(done, total int64) {
	if total <= 0 {
		return
	}
	done = min(done, total)
	s.log.mu.Lock()
	tenth := done * 10 / total
	show := tenth > s.tenth
	if s.log.terminal {
		show = time.Since(s.shown) > 250*time.Millisecond
	}
	if show {
		s.tenth, s.shown = tenth, time.Now()
	}
	s.log.mu.Unlock()
	if show {
		s.log.print(fmt.Sprintf("%s … %d %% (%s)", s.name, done*100/total, s.elapsed()), true)
	}
}

// Done ends the stage; what it found follows its name and its time.
func (s *Stage) Done(format string, args ...any) {
	note := fmt.Sprintf(format, args...)
	if note != "" {
		note = ": " + note
	}
	s.log.print(fmt.Sprintf("%s%s (%s)", s.name, note, s.elapsed()), false)
}

// Fail ends the stage with a failure; the error itself is the caller's to tell.
func (s *Stage) Fail() {
	s.log.print(fmt.Sprintf("%s: failed after %s", s.name, s.elapsed()), false)
}

func (s *Stage) elapsed() time.Duration {
	d := time.Since(s.start)
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}

func (l *Log) print(line string, moving bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.w == nil {
		return
	}
	const clearLine = "\r\x1b[K"
	switch {
	case !l.terminal:
		fmt.Fprintln(l.w, line)
	case moving:
		fmt.Fprint(l.w, clearLine, line)
	case l.open:
		fmt.Fprint(l.w, clearLine, line, "\n")
	default:
		fmt.Fprintln(l.w, line)
	}
	l.open = moving
}
