package log

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"cloison/format/audit"
	"cloison/format/kmsg"
	"cloison/format/logrecord"
	"cloison/linux/clock"
	"cloison/linux/socket"
	"cloison/target/service"
)

// input is one descriptor and how it is read.
type input struct {
	file *os.File
	read func(*Collector, *os.File) error
}

// open takes what PID 1 has handed over.
func open() ([]input, error) {
	kernel, err := service.Descriptor("kmsg")
	if err != nil {
		return nil, err
	}
	records, err := service.Descriptor("audit")
	if err != nil {
		return nil, err
	}
	inputs := []input{{kernel, (*Collector).kernel}, {records, (*Collector).audit}}
	outputs, err := service.Descriptor("outputs")
	if err != nil {
		return nil, err
	}
	for {
		name, pipe, err := socket.Receive(outputs)
		if errors.Is(err, io.EOF) {
			return inputs, outputs.Close()
		}
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, input{pipe, func(c *Collector, f *os.File) error { return c.Output(name, f) }})
	}
}

// Output reads the lines of a service. One without an end is cut into several.
func (c *Collector) Output(name string, f io.Reader) error {
	// Much is read at once, so that one who floods is kept waiting by the pipe as
	// little as can be.
	r := bufio.NewReaderSize(struct{ io.Reader }{bufio.NewReaderSize(f, 64<<10)}, logrecord.MaxMessage)
	from := "service/" + name
	for {
		b, err := r.ReadSlice('\n')
		if line := strings.TrimRight(string(b), "\n"); line != "" {
			c.say(from, from, c.now(), line)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return fmt.Errorf("cannot read the output of %s: %w", name, err)
		}
	}
}

// kernel reads the kernel's log, with its own times.
func (c *Collector) kernel(f *os.File) error {
	b := make([]byte, 8192)
	for {
		if err := c.kernelRecord(f, b); err != nil {
			return err
		}
	}
}

// backlog reads what the kernel's log has already.
func (c *Collector) backlog(f *os.File) error {
	b := make([]byte, 8192)
	for {
		err := f.SetReadDeadline(time.Now().Add(drained))
		if err == nil {
			err = c.kernelRecord(f, b)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return f.SetReadDeadline(time.Time{})
		}
		if err != nil {
			return err
		}
	}
}

// kernelRecord reads one record; b is room for it.
func (c *Collector) kernelRecord(f *os.File, b []byte) error {
	n, err := f.Read(b)
	if errors.Is(err, syscall.EPIPE) { // overwritten before they were read
		c.say("kernel", "kernel", c.now(), "records were overwritten before they were read")
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read the kernel's log: %w", err)
	}
	r, err := kmsg.Parse(string(b[:n]))
	if err != nil {
		return err
	}
	// Audit records come by their own way, whole.
	if !strings.HasPrefix(r.Text, "audit: ") {
		c.say("kernel", "kernel", c.now().Add(r.Time-clock.SinceBoot()), fmt.Sprintf("<%d> %s", r.Level, r.Text))
	}
	return nil
}

// audit reads the audit records. Those of one user count for one rate.
func (c *Collector) audit(f *os.File) error {
	b := make([]byte, 16384)
	for {
		n, err := f.Read(b)
		if errors.Is(err, syscall.ENOBUFS) {
			c.say("audit", "audit", c.now(), "records were lost: more came than could be read")
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot read audit records: %w", err)
		}
		r, err := audit.Parse(b[:n])
		if err != nil {
			c.report(err)
			continue
		}
		c.say("audit "+user(r.Text), "audit", c.now(), fmt.Sprintf("type=%d %s", r.Type, r.Text))
	}
}

// user finds the user of an audit record: only numbers follow the key.
func user(text string) string {
	_, rest, ok := strings.Cut(text, " uid=")
	number, _, _ := strings.Cut(rest, " ")
	if !ok || len(number) > 10 {
		return ""
	}
	return number
}
