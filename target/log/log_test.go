package log

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	format "cloison/format/audit"
	"cloison/format/logrecord"
	"cloison/format/logtree"
	"cloison/linux/socket"
	"cloison/target/varlink"
)

const boot = "0123456789abcdef0123456789abcdef"

// small are limits with which a few records fill files.
var small = Limits{File: 2000, Total: 1 << 20, Age: 24 * time.Hour}

// watch is a clock that a test sets, and one that goes on by itself.
type watch struct {
	t      time.Time
	passed time.Duration
}

func (w *watch) now() time.Time    { return w.t }
func (w *watch) up() time.Duration { return w.passed }

func begin() *watch { return &watch{time.Unix(1_790_000_000, 0), time.Minute} }

func openLog(t *testing.T, folder string, limits Limits, c *watch) (*store, []string) {
	t.Helper()
	s, notes, err := openStore(folder, limits, boot, c.now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.packs.Wait(); s.newest.Close() })
	return s, notes
}

// add writes records with these texts, each by itself.
func add(t *testing.T, s *store, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if err := s.write([]logrecord.Record{{Time: s.now(), Source: "service/x", Message: text}}); err != nil {
			t.Fatal(err)
		}
	}
}

func numbered(n int) []string {
	var texts []string
	for i := range n {
		texts = append(texts, fmt.Sprintf("record %d of the log", i))
	}
	return texts
}

// verifyFolder verifies a log as another machine would.
func verifyFolder(t *testing.T, folder string) logtree.Report {
	t.Helper()
	v, err := logtree.NewVerifier("")
	if err != nil {
		t.Fatal(err)
	}
	v.Whole = true
	names, err := filepath.Glob(filepath.Join(folder, "*.jsonl*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.File(filepath.Base(name), bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
	}
	return v.Report()
}

// texts are the messages from a record on.
func texts(t *testing.T, s *store, first uint64) []string {
	t.Helper()
	var all []string
	err := s.view().records(first, func(sequence uint64, line []byte) bool {
		r, err := logrecord.Parse(string(line))
		if err != nil || r.Sequence != sequence {
			t.Errorf("record %d is %s, %v", sequence, line, err)
		}
		all = append(all, r.Message)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A log continues over files and starts, and is verified as a whole.
func TestStoreContinues(t *testing.T) {
	folder, c := t.TempDir(), begin()
	for start := range 3 {
		s, notes := openLog(t, folder, small, c)
		if len(notes) != 0 {
			t.Errorf("start %d says %q of a log that was ended in order", start, notes)
		}
		add(t, s, numbered(40)...)
		if err := s.say(closed); err != nil {
			t.Fatal(err)
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
	}
	r := verifyFolder(t, folder)
	if len(r.Faults) != 0 || r.Records != 123 || r.Proven != 123 || r.First != 0 {
		t.Errorf("verification: %+v", r)
	}
	packed, _ := filepath.Glob(filepath.Join(folder, "*.zst"))
	raw, _ := filepath.Glob(filepath.Join(folder, "*.jsonl"))
	if len(packed) < 5 || len(raw) != 1 {
		t.Errorf("%d compressed files and %d that are not, want many and 1", len(packed), len(raw))
	}
	s, _ := openLog(t, folder, small, c)
	all := texts(t, s, 0)
	if len(all) != 123 || all[0] != "record 0 of the log" || all[121] != "record 39 of the log" || all[122] != closed {
		t.Errorf("%d records, from %q to %q", len(all), all[0], all[len(all)-1])
	}
	for _, first := range []uint64{1, 50, 122} {
		if got := texts(t, s, first); !slices.Equal(got, all[first:]) {
			t.Errorf("from %d on: %d records, want %d", first, len(got), len(all[first:]))
		}
	}
}

// The log removes its oldest files by size and by age, says so, and can still be
// verified.
func TestStoreIsBounded(t *testing.T) {
	folder, c := t.TempDir(), begin()
	limits := small
	limits.Total = 6000
	s, _ := openLog(t, folder, limits, c)
	for range 300 {
		add(t, s, numbered(1)...)
		if err := s.tidy(); err != nil {
			t.Fatal(err)
		}
		// How many files there is room for must not hang on the machine's speed.
		s.packs.Wait()
	}
	if total := s.total(); total > limits.Total {
		t.Errorf("%d bytes, want at most %d", total, limits.Total)
	}
	if err := s.checkpoint(); err != nil {
		t.Fatal(err)
	}
	r := verifyFolder(t, folder)
	if len(r.Faults) != 0 || r.First == 0 || r.End < 300 || r.Proven != r.End {
		t.Errorf("verification: %+v", r)
	}
	// A year later: one file an hour, though all are too old.
	s.limits.Total = small.Total
	before := len(s.segments)
	if before < 4 {
		t.Fatalf("%d files, want at least 4", before)
	}
	for i, want := range []int{before - 1, before - 1, before - 2} {
		c.t = c.t.Add([]time.Duration{365 * 24 * time.Hour, time.Minute, 2 * time.Hour}[i])
		if err := s.tidy(); err != nil {
			t.Fatal(err)
		}
		// What is said of it can fill a file.
		if got := len(s.segments); got != want && got != want+1 {
			t.Errorf("%d files after step %d, want %d", got, i, want)
		}
	}
	s.packs.Wait()
	if r := verifyFolder(t, folder); len(r.Faults) != 0 {
		t.Errorf("verification: %+v", r.Faults)
	}
}

// change rewrites a file of the log.
func change(t *testing.T, path string, edit func(lines []string) []string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Join(edit(strings.SplitAfter(string(b), "\n")), "")), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestPowerCut cuts the newest file in many places: what a checkpoint
// covered is there, and the cut is no tampering.
func TestPowerCut(t *testing.T) {
	folder, c := t.TempDir(), begin()
	s, _ := openLog(t, folder, small, c)
	add(t, s, numbered(3)...)
	if err := s.checkpoint(); err != nil {
		t.Fatal(err)
	}
	covered := s.last().size
	add(t, s, "not", "covered")
	whole, err := os.ReadFile(s.raw(1))
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(folder, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	for size := len(whole) % 5; size <= len(whole); size += 5 {
		again := t.TempDir()
		if err := os.WriteFile(filepath.Join(again, keyFile), key, 0o400); err != nil {
			t.Fatal(err)
		}
		// Blocks that were never written are zeros.
		torn := append(bytes.Clone(whole[:size]), make([]byte, size%3)...)
		if err := os.WriteFile(filepath.Join(again, filepath.Base(s.raw(1))), torn, 0o600); err != nil {
			t.Fatal(err)
		}
		s, notes := openLog(t, again, small, c)
		said := strings.Join(notes, "; ")
		if strings.Contains(said, "changed") || size == len(whole) && size%3 == 0 && strings.Contains(said, "cut off") {
			t.Errorf("cut at %d of %d: it says %q", size, len(whole), said)
		}
		if size >= int(covered) && s.tree.End < 3 {
			t.Errorf("cut at %d, behind the checkpoint at %d: %d records are left", size, covered, s.tree.End)
		}
		if size < len(whole) && !strings.Contains(said, "not ended in order") && !strings.Contains(said, "gone") && !strings.Contains(said, "damaged") {
			t.Errorf("cut at %d of %d: it says %q", size, len(whole), said)
		}
		add(t, s, "after")
		if err := s.checkpoint(); err != nil {
			t.Fatal(err)
		}
		if r := verifyFolder(t, again); len(r.Faults) != 0 || r.Proven != r.End {
			t.Fatalf("cut at %d of %d: verification: %+v", size, len(whole), r)
		}
	}
}

// TestTamperingIsNoticed changes what a checkpoint covers, while the machine is
// off: the next start says so, goes on, and so does every verification.
func TestTamperingIsNoticed(t *testing.T) {
	for name, test := range map[string]struct {
		edit func(lines []string) []string
		want string
	}{
		"edited": {func(l []string) []string {
			l[2] = strings.Replace(l[2], "record 1", "record 7", 1)
			return l
		}, "the log was changed: the 4 records before the checkpoint"},
		"removed":   {func(l []string) []string { return slices.Delete(l, 2, 3) }, "the log was changed: record 2 stands where record 1 should"},
		"reordered": {func(l []string) []string { l[2], l[3] = l[3], l[2]; return l }, "the log was changed: record 2 stands where record 1 should"},
		"nonsense":  {func(l []string) []string { l[2] = "\x00\x00\x00\n"; return l }, "the log was changed: cannot parse a record"},
		"another head": {func(l []string) []string {
			l[0] = strings.Replace(l[0], `"begin":0`, `"begin":1`, 1)
			return l
		}, "is damaged"},
	} {
		folder, c := t.TempDir(), begin()
		s, _ := openLog(t, folder, small, c)
		add(t, s, numbered(4)...)
		if err := s.checkpoint(); err != nil {
			t.Fatal(err)
		}
		add(t, s, "behind")
		change(t, s.raw(1), test.edit)
		s, notes := openLog(t, folder, small, c)
		if len(notes) == 0 || !strings.Contains(notes[0], test.want) {
			t.Errorf("%s: it says %q, want %q", name, notes, test.want)
		}
		for _, note := range notes {
			if err := s.say(note); err != nil {
				t.Errorf("%s: it does not go on: %v", name, err)
			}
		}
		if r := verifyFolder(t, folder); len(r.Faults) == 0 && name != "another head" {
			t.Errorf("%s: a verification finds nothing", name)
		}
	}
	// A compressed file that is replaced, or gone, does not keep the log from
	// going on, and is found.
	folder, c := t.TempDir(), begin()
	s, _ := openLog(t, folder, small, c)
	add(t, s, numbered(40)...)
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.packed(2), filepath.Join(folder, "away")); err != nil {
		t.Fatal(err)
	}
	s, _ = openLog(t, folder, small, c)
	add(t, s, "after")
	if r := verifyFolder(t, folder); len(r.Faults) != 1 || !strings.Contains(r.Faults[0].What, "are missing") {
		t.Errorf("a file is gone: %+v", r.Faults)
	}
	if err := os.WriteFile(s.packed(3), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := verifyFolder(t, folder); len(r.Faults) != 2 {
		t.Errorf("two files are gone: %+v", r.Faults)
	}
	// Everything but the key.
	for _, name := range []string{"*.jsonl", "*.zst"} {
		files, _ := filepath.Glob(filepath.Join(folder, name))
		for _, f := range files {
			if err := os.Remove(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	old := s.key.Name()
	s, notes := openLog(t, folder, small, c)
	if len(notes) != 1 || !strings.Contains(notes[0], "are gone") || s.key.Name() == old {
		t.Errorf("all files are gone: it says %q, and is the log %s after %s", notes, s.key.Name(), old)
	}
}

// What cannot be written is counted and said, and the disk's oldest records go
// first.
func TestDiskThatFails(t *testing.T) {
	folder, c := t.TempDir(), begin()
	s, _ := openLog(t, folder, small, c)
	add(t, s, numbered(40)...)
	s.packs.Wait()
	files, end := len(s.segments), s.tree.End
	// A descriptor that cannot be written is as good as a full disk.
	good, err := s.newest, error(nil)
	if s.newest, err = os.Open(s.raw(s.last().number)); err != nil {
		t.Fatal(err)
	}
	if err := s.write([]logrecord.Record{{Time: s.now(), Source: "service/x", Message: "x"}}); err == nil || s.tree.End != end {
		t.Errorf("write = %v, and %d records after %d", err, s.tree.End, end)
	}
	if len(s.segments) != files-1 {
		t.Errorf("%d files are left of %d: the oldest makes room", len(s.segments), files)
	}
	s.newest.Close()
	s.newest = good
	if err := s.tidy(); err != nil {
		t.Fatal(err)
	}
	if all := texts(t, s, s.view().first()); !strings.Contains(all[len(all)-1], "are removed: the disk is full") {
		t.Errorf("the last record is %q", all[len(all)-1])
	}
	if r := verifyFolder(t, folder); len(r.Faults) != 0 {
		t.Errorf("verification: %+v", r.Faults)
	}
}

func TestQueue(t *testing.T) {
	q := newQueue(Rate{Bytes: 1000, Burst: 10 * (overhead + 10), Share: 1 << 20, Most: 3})
	now := time.Hour
	push := func(up time.Duration, from string) bool {
		return q.push(up, from, logrecord.Record{Source: from, Message: "0123456789"}, nil)
	}
	kept := 0
	for range 1000 {
		if push(now, "loud") {
			kept++
		}
	}
	if kept != 10 {
		t.Errorf("%d records of a flood are kept, want 10", kept)
	}
	if !push(now, "quiet") {
		t.Error("a flood of one costs another its record")
	}
	if !push(now+time.Second, "loud") {
		t.Error("a second later nothing is kept")
	}
	if got := q.dropped(); len(got) != 1 || got["loud"] != 990 {
		t.Errorf("%v were dropped, want 990 of loud", got)
	}
	for i := range 100 {
		push(now, fmt.Sprint("new ", i))
	}
	if len(q.sources) > 4 {
		t.Errorf("%d sources are remembered, want at most 3 and the others", len(q.sources))
	}
	if n := len(q.take(5 * (overhead + 10))); n != 5 {
		t.Errorf("%d entries of 5 records are taken", n)
	}
	if n := len(q.take(1 << 20)); n < 7 {
		t.Errorf("%d entries are left, want the rest", n)
	}
	// Nobody takes: each source has its share of the queue.
	q = newQueue(Rate{Bytes: 1e9, Burst: 1e9, Share: 10 * (overhead + 10), Most: 3})
	for i := range 100 {
		if got := push(now, "loud"); got != (i < 10) {
			t.Fatalf("record %d is taken: %v", i, got)
		}
	}
	if !push(now, "quiet") {
		t.Error("one fills the queue of all")
	}
}

// gather runs a collector for some inputs, ends it, and returns what is in the
// log.
func gather(t *testing.T, feed func(c *Collector, clock *watch)) []logrecord.Record {
	t.Helper()
	folder, clock := t.TempDir(), begin()
	c := collector(t, folder, clock)
	written := make(chan struct{})
	go func() { c.Write(); close(written) }()
	feed(c, clock)
	c.End()
	<-written
	if r := verifyFolder(t, folder); len(r.Faults) != 0 || r.Proven != r.End {
		t.Errorf("verification: %+v", r)
	}
	var all []logrecord.Record
	err := c.store.view().records(0, func(_ uint64, line []byte) bool {
		r, err := logrecord.Parse(string(line))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func collector(t *testing.T, folder string, clock *watch) *Collector {
	t.Helper()
	c, err := New(folder, Settings{DefaultLimits, DefaultRate, boot, clock.now, clock.up, func(err error) { t.Errorf("reported: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A service cannot write a record that looks like another's, and one that floods
// loses its own records only, which are counted.
func TestForgeAndFlood(t *testing.T) {
	forged := logrecord.Record{Time: time.Unix(1000, 0), Boot: boot, Source: "kernel", Message: "all is well"}
	line, err := forged.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	const flood = 100_000
	records := gather(t, func(c *Collector, _ *watch) {
		for name, text := range map[string]string{
			"forger": "\r" + string(line) + "\na\rb\x00c", "flooder": strings.Repeat("flood\n", flood), "endless": strings.Repeat("x", 10_000),
		} {
			if err := c.Output(name, strings.NewReader(text)); !errors.Is(err, io.EOF) {
				t.Errorf("output(%s) = %v, want the end", name, err)
			}
		}
		if err := c.Output("quiet", strings.NewReader("one line\n")); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
	count, told := map[string]int{}, ""
	for _, r := range records {
		count[r.Source]++
		if strings.HasPrefix(r.Message, "service/flooder: ") {
			told = r.Message
		}
	}
	if count["kernel"] != 0 || count["service/forger"] != 2 || count["service/quiet"] != 1 || count["service/endless"] != 10 {
		t.Errorf("records by their sources are %v", count)
	}
	kept := count["service/flooder"]
	if most := int(DefaultRate.Burst)/overhead + 1; kept > most || kept < most/2 {
		t.Errorf("%d records of a flood are kept, want about %d", kept, most)
	}
	if want := fmt.Sprintf("service/flooder: %d records are left out: more came than is kept", flood-kept); told != want {
		t.Errorf("the log says %q, want %q", told, want)
	}
}

// TestClockJumps sets the clock forth and back: the log says so, signs as often as
// before, and goes on.
func TestClockJumps(t *testing.T) {
	folder, clock := t.TempDir(), begin()
	c := collector(t, folder, clock)
	for _, by := range []time.Duration{-48 * time.Hour, 1000 * time.Hour, 0} {
		signed := c.store.signed.Size
		clock.passed += signEvery
		clock.t = clock.t.Add(signEvery + by)
		c.say("service/x", "service/x", clock.t, "after")
		if !c.keep() {
			t.Errorf("after a jump by %v nothing is written", by)
		}
		c.tick()
		if c.store.signed.Size <= signed {
			t.Errorf("after a jump by %v nothing is signed", by)
		}
	}
	jumps := 0
	for _, text := range texts(t, c.store, 0) {
		if strings.HasPrefix(text, "the clock was set from ") {
			jumps++
		}
	}
	if jumps != 2 {
		t.Errorf("the log says of %d jumps, want 2", jumps)
	}
	if err := c.store.close(); err != nil {
		t.Fatal(err)
	}
	if r := verifyFolder(t, folder); len(r.Faults) != 0 || r.Proven != r.End {
		t.Errorf("verification: %+v", r)
	}
}

func TestAudit(t *testing.T) {
	fd, w, err := socket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	record := format.Record{Type: 1326, Text: "audit(1000.000:1): auid=1 uid=901 gid=901"}
	records := gather(t, func(c *Collector, _ *watch) {
		if _, err := w.Write(record.Print()); err != nil {
			t.Fatal(err)
		}
		if err := fd.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if err := c.audit(fd); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("audit = %v", err)
		}
	})
	if len(records) != 3 || records[1].Source != "audit" || records[1].Message != "type=1326 "+record.Text {
		t.Errorf("the log has %+v", records)
	}
	if got := user(record.Text); got != "901" {
		t.Errorf("user() = %q, want 901", got)
	}
}

// What the kernel has said already is read before anything else, and what it says
// later as well.
func TestBacklog(t *testing.T) {
	fd, w, err := socket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	kernel := func(text string) {
		if _, err := w.WriteString("6,1,1000000,-;" + text + "\n"); err != nil {
			t.Fatal(err)
		}
	}
	records := gather(t, func(c *Collector, _ *watch) {
		kernel("one")
		kernel("two")
		if err := c.backlog(fd); err != nil {
			t.Fatal(err)
		}
		c.say("service/x", "service/x", c.now(), "three")
		kernel("four")
		w.Close()
		if err := c.kernel(fd); !errors.Is(err, io.EOF) {
			t.Errorf("kernel = %v, want the end", err)
		}
	})
	var got []string
	for _, r := range records[1:] {
		got = append(got, r.Message)
	}
	if want := []string{"<6> one", "<6> two", "three", "<6> four", closed}; !slices.Equal(got, want) {
		t.Errorf("the log has %q, want %q", got, want)
	}
}

// client calls the methods of a collector as some service.
type client struct {
	t    *testing.T
	path string
}

func offer(t *testing.T, c *Collector, caller string) client {
	t.Helper()
	server, err := varlink.New(c.Offer(map[uint32]string{uint32(os.Getuid()): caller}))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "log")
	l, err := socket.Listen(path, socket.Stream, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- server.Serve(l, func(error) {}) }()
	t.Cleanup(func() { l.Close(); <-ended })
	return client{t, path}
}

// call returns the error that the method answers with, or "".
func (c client) call(method string, in, out any) string {
	c.t.Helper()
	err := varlink.Do(c.path, "cloison.Log."+method, in, out, 30*time.Second)
	var refused *varlink.Error
	if errors.As(err, &refused) {
		return refused.Name[strings.LastIndexByte(refused.Name, '.')+1:]
	}
	if err != nil {
		c.t.Fatalf("%s: %v", method, err)
	}
	return ""
}

// TestOffer asks over the socket, as services that may and as others.
func TestOffer(t *testing.T) {
	folder := t.TempDir()
	c := collector(t, folder, begin())
	written := make(chan struct{})
	go func() { c.Write(); close(written) }()
	defer func() { c.End(); <-written }()
	auditor, admin, console := offer(t, c, "role-audit"), offer(t, c, "role-admin"), offer(t, c, "console")
	anchor, collector, stranger := offer(t, c, "anchord"), offer(t, c, "logexport"), offer(t, c, "time")

	did := action{Who: "alice", Role: "admin", From: "192.0.2.1", Verb: "commit", Change: "hostname: a\nb", Result: "ok"}
	var at sequence
	if got := admin.call("Append", did, &at); got != "" || at.Sequence != 1 {
		t.Fatalf("Append = %q, sequence %d, want 1", got, at.Sequence)
	}
	// It is on the disk, under a checkpoint, when it is answered.
	if r := verifyFolder(t, folder); r.Proven != 2 || len(r.Faults) != 0 {
		t.Errorf("after Append: %+v", r)
	}
	if err := c.Output("timed", strings.NewReader(strings.Join(numbered(20), "\n"))); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if err := c.do(func() error {
		for c.keep() {
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}

	type many struct {
		Records []logrecord.Record `json:"records"`
		Next    uint64             `json:"next"`
		End     uint64             `json:"end"`
	}
	var got many
	if e := console.call("Last", count{3}, &got); e != "" || len(got.Records) != 3 || got.Records[2].Message != "record 19 of the log" {
		t.Errorf("Last = %s, %+v", e, got)
	}
	got = many{}
	if e := collector.call("Read", reading{1, 2, 0}, &got); e != "" || len(got.Records) != 2 || got.Next != 3 ||
		got.Records[0].Who != "alice" || got.Records[0].Change != did.Change || got.Records[0].Source != "service/role-admin" {
		t.Errorf("Read = %s, %+v", e, got)
	}
	got = many{}
	if e := auditor.call("Search", searching{"record 1", "service/timed", 0, 100}, &got); e != "" || len(got.Records) != 11 || got.Next != got.End || got.End != 22 {
		t.Errorf("Search = %s, %d records, next %d of %d", e, len(got.Records), got.Next, got.End)
	}
	// One that waits gets what comes.
	waited := make(chan many)
	go func() {
		var got many
		collector.call("Read", reading{22, 10, 20}, &got)
		waited <- got
	}()
	c.say("service/x", "service/x", c.now(), "late")
	if got := <-waited; len(got.Records) > 1 || got.Next > 23 {
		t.Errorf("a Read that waited has %+v", got)
	}

	var cp signed
	if e := anchor.call("Checkpoint", struct{}{}, &cp); e != "" || cp.Size != 23 {
		t.Fatalf("Checkpoint = %s, %+v", e, cp)
	}
	public, err := logtree.ParsePublic(cp.Key)
	if err != nil {
		t.Fatal(err)
	}
	old, err := logtree.OpenCheckpoint(cp.Note, public)
	if err != nil || old.Size != cp.Size {
		t.Errorf("the checkpoint is %+v, %v", old, err)
	}
	if e := admin.call("Append", did, &at); e != "" {
		t.Fatal(e)
	}
	var p proof
	if e := anchor.call("Prove", size{old.Size}, &p); e != "" {
		t.Fatal(e)
	}
	now, err := logtree.OpenCheckpoint(p.Note, public)
	if err != nil {
		t.Fatal(err)
	}
	before, err1 := logtree.NewRange(0, old.Size, p.Before)
	added, err2 := logtree.NewRange(old.Size, now.Size, p.Added)
	if err := errors.Join(err1, err2, logtree.Grown(before, added, old, now)); err != nil || now.Size != 24 {
		t.Errorf("the proof from %d to %d: %v", old.Size, now.Size, err)
	}

	var file verified
	if e := auditor.call("Verify", verifying{0}, &file); e != "" || len(file.Faults) != 0 || file.Records != 24 || file.Next != 0 {
		t.Errorf("Verify = %s, %+v", e, file)
	}

	for _, test := range []struct {
		by     client
		method string
		in     any
		want   string
	}{
		{stranger, "Last", count{1}, "PermissionDenied"},
		{stranger, "Append", did, "PermissionDenied"},
		{stranger, "Read", reading{0, 1, 0}, "PermissionDenied"},
		{stranger, "Export", exporting{0, 1, 0}, "PermissionDenied"},
		{stranger, "Checkpoint", struct{}{}, "PermissionDenied"},
		{admin, "Last", count{1}, "PermissionDenied"},
		{admin, "Read", reading{0, 1, 0}, "PermissionDenied"},
		{admin, "Search", searching{"", "", 0, 1}, "PermissionDenied"},
		{admin, "Verify", verifying{0}, "PermissionDenied"},
		{console, "Read", reading{0, 1, 0}, "PermissionDenied"},
		{anchor, "Read", reading{0, 1, 0}, "PermissionDenied"},
		{anchor, "Append", did, "PermissionDenied"},
		{collector, "Append", did, "PermissionDenied"},
		{admin, "Append", action{Who: "x"}, "OutOfRange"},
		{console, "Last", count{0}, "OutOfRange"},
		{console, "Last", count{1001}, "OutOfRange"},
		{auditor, "Read", reading{0, 0, 0}, "OutOfRange"},
		{auditor, "Read", reading{0, 1, 21}, "OutOfRange"},
		{auditor, "Read", reading{100, 1, 0}, "OutOfRange"},
		{auditor, "Search", searching{"", "init", 0, 1}, "OutOfRange"},
		{auditor, "Search", searching{"", "", 100, 1}, "OutOfRange"},
		{auditor, "Export", exporting{0, 100, 0}, "OutOfRange"},
		{auditor, "Export", exporting{5, 5, 5}, "OutOfRange"},
		{auditor, "Export", exporting{5, 6, 4}, "OutOfRange"},
		{auditor, "Prove", size{100}, "OutOfRange"},
		{auditor, "Verify", verifying{1}, "OutOfRange"},
		{auditor, "Verify", verifying{-1}, "OutOfRange"},
		{auditor, "Search", searching{"nothing has this", "", 0, 1}, ""},
	} {
		var any json.RawMessage
		if got := test.by.call(test.method, test.in, &any); got != test.want {
			t.Errorf("%s(%+v) = %q, want %q", test.method, test.in, got, test.want)
		}
	}
	// A role that acts without end is told so.
	did.Change = strings.Repeat("x", logrecord.MaxChange)
	for range 100 {
		if got := admin.call("Append", did, &at); got == "TooMuch" {
			return
		}
	}
	t.Error("a hundred large actions in no time are all kept")
}

// TestExport exports every range of a log of some files, and verifies it.
func TestExport(t *testing.T) {
	folder, clock := t.TempDir(), begin()
	c, err := New(folder, Settings{small, DefaultRate, boot, clock.now, clock.up, func(err error) { t.Errorf("reported: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	add(t, c.store, numbered(30)...)
	if err := c.store.checkpoint(); err != nil {
		t.Fatal(err)
	}
	c.store.packs.Wait()
	v := c.store.view()
	for first := uint64(0); first < v.end; first++ {
		for _, end := range []uint64{first + 1, first + 3, v.end} {
			if end > v.end {
				continue
			}
			var file strings.Builder
			for at, done := first, false; !done; {
				var lines []string
				var err error
				// A small budget, so that it takes several calls.
				if lines, at, done, err = v.export(first, end, at, 700); err != nil {
					t.Fatalf("export(%d, %d, %d) = %v", first, end, at, err)
				}
				for _, l := range lines {
					file.WriteString(l + "\n")
				}
			}
			verifier, err := logtree.NewVerifier(c.store.key.Public())
			if err != nil {
				t.Fatal(err)
			}
			if err := verifier.File("export", strings.NewReader(file.String())); err != nil {
				t.Fatal(err)
			}
			if r := verifier.Report(); len(r.Faults) != 0 || r.First != first || r.Records != end-first || r.Proven < end {
				t.Fatalf("the export from %d to %d: %+v\n%s", first, end, r, file.String())
			}
		}
	}
	if err := c.store.close(); err != nil {
		t.Fatal(err)
	}
}
