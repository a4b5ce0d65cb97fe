package terminal

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrDeadline says that nobody typed a line.
var ErrDeadline = errors.New("nobody has typed anything")

// Prompt asks a person at the console, key by key. The kernel neither echoes
// what is typed nor acts on it.
type Prompt struct {
	fd       int
	before   unix.Termios
	deadline time.Duration
}

// OpenPrompt takes the console. deadline is how long each line may take.
func OpenPrompt(deadline time.Duration) (*Prompt, error) {
	fd, err := unix.Open(Console, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the console: %w", err)
	}
	p := &Prompt{fd: fd, deadline: deadline}
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err == nil {
		p.before = *t
		t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
		t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
		err = unix.IoctlSetTermios(fd, unix.TCSETSF, t) // what was typed before is dropped
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot take the console: %w", err), unix.Close(fd))
	}
	return p, nil
}

// Close gives the console back as it was, without what was typed ahead.
func (p *Prompt) Close() error {
	err := unix.IoctlSetTermios(p.fd, unix.TCSETSF, &p.before)
	if err = errors.Join(err, unix.Close(p.fd)); err != nil {
		return fmt.Errorf("cannot give the console back: %w", err)
	}
	return nil
}

// Tell prints text.
func (p *Prompt) Tell(text string) error {
	settle()
	_, err := io.WriteString(console{fd: p.fd}, text)
	return err
}

// Ask asks for a line.
func (p *Prompt) Ask(prompt string) (string, error) { return p.ask(prompt, false) }

// AskSecret asks for a line and shows a star for each character of it.
func (p *Prompt) AskSecret(prompt string) (string, error) { return p.ask(prompt, true) }

func (p *Prompt) ask(prompt string, secret bool) (string, error) {
	settle()
	c := console{fd: p.fd, end: time.Now().Add(p.deadline)}
	_, err := io.WriteString(c, prompt)
	var line string
	if err == nil {
		line, err = edit(c, secret)
	}
	if err != nil {
		return "", fmt.Errorf("cannot ask at the console: %w", err)
	}
	return line, nil
}

// console is a terminal's descriptor.
type console struct {
	fd  int
	end time.Time // of reading
}

func (c console) Write(b []byte) (int, error) {
	for done := 0; done < len(b); {
		n, err := unix.Write(c.fd, b[done:])
		if err != nil && !errors.Is(err, unix.EINTR) {
			return done, err
		}
		done += max(n, 0)
	}
	return len(b), nil
}

func (c console) Read(b []byte) (int, error) {
	for {
		left := time.Until(c.end)
		if left <= 0 {
			return 0, ErrDeadline
		}
		fds := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(left.Milliseconds())+1)
		if err == nil && n == 0 || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, err
		}
		n, err = unix.Read(c.fd, b)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF // nobody is at the other end any more
		}
		return n, nil
	}
}

// maxLine is how many characters a line may have; more are not taken.
const maxLine = 200

// edit reads a line, key by key, and shows what a person needs to see of it.
// Keys that are no printable ASCII character ring the bell, but for those that
// take back a character (Backspace) or all of them (Ctrl-U, Ctrl-C).
func edit(rw io.ReadWriter, secret bool) (string, error) {
	const bell = "\a"
	var line []byte
	for {
		key := make([]byte, 1)
		if _, err := io.ReadFull(rw, key); err != nil {
			return "", err
		}
		show := bell
		switch c := key[0]; {
		case c == '\r' || c == '\n':
			_, err := io.WriteString(rw, "\r\n")
			return string(line), err
		case c == 0x7f || c == '\b':
			if len(line) > 0 {
				line, show = line[:len(line)-1], "\b \b"
			}
		case c == 'U'-'@' || c == 'C'-'@':
			line, show = nil, strings.Repeat("\b \b", len(line))
		case c >= ' ' && c <= '~' && len(line) < maxLine:
			line = append(line, c)
			if show = string(rune(c)); secret {
				show = "*"
			}
		}
		if _, err := io.WriteString(rw, show); err != nil {
			return "", err
		}
	}
}
