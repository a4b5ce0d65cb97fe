package log

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	format "cloison/format/audit"
	"cloison/format/logline"
	"cloison/linux/socket"
	"cloison/target/varlink"
)

func open1(t *testing.T, folder string, size int64, count int) *store {
	t.Helper()
	s, err := openStore(folder, size, count)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.newest.Close() })
	return s
}

// bytesIn is what the log takes of the disk.
func bytesIn(t *testing.T, folder string) (total int64, files int) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	return total, len(entries)
}

func TestStoreIsBoundedAndContinues(t *testing.T) {
	folder := t.TempDir()
	s := open1(t, folder, 100, 3)
	for i := range 50 {
		if err := s.add(fmt.Sprintf("line %03d of the log\n", i)); err != nil {
			t.Fatal(err)
		}
	}
	if total, files := bytesIn(t, folder); files != 3 || total > 300 {
		t.Errorf("%d bytes in %d files, want at most 300 in 3", total, files)
	}
	// Another one goes on; half a line of a power cut is cut off.
	newest := s.path(s.numbers[len(s.numbers)-1])
	f, err := os.OpenFile(newest, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("half a li"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	again := open1(t, folder, 100, 3)
	if err := again.add("after\n"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		count, most int
		want        string
	}{
		{3, 1000, "line 048 of the log,line 049 of the log,after"},
		{3, 30, "line 049 of the log,after"},
		{1, 1000, "after"},
		{1, 3, ""},
	} {
		if got, err := again.tail(c.count, c.most); strings.Join(got, ",") != c.want || err != nil {
			t.Errorf("tail(%d, %d) = %q, %v, want %s", c.count, c.most, got, err, c.want)
		}
	}
	if all, err := again.tail(1000, 1<<20); len(all) < 10 || len(all) > 15 || err != nil {
		t.Errorf("tail of all has %d lines, %v", len(all), err)
	}
}

// What cannot be written is counted, and the disk's oldest lines go first.
func TestDiskThatFails(t *testing.T) {
	folder := t.TempDir()
	s := open1(t, folder, 20, 3)
	for range 6 {
		if err := s.add("123456789\n"); err != nil {
			t.Fatal(err)
		}
	}
	// A descriptor that cannot be written is as good as a full disk.
	readOnly, err := os.Open(s.path(s.numbers[2]))
	if err != nil {
		t.Fatal(err)
	}
	s.newest.Close()
	s.newest, s.length = readOnly, 0
	if err := s.add("x\n"); err == nil || s.lost != 1 {
		t.Errorf("add = %v with %d lost, want an error and 1", err, s.lost)
	}
	if _, files := bytesIn(t, folder); files != 2 {
		t.Errorf("%d segments are left, want 2: the oldest makes room", files)
	}
}

func TestRate(t *testing.T) {
	r := rate{bytes: 10, burst: 100, longest: 3, remembers: map[string]*bucket{}}
	now := time.Unix(1000, 0)
	kept := 0
	for range 1000 {
		if ok, _ := r.allow(now, "loud", 10); ok {
			kept++
		}
	}
	if kept != 10 {
		t.Errorf("%d lines of a flood are kept, want 10", kept)
	}
	if ok, dropped := r.allow(now, "quiet", 10); !ok || dropped != 0 {
		t.Error("a flood of one costs another its line")
	}
	if ok, dropped := r.allow(now.Add(time.Second), "loud", 10); !ok || dropped != 990 {
		t.Errorf("a second later: %v, %d left out, want 990", ok, dropped)
	}
	for i := range 100 {
		r.allow(now, fmt.Sprint("new ", i), 1)
	}
	if len(r.remembers) > 4 {
		t.Errorf("%d sources are remembered, want at most 3 and the others", len(r.remembers))
	}
}

// gather runs a collector for some inputs, ends it, and returns what it has
// written.
func gather(t *testing.T, feed func(c *Collector)) []string {
	t.Helper()
	s := open1(t, t.TempDir(), segmentSize, maxSegments)
	c := collect(s, func(err error) { t.Errorf("reported: %v", err) })
	c.now = func() time.Time { return time.Unix(1000, 0) }
	written := make(chan struct{})
	go func() { c.Write(); close(written) }()
	feed(c)
	c.End()
	<-written
	lines, err := s.tail(1e6, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// A service cannot write a line that looks like another's, and one that floods
// loses its own lines only.
func TestForgeAndFlood(t *testing.T) {
	forged := logline.Line{Time: time.Unix(1000, 0), From: "kernel", Text: "all is well"}.Print()
	lines := gather(t, func(c *Collector) {
		for name, text := range map[string]string{
			"forger": "\r" + forged + "a\rb\x00c", "flooder": strings.Repeat("flood\n", 100_000), "endless": strings.Repeat("x", 10_000),
		} {
			if err := c.Output(name, strings.NewReader(text)); !errors.Is(err, io.EOF) {
				t.Errorf("output(%s) = %v, want the end", name, err)
			}
		}
		if err := c.Output("flooder", strings.NewReader("last\n")); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		if err := c.Output("quiet", strings.NewReader("one line\n")); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
	count := map[string]int{}
	for _, line := range lines {
		l, err := logline.Parse(line + "\n")
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		count[l.From]++
	}
	if count["kernel"] != 0 || count["service/forger"] != 2 || count["service/quiet"] != 1 || count["service/endless"] != 10 {
		t.Errorf("lines by their senders are %v", count)
	}
	if most := burst/len("flood") + 1; count["service/flooder"] > most || count["service/flooder"] < most/2 {
		t.Errorf("%d lines of a flood are kept, want about %d", count["service/flooder"], most)
	}
}

// One that comes through again says how many lines are missing.
func TestMissingLinesAreTold(t *testing.T) {
	lines := gather(t, func(c *Collector) {
		now := time.Unix(1000, 0)
		c.now = func() time.Time { return now }
		if err := c.Output("flooder", strings.NewReader(strings.Repeat("flood\n", 20_000))); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		if _, err := c.tail(1); err != nil { // all of them have been seen
			t.Error(err)
		}
		now = now.Add(time.Minute)
		if err := c.Output("flooder", strings.NewReader("later\n")); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
	n := len(lines)
	if n < 2 || !strings.HasSuffix(lines[n-2], "lines left out: too many at once") || !strings.HasSuffix(lines[n-1], "later") {
		t.Errorf("the last lines are %q", lines[max(0, n-2):])
	}
}

func TestAudit(t *testing.T) {
	fd, w, err := socket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	record := format.Record{Type: 1326, Text: "audit(1000.000:1): auid=1 uid=901 gid=901"}
	lines := gather(t, func(c *Collector) {
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
	if len(lines) != 1 || !strings.HasSuffix(lines[0], " audit type=1326 "+record.Text) {
		t.Errorf("the log has %q", lines)
	}
	if got := user(record.Text); got != "901" {
		t.Errorf("user() = %q, want 901", got)
	}
}

// TestOffer asks over the socket, as a service and as somebody else.
func TestOffer(t *testing.T) {
	s := open1(t, t.TempDir(), segmentSize, maxSegments)
	c := collect(s, func(error) {})
	go c.Write()
	c.lines <- source{logline.Line{Time: time.Unix(1000, 0), From: "kernel", Text: "one"}, "kernel"}
	for caller, want := range map[string]string{"console": "", "timed": "org.varlink.service.PermissionDenied"} {
		server, err := varlink.New(c.Offer(map[uint32]string{uint32(os.Getuid()): caller}))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "log")
		l, err := socket.Listen(path, socket.Stream, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() { _ = server.Serve(l, func(error) {}) }()
		var reply struct {
			Lines []string `json:"lines"`
		}
		err = varlink.Do(path, "cloison.log.Tail", map[string]int{"lines": 10}, &reply, 10*time.Second)
		var refused *varlink.Error
		if errors.As(err, &refused) && refused.Name != want || !errors.As(err, &refused) && (err != nil || want != "" || len(reply.Lines) != 1) {
			t.Errorf("Tail of %s = %q, %v, want %q", caller, reply.Lines, err, want)
		}
		err = varlink.Do(path, "cloison.log.Tail", map[string]int{"lines": 0}, &reply, 10*time.Second)
		if !errors.As(err, &refused) {
			t.Errorf("Tail of no lines by %s = %v, want an error of the interface", caller, err)
		}
	}
	c.End()
}
