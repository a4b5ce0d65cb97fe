package log

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"cloison/format/logrecord"
	"cloison/linux/clock"
	"cloison/target/service"
	"cloison/target/varlink"
)

// Folder is where the log lies in the service's root.
const Folder = "/state/log"

// DefaultLimits are those of a machine that nobody configured.
var DefaultLimits = Limits{File: 1 << 20, Total: 64 << 20, Age: 365 * 24 * time.Hour}

// DefaultRate is enough for a service in trouble, and too little to matter for
// the disk or for others.
var DefaultRate = Rate{Bytes: 16 << 10, Burst: 128 << 10, Share: 128 << 10, Most: 256}

const (
	syncEvery = time.Second
	// signEvery is how old what no checkpoint covers becomes.
	signEvery = 30 * time.Second
	// tellEvery is how often dropped records are told.
	tellEvery = 10 * time.Second
	lastWords = 100 * time.Millisecond
	// drained is how long the kernel's log gives nothing when all of it was read.
	drained   = 20 * time.Millisecond
	aliveness = 5 * time.Second
	// batch is how much is written at once, in bytes of records.
	batch = 128 << 10
	// jump is how far the clock may go from the time that has passed before that
	// is said.
	jump = 2 * time.Second
)

// Main is the program.
func Main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "cloison: logd: %v\n", err)
		os.Exit(1)
	}
}

// Collector takes records from everywhere and writes them, one after the other.
type Collector struct {
	store   *store
	queue   *queue
	asks    chan func()
	end     chan struct{}
	now     func() time.Time
	up      func() time.Duration
	report  func(error)
	damaged bool // what was last to be written could not be
	// What both clocks said at the last tick.
	lastNow time.Time
	lastUp  time.Duration
	// When there was a checkpoint, and when dropped records were told.
	signed, told time.Duration
}

// Settings are what a Collector is made with.
type Settings struct {
	Limits Limits
	Rate   Rate
	Boot   string               // the kernel's boot ID, 32 digits
	Now    func() time.Time     // the clock, which can be set
	Up     func() time.Duration // since the machine started
	Report func(error)          // gets what goes wrong on the way
}

// New opens the log in a folder.
func New(folder string, s Settings) (*Collector, error) {
	store, notes, err := openStore(folder, s.Limits, s.Boot, s.Now)
	if err != nil {
		return nil, err
	}
	now, up := s.Now(), s.Up()
	c := &Collector{
		store: store, queue: newQueue(s.Rate), asks: make(chan func()), end: make(chan struct{}), now: s.Now, up: s.Up, report: s.Report,
		lastNow: now, lastUp: up, told: up,
		signed: up - signEvery, // the first tick signs what is said here
	}
	var records []logrecord.Record
	for _, note := range append(notes, "opened: signed by "+store.key.Public()) {
		records = append(records, store.record(note))
	}
	if err := store.write(records); err != nil {
		return nil, errors.Join(err, store.close())
	}
	return c, nil
}

func run() error {
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGTERM)
	notify, err := service.Notify()
	if err != nil {
		return err
	}
	boot, err := service.Boot()
	if err != nil {
		return err
	}
	c, err := New(Folder, Settings{
		DefaultLimits, DefaultRate, boot, time.Now, clock.SinceBoot, func(err error) { fmt.Fprintf(os.Stderr, "%v\n", err) },
	})
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
	written := make(chan struct{})
	go func() { c.Write(); close(written) }()
	// From here on nothing is lost: what is not read yet waits.
	if err := notify.Ready(); err != nil {
		return err
	}
	// What the kernel said before there was a log comes before what services say.
	if err := c.backlog(inputs[0].file); err != nil {
		return err
	}
	read := make(chan error, len(inputs))
	for _, in := range inputs {
		go func() { read <- in.read(c, in.file) }()
	}
	go func() {
		// It lives when the one that writes answers.
		failed <- notify.KeepAlive(aliveness, func() error { return c.do(func() error { return nil }) })
	}()
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

// Write writes records and does what is asked until End.
func (c *Collector) Write() {
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		select {
		case <-c.queue.ready:
			c.keep()
		case ask := <-c.asks:
			ask()
		case <-tick.C:
			c.tick()
		case <-c.end:
			for c.keep() {
			}
			c.tell()
			c.fails(c.store.say(closed))
			c.fails(c.store.close())
			return
		}
	}
}

// End ends Write once all is written that was said. Nothing is asked after it.
func (c *Collector) End() { close(c.end) }

// keep writes some of what waits, and signs it where somebody waits for that.
func (c *Collector) keep() bool {
	entries := c.queue.take(batch)
	if len(entries) == 0 {
		return false
	}
	records := make([]logrecord.Record, len(entries))
	waited := false
	for i, e := range entries {
		records[i] = e.record
		waited = waited || e.done != nil
	}
	err := c.store.write(records)
	if err != nil {
		c.queue.lost(entries)
	}
	if err == nil && waited {
		err = c.store.checkpoint()
		c.signed = c.up()
	}
	c.fails(err)
	for i, e := range entries {
		if e.done != nil {
			e.done <- written{records[i].Sequence, err}
		}
	}
	c.fails(c.store.tidy())
	return true
}

// tick does what is due.
func (c *Collector) tick() {
	now, up := c.now(), c.up()
	expected := c.lastNow.Add(up - c.lastUp)
	if now.Sub(expected).Abs() > jump {
		c.fails(c.store.say(fmt.Sprintf("the clock was set from %s to %s", expected.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))))
	}
	c.lastNow, c.lastUp = now, up
	if up-c.told >= tellEvery {
		c.tell()
		c.told = up
	}
	if up-c.signed >= signEvery {
		c.fails(c.store.checkpoint())
		c.fails(c.store.tidy())
		c.signed = up
		return
	}
	c.fails(c.store.sync())
}

// tell says how many records were dropped.
func (c *Collector) tell() {
	counts := c.queue.dropped()
	names := make([]string, 0, len(counts))
	for name := range counts {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		c.fails(c.store.say(fmt.Sprintf("%s: %d records are left out: more came than is kept", name, counts[name])))
	}
}

// fails reports a failure of the disk once, until it works again. The report
// comes back by a pipe that this program empties, so it does not wait for it.
func (c *Collector) fails(err error) {
	if err != nil && !c.damaged {
		go c.report(err)
	}
	c.damaged = err != nil
}

// do has the one goroutine that writes do something.
func (c *Collector) do(what func() error) error {
	done := make(chan error, 1)
	select {
	case c.asks <- func() { done <- what() }:
		return <-done
	case <-c.end:
		return io.ErrClosedPipe
	}
}

// say takes a line from somewhere.
func (c *Collector) say(key, from string, at time.Time, text string) {
	r := logrecord.Record{Time: at.UTC().Truncate(time.Microsecond), Source: from, Message: text}
	r.Clean()
	c.queue.push(c.up(), key, r, nil)
}
