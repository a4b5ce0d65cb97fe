package service

import (
	"fmt"
	"strconv"
	"strings"
)

// heading is the first line of the sealed form; a change of the form changes its
// number.
const heading = "cloison service 2\n"

// maxSealed bounds the sealed form, in bytes.
const maxSealed = 1 << 16

// Print returns the sealed form: one line for each field, in their order, each
// list with its length before it.
func (s *Service) Print() (string, error) {
	if err := s.Check(); err != nil {
		return "", fmt.Errorf("cannot print a declaration: %w", err)
	}
	w := &writer{}
	s.fields(w)
	return heading + w.out.String(), nil
}

// Parse reads the sealed form. It refuses what Print would not have printed.
func Parse(text string) (*Service, error) {
	body, ok := strings.CutPrefix(text, heading)
	if !ok || len(text) > maxSealed {
		return nil, fmt.Errorf("cannot parse a declaration: it does not begin with %q, or is too long", strings.TrimSpace(heading))
	}
	r := &reader{rest: body}
	var s Service
	s.fields(r)
	if r.err == nil && r.rest != "" {
		r.fail("more than a declaration")
	}
	if r.err == nil {
		r.err = s.Check()
	}
	if r.err != nil {
		return nil, fmt.Errorf("cannot parse a declaration: %w", r.err)
	}
	return &s, nil
}

// form is the sealed form in one direction: what prints it or what reads it.
type form interface {
	text(key string, value *string)
	number(key string, value *uint64, most uint64)
	length(key string, now int) int
}

// fields walks all fields in the order of the sealed form.
func (s *Service) fields(f form) {
	f.text("name", &s.Name)
	f.text("about", &s.About)
	number(f, "id", &s.ID, 1<<32-1)
	f.text("program", &s.Program)
	texts(f, "argument", &s.Arguments)
	texts(f, "file", &s.Files)
	list(f, "environment", &s.Environment, func(v *Variable) { f.text("name", &v.Name); f.text("value", &v.Value) })
	f.text("stdio", &s.Stdio)
	texts(f, "given", &s.Given)
	f.text("network", &s.Network)
	f.text("proc", &s.Proc)
	texts(f, "sys", &s.Sys)
	reasoned := func(r *Reasoned) { f.text("name", &r.Name); f.text("why", &r.Why) }
	list(f, "capability", &s.Capabilities, reasoned)
	list(f, "device", &s.Devices, func(d *Device) {
		f.text("path", &d.Path)
		f.text("access", &d.Access)
		list(f, "ioctl", &d.Ioctls, func(i *Ioctl) { f.text("name", &i.Name); number(f, "number", &i.Number, 1<<32-1) })
		f.text("why", &d.Why)
	})
	list(f, "writable", &s.Writable, func(w *Writable) { f.text("path", &w.Path); number(f, "size", &w.Size, maxSize) })
	texts(f, "state", &s.State)
	list(f, "configuration", &s.Config, func(c *Config) { f.text("source", &c.Source); f.text("path", &c.Path) })
	list(f, "provides", &s.Provides, func(p *Socket) {
		f.text("name", &p.Name)
		f.text("type", &p.Type)
		number(f, "mode", &p.Mode, 0o777)
		texts(f, "allow", &p.Allow)
	})
	texts(f, "uses", &s.Uses)
	list(f, "accept", &s.Accepts, func(a *Accept) {
		number(f, "port", &a.Port, 65535)
		number(f, "waiting", &a.Waiting, 1<<32-1)
		number(f, "each", &a.Each, 1<<32-1)
		number(f, "minute", &a.Minute, 1<<32-1)
	})
	texts(f, "group", &s.Seccomp.Groups)
	list(f, "call", &s.Seccomp.Calls, reasoned)
	texts(f, "read", &s.Landlock.Read)
	texts(f, "write", &s.Landlock.Write)
	for _, p := range []struct {
		key   string
		ports *[]uint16
	}{{"tcp-bind", &s.Landlock.TCPBind}, {"tcp-connect", &s.Landlock.TCPConnect}, {"udp-bind", &s.Landlock.UDPBind}, {"udp-connect", &s.Landlock.UDPConnect}} {
		list(f, p.key, p.ports, func(n *uint16) { number(f, "port", n, 65535) })
	}
	number(f, "memory", &s.Limits.Memory, maxSize)
	number(f, "processes", &s.Limits.Processes, 1<<32-1)
	number(f, "cpu", &s.Limits.CPU, 1<<32-1)
	number(f, "state-size", &s.Limits.State, maxSize)
	number(f, "state-files", &s.Limits.StateFiles, 1<<32-1)
	number(f, "descriptors", &s.Limits.Descriptors, 1<<32-1)
	number(f, "file-size", &s.Limits.FileSize, maxSize)
	number(f, "locked-memory", &s.Limits.LockedBytes, maxSize)
	texts(f, "after", &s.Start.After)
	texts(f, "needs", &s.Start.Needs)
	required := uint32(0)
	if s.Start.Required {
		required = 1
	}
	number(f, "required", &required, 1)
	s.Start.Required = required == 1
	number(f, "instances", &s.Start.Instances, 1<<32-1)
	f.text("ready", &s.Start.Ready)
	number(f, "timeout", &s.Start.Timeout, 1<<62)
	number(f, "watchdog", &s.Start.Watchdog, 1<<62)
	f.text("restart", &s.Start.Restart)
	number(f, "delay", &s.Start.Delay, 1<<62)
	number(f, "longest", &s.Start.Longest, 1<<62)
	number(f, "stop", &s.Start.Stop, 1<<62)
}

func number[N ~uint16 | ~uint32 | ~uint64 | ~int64](f form, key string, value *N, most uint64) {
	n := uint64(*value)
	f.number(key, &n, most)
	*value = N(n)
}

func list[T any](f form, key string, values *[]T, item func(*T)) {
	n := f.length(key, len(*values))
	if *values == nil && n > 0 {
		*values = make([]T, n)
	}
	for i := range *values {
		item(&(*values)[i])
	}
}

func texts(f form, key string, values *[]string) {
	list(f, key, values, func(s *string) { f.text(key, s) })
}

type writer struct{ out strings.Builder }

func (w *writer) text(key string, value *string) {
	w.out.WriteString(key)
	w.out.WriteByte('=')
	w.out.WriteString(*value)
	w.out.WriteByte('\n')
}

func (w *writer) number(key string, value *uint64, _ uint64) {
	n := strconv.FormatUint(*value, 10)
	w.text(key, &n)
}

func (w *writer) length(key string, now int) int {
	n := uint64(now)
	w.number(key+"#", &n, 0)
	return now
}

type reader struct {
	rest string
	err  error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

func (r *reader) text(key string, value *string) {
	if r.err != nil {
		return
	}
	line, rest, ended := strings.Cut(r.rest, "\n")
	got, ok := strings.CutPrefix(line, key)
	if ok && ended {
		got, ok = strings.CutPrefix(got, "=")
	}
	if !ok || !ended {
		r.fail("%q where %s= has to be", line, key)
		return
	}
	*value, r.rest = got, rest
}

func (r *reader) number(key string, value *uint64, most uint64) {
	var s string
	if r.text(key, &s); r.err != nil {
		return
	}
	n, err := decimal(s, most)
	if err != nil {
		r.fail("%s: %w", key, err)
		return
	}
	*value = n
}

func (r *reader) length(key string, _ int) int {
	var n uint64
	// Each item is a line at least.
	r.number(key+"#", &n, uint64(len(r.rest)))
	return int(n)
}
