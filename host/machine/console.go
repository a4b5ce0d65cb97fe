package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
)

// ErrEnded says that the line closed before what was expected came.
var ErrEnded = errors.New("the machine ended")

// Console is a serial line. All that the machine wrote is kept.
type Console struct {
	conn io.ReadWriteCloser
	done chan struct{} // closed at the end of the line

	mu      sync.Mutex
	text    []byte
	lines   []byte        // the whole lines of text, plain
	taken   int           // bytes of text that are in lines
	pos     int           // where the next Expect starts, in plain text
	grown   chan struct{} // closed and replaced at each growth
	mirrors []io.Writer
}

func newConsole(conn io.ReadWriteCloser) *Console {
	c := &Console{conn: conn, done: make(chan struct{}), grown: make(chan struct{})}
	go c.read()
	return c
}

func (c *Console) read() {
	buf := make([]byte, 4096)
	for {
		n, err := c.conn.Read(buf)
		c.mu.Lock()
		c.text = append(c.text, buf[:n]...)
		for _, w := range c.mirrors {
			w.Write(buf[:n])
		}
		if err != nil {
			close(c.done)
		}
		close(c.grown)
		c.grown = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Mirror copies to w what came so far and all that will come.
func (c *Console) Mirror(w io.Writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.Write(c.text)
	c.mirrors = append(c.mirrors, w)
}

// Write types p.
func (c *Console) Write(p []byte) (int, error) { return c.conn.Write(p) }

// Text is everything that the machine wrote so far, without the escape
// sequences and carriage returns that firmware and terminals use.
func (c *Console) Text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.plain()
}

// plain is the text without control sequences. What was a whole line already
// is not looked at again: while that takes, nobody reads from the machine. The
// caller holds mu.
func (c *Console) plain() string {
	whole := bytes.LastIndexByte(c.text, '\n') + 1
	c.lines = append(c.lines, Plain(string(c.text[c.taken:max(c.taken, whole)]))...)
	c.taken = max(c.taken, whole)
	return string(c.lines) + Plain(string(c.text[c.taken:]))
}

// Done is closed at the end of the line.
func (c *Console) Done() <-chan struct{} { return c.done }

// Expect waits until re matches what came since the last match, in plain
// text (see Plain), and returns the match. It fails with ErrEnded when the
// line closes, and with ctx's error when ctx ends, both with the tail of
// what came instead.
func (c *Console) Expect(ctx context.Context, re *regexp.Regexp) (string, error) {
	return c.await(ctx, re, &c.pos)
}

// Said waits until re matches anything that came so far, and leaves what Expect
// looks at: for what comes in no order.
func (c *Console) Said(ctx context.Context, re *regexp.Regexp) (string, error) {
	start := 0
	return c.await(ctx, re, &start)
}

// await waits for a match behind pos, and moves it behind that.
func (c *Console) await(ctx context.Context, re *regexp.Regexp, pos *int) (string, error) {
	for {
		c.mu.Lock()
		text := c.plain()
		grown := c.grown
		from := min(*pos, len(text))
		if at := re.FindStringIndex(text[from:]); at != nil {
			*pos = from + at[1]
			c.mu.Unlock()
			return text[from+at[0] : from+at[1]], nil
		}
		over := false
		select {
		case <-c.done:
			over = true
		default:
		}
		c.mu.Unlock()
		if over {
			return "", fmt.Errorf("no %q on the console: %w\n%s", re, ErrEnded, lastLines(text, 30))
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return "", fmt.Errorf("no %q on the console: %w\n%s", re, ctx.Err(), lastLines(text, 30))
		}
	}
}

// escape matches terminal control sequences (ECMA-48 5.4), complete ones and
// one that is cut off at the end of the text.
var escape = regexp.MustCompile("\x1b(\\[[0-?]*[ -/]*([@-~]|$)|[@-Z\\\\-_]|$)")

// Plain is text without control sequences and carriage returns.
func Plain(text string) string {
	return strings.ReplaceAll(escape.ReplaceAllString(text, ""), "\r", "")
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return "\t| " + strings.Join(lines[max(0, len(lines)-n):], "\n\t| ")
}
