package process

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Command is a program that is run to its end. It gets pipes and nothing else:
// no descriptor of ours, and only the environment that is named.
type Command struct {
	Path string
	Args []string // without the program's own name
	Env  []string
	// Inputs are what it reads from descriptors 0, 3, 4, …: secrets go here,
	// never into Args or Env. A program that does not read them is no error.
	Inputs [][]byte
	// Progress gets each piece of its standard output as it comes, or is nil.
	Progress func([]byte)
	// Deadline is how long it may take; then it is killed.
	Deadline time.Duration
}

// maxOutput bounds what is kept of each stream, in bytes. A program that
// prints more is one that we do not know.
const maxOutput = 1 << 20

// ErrDeadline says that a program was killed because it took too long.
var ErrDeadline = errors.New("took too long")

// ExitError is a program that ended with another code than 0.
type ExitError struct {
	Code int
	Text string // the end of what it said on its standard error
}

func (e *ExitError) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("exit %d", e.Code)
	}
	return fmt.Sprintf("exit %d: %s", e.Code, e.Text)
}

// Run runs a program to its end and returns its standard output. The caller
// must not reap meanwhile (Reap): it is for the initramfs.
func Run(c Command) ([]byte, error) {
	out, err := run(c)
	if err != nil {
		return nil, fmt.Errorf("cannot run %s: %w", filepath.Base(c.Path), err)
	}
	return out, nil
}

func run(c Command) (_ []byte, err error) {
	var theirs, ours []*os.File
	defer func() {
		for _, f := range append(theirs, ours...) {
			_ = f.Close() // pipes, some closed already
		}
	}()
	pipe := func() (r, w *os.File, err error) {
		var fd [2]int
		// They are in none of the other programs that may be started meanwhile.
		if err := unix.Pipe2(fd[:], unix.O_CLOEXEC); err != nil {
			return nil, nil, fmt.Errorf("cannot make a pipe: %w", err)
		}
		return os.NewFile(uintptr(fd[0]), "pipe"), os.NewFile(uintptr(fd[1]), "pipe"), nil
	}
	inputs := c.Inputs
	if len(inputs) == 0 {
		inputs = [][]byte{nil}
	}
	var readers, writers []*os.File
	for range inputs {
		r, w, err := pipe()
		if err != nil {
			return nil, err
		}
		theirs, ours, writers = append(theirs, r), append(ours, w), append(writers, w)
	}
	for range 2 {
		r, w, err := pipe()
		if err != nil {
			return nil, err
		}
		theirs, ours, readers = append(theirs, w), append(ours, r), append(readers, r)
	}
	n := len(inputs)
	// 0 is the first input, 1 and 2 the outputs, 3 and on the other inputs.
	files := append([]*os.File{theirs[0], theirs[n], theirs[n+1]}, theirs[1:n]...)
	pid, err := Start(Spec{Path: c.Path, Args: c.Args, Env: c.Env, Files: files})
	if err != nil {
		return nil, err
	}
	for _, f := range theirs {
		_ = f.Close() // the program has its own
	}

	var wait sync.WaitGroup
	for i, w := range writers {
		wait.Go(func() {
			_, _ = w.Write(inputs[i]) // EPIPE: it has read enough
			_ = w.Close()
		})
	}
	var out, said bytes.Buffer
	wait.Go(func() { drain(readers[0], &out, c.Progress) })
	wait.Go(func() { drain(readers[1], &said, nil) })

	var late sync.Once
	killed := false
	timer := time.AfterFunc(c.Deadline, func() {
		late.Do(func() { killed = true; _ = unix.Kill(pid, unix.SIGKILL) })
	})
	status, err := await(pid)
	timer.Stop()
	late.Do(func() {}) // from here on pid may be another's
	wait.Wait()
	switch {
	case err != nil:
		return nil, err
	case killed:
		return nil, ErrDeadline
	case status.Signaled():
		return nil, fmt.Errorf("killed by signal %d%s", status.Signal(), suffix(said.Bytes()))
	case status.ExitStatus() != 0:
		return nil, &ExitError{status.ExitStatus(), tail(said.Bytes())}
	}
	return out.Bytes(), nil
}

func await(pid int) (unix.WaitStatus, error) {
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(pid, &status, 0, nil)
		if err == syscall.EINTR {
			continue
		}
		return status, err
	}
}

// drain reads all, and keeps what is not too much.
func drain(r io.Reader, keep *bytes.Buffer, progress func([]byte)) {
	b := make([]byte, 4096)
	for {
		n, err := r.Read(b)
		if keep.Len()+n <= maxOutput {
			keep.Write(b[:n])
		}
		if progress != nil && n > 0 {
			progress(b[:n])
		}
		if err != nil {
			return
		}
	}
}

// tail is the last lines of a text, as one line of at most 300 bytes.
func tail(text []byte) string {
	line := strings.Join(strings.Fields(strings.ToValidUTF8(string(text), "?")), " ")
	if n := len(line) - 300; n > 0 {
		line = line[n:]
	}
	return line
}

func suffix(text []byte) string {
	if s := tail(text); s != "" {
		return ": " + s
	}
	return ""
}
