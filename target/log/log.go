package log

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"cloison/format/audit"
	"cloison/format/kmsg"
	"cloison/format/logline"
	"cloison/linux/clock"
	"cloison/linux/socket"
	"cloison/target/service"
	"cloison/target/varlink"
)

// Folder is where the log lies in the service's root.
const Folder = "/state/log"

// Bounds. The whole log is at most maxSegments of segmentSize.
const (
	segmentSize = 1 << 20
	maxSegments = 16
	// maxAnswer leaves room in a message for quotes and escapes.
	maxAnswer = 48 << 10
	maxLines  = 1000

	syncEvery = time.Second
	lastWords = 100 * time.Millisecond
	aliveness = 5 * time.Second
)

// Rates of one source: enough for a service in trouble, too little to matter for
// the disk or for others.
const (
	bytesPerSecond = 8 << 10
	burst          = 64 << 10
	maxSources     = 256
)

//go:embed cloison.log.varlink
var definition string

// Main is the program.
func Main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "cloison: logd: %v\n", err)
		os.Exit(1)
	}
}

// Collector takes lines from everywhere and writes them, one after the other.
type Collector struct {
	store   *store
	rate    rate
	lines   chan source
	asks    chan ask
	now     func() time.Time
	report  func(error)
	damaged bool // the last line could not be written
}

// source is a line with the rate that it counts for.
type source struct {
	logline.Line
	key string
}

// ask is a question to the one goroutine that has the store.
type ask struct {
	lines  int
	answer chan<- answer
}

type answer struct {
	lines []string
	err   error
}

// New opens the log in a folder. report gets what goes wrong on the way.
func New(folder string, report func(error)) (*Collector, error) {
	s, err := openStore(folder, segmentSize, maxSegments)
	if err != nil {
		return nil, err
	}
	return collect(s, report), nil
}

func collect(s *store, report func(error)) *Collector {
	return &Collector{
		store: s, lines: make(chan source), asks: make(chan ask), now: time.Now, report: report,
		rate: rate{bytes: bytesPerSecond, burst: burst, longest: maxSources, remembers: map[string]*bucket{}},
	}
}

func run() error {
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGTERM)
	notify, err := service.Notify()
	if err != nil {
		return err
	}
	c, err := New(Folder, func(err error) { fmt.Fprintf(os.Stderr, "%v\n", err) })
	if err != nil {
		return err
	}
	inputs, err := open()
	if err != nil {
		return err
	}
	listener, err := service.Descriptor("log")
	if err != nil {
		return err
	}
	peers, err := service.Peers()
	if err != nil {
		return err
	}
	server, err := varlink.New(c.Offer(peers))
	if err != nil {
		return err
	}
	failed := make(chan error, 3)
	go func() { failed <- server.Serve(listener, c.report) }()
	read := make(chan error, len(inputs))
	for _, in := range inputs {
		go func() { read <- in.read(c, in.file) }()
	}
	written := make(chan struct{})
	go func() { c.Write(); close(written) }()
	go func() {
		// It lives when the one that writes answers.
		failed <- notify.KeepAlive(aliveness, func() error { _, err := c.tail(1); return err })
	}()
	if err := notify.Ready(); err != nil {
		return err
	}
	select {
	case err = <-failed:
		return err
	case err = <-read:
		return err
	case <-ends:
	}
	// The others have ended: what they said last is still in the pipes.
	for _, in := range inputs {
		err = errors.Join(err, in.file.SetReadDeadline(time.Now().Add(lastWords)))
	}
	for range inputs {
		if e := <-read; !errors.Is(e, os.ErrDeadlineExceeded) {
			err = errors.Join(err, e)
		}
	}
	c.End()
	<-written
	return err
}

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
	r := bufio.NewReaderSize(f, logline.MaxText)
	from := "service/" + name
	for {
		b, err := r.ReadSlice('\n')
		if line := strings.TrimRight(string(b), "\n"); line != "" {
			c.lines <- source{logline.Line{Time: c.now(), From: from, Text: line}, from}
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
		n, err := f.Read(b)
		if errors.Is(err, syscall.EPIPE) { // overwritten before they were read
			c.lines <- source{logline.Line{Time: c.now(), From: "kernel", Text: "records were overwritten before they were read"}, "kernel"}
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot read the kernel's log: %w", err)
		}
		r, err := kmsg.Parse(string(b[:n]))
		if err != nil {
			return err
		}
		// Audit records come by their own way, whole.
		if strings.HasPrefix(r.Text, "audit: ") {
			continue
		}
		at := c.now().Add(r.Time - clock.SinceBoot())
		c.lines <- source{logline.Line{Time: at, From: "kernel", Text: fmt.Sprintf("<%d> %s", r.Level, r.Text)}, "kernel"}
	}
}

// audit reads the audit records. Those of one user count for one rate.
func (c *Collector) audit(f *os.File) error {
	b := make([]byte, 16384)
	for {
		n, err := f.Read(b)
		if errors.Is(err, syscall.ENOBUFS) {
			c.lines <- source{logline.Line{Time: c.now(), From: "audit", Text: "records were lost: more came than could be read"}, "audit"}
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
		c.lines <- source{logline.Line{Time: c.now(), From: "audit", Text: fmt.Sprintf("type=%d %s", r.Type, r.Text)}, "audit " + user(r.Text)}
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

// Write writes lines and answers questions until End.
func (c *Collector) Write() {
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	dirty := false
	for {
		select {
		case l, ok := <-c.lines:
			if !ok {
				c.fails(c.store.sync())
				return
			}
			c.keep(l)
			dirty = true
		case a := <-c.asks:
			lines, err := c.store.tail(a.lines, maxAnswer)
			a.answer <- answer{lines, err}
		case <-tick.C:
			if dirty {
				c.fails(c.store.sync())
				dirty = false
			}
		}
	}
}

// End says that there are no more lines. Nothing is asked after it.
func (c *Collector) End() { close(c.lines) }

// keep writes a line if its source has not written too much, and before it how
// many are missing.
func (c *Collector) keep(l source) {
	ok, dropped := c.rate.allow(c.now(), l.key, len(l.Text))
	if !ok {
		return
	}
	if dropped > 0 {
		missing := l.Line
		missing.Text = fmt.Sprintf("%d lines left out: too many at once", dropped)
		c.fails(c.store.add(missing.Print()))
	}
	if lost := c.store.lost; lost > 0 {
		missing := logline.Line{Time: c.now(), From: "service/logd", Text: fmt.Sprintf("%d lines lost: they could not be written", lost)}
		if c.store.add(missing.Print()) == nil {
			c.store.lost = 0
		}
	}
	c.fails(c.store.add(l.Print()))
}

// fails reports a failure of the disk once, until it works again. The report
// comes back by a pipe that this goroutine empties, so it does not wait for it.
func (c *Collector) fails(err error) {
	if err != nil && !c.damaged {
		go c.report(err)
	}
	c.damaged = err != nil
}

// tail asks for the last lines.
func (c *Collector) tail(lines int) ([]string, error) {
	answers := make(chan answer, 1)
	c.asks <- ask{lines, answers}
	a := <-answers
	return a.lines, a.err
}

// Offer is the service's Varlink side, with its access table.
func (c *Collector) Offer(peers map[uint32]string) varlink.Service {
	return varlink.Service{
		Product: "Cloison log", Version: "1", Definitions: []string{definition}, Peers: peers,
		Methods: []varlink.Method{
			{Name: "cloison.log.Tail", Who: []string{"console"}, Do: func(_ string, parameters json.RawMessage) (any, error) {
				var in struct {
					Lines int `json:"lines"`
				}
				if err := json.NewDecoder(bytes.NewReader(parameters)).Decode(&in); err != nil {
					return nil, err
				}
				if in.Lines < 1 || in.Lines > maxLines {
					return nil, &varlink.Error{Name: "cloison.log.OutOfRange", Parameters: map[string]int{"lines": in.Lines}}
				}
				lines, err := c.tail(in.Lines)
				if lines == nil {
					lines = []string{}
				}
				return map[string][]string{"lines": lines}, err
			}},
		},
	}
}
