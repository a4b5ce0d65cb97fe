package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"cloison/host/logcheck"
	"cloison/host/progress"
	"cloison/host/sdk"
	"cloison/host/tree"
	"cloison/linux/clock"
	"cloison/target/log"
)

const (
	lines  = 200_000
	rounds = 3
	many   = 1_000_000

	// The bounds.
	faster     = 2.0 // times journald's rate
	smaller    = 0.5 // of journald's bytes a record
	verifiedIn = 10 * time.Second
)

// result is one measurement.
type result struct {
	Lines   int
	Taken   time.Duration
	Bytes   int64 // on the disk
	Verify  time.Duration
	Records uint64 // verified
}

func (r result) rate() float64 { return float64(r.Lines) / r.Taken.Seconds() }
func (r result) each() float64 { return float64(r.Bytes) / float64(r.Lines) }

// outside runs the measurements in steps of the SDK.
func outside(ctx context.Context) error {
	root, err := tree.Find(".")
	if err != nil {
		return err
	}
	cache, err := tree.Cache()
	if err != nil {
		return err
	}
	s, err := sdk.Open(ctx, sdk.Options{Tree: root, Cache: cache, Log: progress.To(os.Stderr)})
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "cloison-bench-log-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	step := func(what string) (r result, err error) {
		where := filepath.Join(dir, what)
		etc, state := filepath.Join(where, "etc"), filepath.Join(where, "var")
		if err := errors.Join(os.RemoveAll(where), prepare(etc), os.MkdirAll(filepath.Join(state, "journal"), 0o755)); err != nil {
			return r, err
		}
		var out bytes.Buffer
		err = s.Run(ctx, sdk.Step{
			Args: []string{self, "inside", what}, ReadOnly: []string{self, "/sys/fs/cgroup"}, Inputs: []sdk.Bind{{Host: etc, Inside: "/etc"}},
			Outputs: []sdk.Bind{{Host: state, Inside: "/var/log"}}, Stdout: &out,
		})
		if err == nil {
			err = json.Unmarshal(out.Bytes(), &r)
		}
		return r, err
	}
	var ours, theirs []result
	for range rounds {
		for what, into := range map[string]*[]result{"journald": &theirs, "logd": &ours} {
			r, err := step(what)
			if err != nil {
				return err
			}
			*into = append(*into, r)
		}
	}
	best := func(all []result) result {
		return slices.MinFunc(all, func(a, b result) int { return int(a.Taken - b.Taken) })
	}
	a, b := best(ours), best(theirs)
	million, err := step("million")
	if err != nil {
		return err
	}
	fmt.Printf("%-18s %14s %14s\n", "", "records/s", "bytes each")
	fmt.Printf("%-18s %14.0f %14.1f\n", "logd", a.rate(), a.each())
	fmt.Printf("%-18s %14.0f %14.1f\n", "systemd-journald", b.rate(), b.each())
	fmt.Printf("rate %.1f times, size %.2f times; best of %d rounds of %d lines each\n", a.rate()/b.rate(), a.each()/b.each(), rounds, lines)
	fmt.Printf("verification of %d records: %.1f s (%d bytes)\n", million.Records, million.Verify.Seconds(), million.Bytes)
	if a.rate() < faster*b.rate() || a.each() > smaller*b.each() || million.Verify > verifiedIn {
		return fmt.Errorf("a bound is missed: %.1f times the rate, %.1f times the size, %v for a verification", faster, smaller, verifiedIn)
	}
	return nil
}

// prepare makes the /etc that journald needs.
func prepare(etc string) error {
	if err := os.MkdirAll(filepath.Join(etc, "systemd"), 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"machine-id": "0123456789abcdef0123456789abcdef\n", "passwd": "root:x:0:0::/:/bin/sh\n", "group": "root:x:0:\n",
		"systemd/journald.conf": "[Journal]\nStorage=persistent\nRateLimitIntervalSec=0\nRateLimitBurst=0\nSystemMaxUse=8G\nSystemKeepFree=1M\nReadKMsg=no\nAudit=no\n",
	} {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// inside is one measurement, told as JSON.
func inside(ctx context.Context) error {
	var r result
	var err error
	switch os.Args[2] {
	case "logd":
		r, err = logd("/var/log/journal", lines)
	case "journald":
		r, err = journald(ctx, "/var/log/journal", lines)
	case "million":
		if r, err = logd("/var/log/journal", many); err != nil {
			return err
		}
		began := time.Now()
		report, e := logcheck.Verify("", []string{"/var/log/journal"})
		r.Verify, r.Records, err = time.Since(began), report.Proven, e
		if len(report.Faults) != 0 || report.Proven < many {
			err = fmt.Errorf("the log is not what was written: %+v", report)
		}
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// write writes lines as services do: most alike, each with something of its own.
func write(w io.Writer, count int) error {
	b := make([]byte, 0, 64<<10)
	for i := range count {
		switch i % 4 {
		case 0:
			b = fmt.Appendf(b, "connection %d from 192.0.2.%d port %d accepted\n", i, i%251, 1024+i*7919%60000)
		case 1:
			b = fmt.Appendf(b, "request %08x: 200 OK, %d bytes in %d.%03d ms\n", uint32(i)*2654435761, i*31%100000, i%90, i*17%1000)
		case 2:
			b = fmt.Appendf(b, "lease of 192.0.2.%d renewed for %d s\n", i%251, 3600+i%600)
		case 3:
			b = fmt.Appendf(b, "clock is off by %d.%06d ms, frequency %d.%03d ppm\n", i%3, i*7907%1000000, i%40, i*13%1000)
		}
		if len(b) > 60<<10 || i == count-1 {
			if _, err := w.Write(b); err != nil {
				return err
			}
			b = b[:0]
		}
	}
	return nil
}

// logd has the log service take lines from a pipe.
func logd(folder string, count int) (result, error) {
	read, pipe, err := os.Pipe()
	if err != nil {
		return result{}, err
	}
	limits := log.DefaultLimits
	limits.Total = 1 << 40
	const all = 1 << 40 // no limits of the source
	began := time.Now()
	c, err := log.New(folder, log.Settings{
		Limits: limits, Rate: log.Rate{Bytes: all, Burst: all, Share: all, Most: 10}, Boot: strings.Repeat("0", 32), Now: time.Now,
		Up: clock.SinceBoot, Report: func(err error) { fmt.Fprintln(os.Stderr, err) },
	})
	if err != nil {
		return result{}, err
	}
	written, ended := make(chan struct{}), make(chan error, 1)
	go func() { c.Write(); close(written) }()
	go func() {
		err := write(pipe, count)
		ended <- errors.Join(err, pipe.Close())
	}()
	if err := c.Output("load", read); !errors.Is(err, io.EOF) {
		return result{}, err
	}
	c.End()
	<-written
	taken := time.Since(began)
	size, err := used(folder)
	return result{Lines: count, Taken: taken, Bytes: size}, errors.Join(err, <-ended)
}

// journald has it take lines from its stream socket.
func journald(ctx context.Context, folder string, count int) (r result, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	daemon := exec.CommandContext(ctx, "/usr/lib/systemd/systemd-journald")
	daemon.Stderr = os.Stderr
	if err := daemon.Start(); err != nil {
		return r, err
	}
	defer func() {
		cancel()
		_ = daemon.Wait() // it was killed
	}()
	var c net.Conn
	for began := time.Now(); c == nil; {
		if c, err = net.Dial("unix", "/run/systemd/journal/stdout"); err != nil && time.Since(began) > 30*time.Second {
			return r, err
		}
	}
	// Until then it keeps all in memory.
	if err := command(ctx, io.Discard, "journalctl", "--flush"); err != nil {
		return r, err
	}
	began := time.Now()
	// Identifier, unit, priority, and what is not to be done (sd_journal_stream_fd(3)).
	if _, err := io.WriteString(c, "load\n\n6\n0\n0\n0\n0\n"); err != nil {
		return r, err
	}
	if err := errors.Join(write(c, count), c.Close()); err != nil {
		return r, err
	}
	// It has taken all of them when all can be read.
	for taken := 0; taken < count; {
		if err := command(ctx, io.Discard, "journalctl", "--sync"); err != nil {
			return r, err
		}
		r.Taken = time.Since(began)
		var n counter
		if err := command(ctx, &n, "journalctl", "-q", "-o", "cat", "-t", "load", "-D", folder); err != nil {
			return r, err
		}
		if taken = int(n); time.Since(began) > 5*time.Minute {
			return r, fmt.Errorf("journald has taken %d of %d lines", taken, count)
		}
	}
	if err := command(ctx, io.Discard, "journalctl", "--rotate"); err != nil {
		return r, err
	}
	r.Lines = count
	r.Bytes, err = used(folder)
	return r, err
}

// counter counts lines.
type counter int

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(bytes.Count(b, []byte{'\n'}))
	return len(b), nil
}

func command(ctx context.Context, out io.Writer, name string, args ...string) error {
	c := exec.CommandContext(ctx, name, args...)
	c.Stdout, c.Stderr = out, os.Stderr
	return c.Run()
}

// used is what the files of a folder take of the disk.
func used(folder string) (total int64, err error) {
	err = filepath.WalkDir(folder, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			total += st.Blocks * 512
		}
		return nil
	})
	return total, err
}
