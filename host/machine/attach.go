package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"

	"cloison/format/hint"
)

// leaveKey is the key that leaves the console: Ctrl-], as of telnet(1).
const leaveKey = 0x1d

// maxFailedBoots is how many resets in a row without a successful boot mean
// that the machine will not come up. Two slots with three tries each, and
// the one reset that enrolment needs.
const maxFailedBoots = 7

// Lines by which Attach follows the boot.
var (
	lineEnrolling = regexp.MustCompile(`Enrolling secure boot keys`)
	lineReady     = regexp.MustCompile(`(?m)^cloison: ready `)
	lineNothing   = regexp.MustCompile(`BdsDxe: No bootable option or device was found`)
)

// Attach connects the console to in and out until the machine ends, the user
// presses leaveKey, or ctx ends; the last two are no error. The end of in is
// not the end: a machine without a keyboard runs on. Stages of the boot are
// told to say, one call a stage. It fails when the machine fails, when the
// firmware finds nothing that it may boot, and when the guest resets again
// and again.
func (m *Machine) Attach(ctx context.Context, in io.Reader, out io.Writer, say func(string)) error {
	left := make(chan struct{})
	go func() {
		if copyKeys(m.Console, in) {
			close(left)
		}
	}()
	seen := newWatch(lineEnrolling, lineReady, lineNothing)
	m.Console.Mirror(&quiet{w: out})
	m.Console.Mirror(seen)

	enrolling, failed := false, 0
	for {
		select {
		case <-left:
			return nil
		case <-ctx.Done():
			return nil
		case <-m.Done():
			_, err := m.Wait()
			return err
		case re := <-seen.found:
			switch re {
			case lineEnrolling:
				enrolling = true
				say("enrolling the keys in the firmware")
			case lineReady:
				failed = 0
			case lineNothing:
				return hint.Wrap(errors.New("cannot boot: the firmware refuses every loader on the disk"),
					"other keys may be enrolled in this machine's firmware: cloison run --fresh forgets them")
			}
		case <-m.Resets():
			failed++
			switch {
			case enrolling:
				enrolling = false
				say("rebooting into Secure Boot")
			case failed > maxFailedBoots:
				return hint.Wrap(fmt.Errorf("cannot boot: %d resets without a successful boot", failed),
					"the console above says why; cloison run --fresh starts from the pristine image")
			default:
				say("the machine was reset and boots again")
			}
		}
	}
}

// copyKeys types what is read from in. It returns true at leaveKey, false at
// the end of in or of the machine.
func copyKeys(console io.Writer, in io.Reader) bool {
	buf := make([]byte, 256)
	for {
		n, err := in.Read(buf)
		keys, _, leave := bytes.Cut(buf[:n], []byte{leaveKey})
		if _, writeErr := console.Write(keys); writeErr != nil {
			return leave
		}
		if leave || err != nil {
			return leave
		}
	}
}

// quiet drops what firmware sends to an empty terminal: clearing the screen,
// going to its corner, setting its mode. What was told before stays
// readable.
type quiet struct {
	w    io.Writer
	held []byte // the start of a sequence that may have to be dropped
}

var noise = [][]byte{[]byte("\x1b[2J"), []byte("\x1b[01;01H"), []byte("\x1b[=3h")}

func (q *quiet) Write(p []byte) (int, error) {
	text := append(q.held, p...)
	for _, n := range noise {
		text = bytes.ReplaceAll(text, n, nil)
	}
	keep := heldBack(text)
	_, err := q.w.Write(text[:len(text)-keep])
	q.held = append([]byte(nil), text[len(text)-keep:]...)
	return len(p), err
}

// heldBack is how many bytes at the end of text may be the start of noise.
func heldBack(text []byte) int {
	longest := 0
	for _, n := range noise {
		for k := len(n) - 1; k > longest; k-- {
			if bytes.HasSuffix(text, n[:k]) {
				longest = k
			}
		}
	}
	return longest
}

// watch is a writer that tells when one of some expressions matches a line.
type watch struct {
	found chan *regexp.Regexp
	res   []*regexp.Regexp
	line  []byte
}

func newWatch(res ...*regexp.Regexp) *watch {
	return &watch{found: make(chan *regexp.Regexp, 64), res: res}
}

func (w *watch) Write(p []byte) (int, error) {
	w.line = append(w.line, p...)
	for {
		line, rest, whole := bytes.Cut(w.line, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		plain := Plain(string(line))
		for _, re := range w.res {
			if re.MatchString(plain) {
				select {
				case w.found <- re:
				default: // nobody has listened for a long time
				}
			}
		}
		w.line = bytes.Clone(rest)
	}
}
