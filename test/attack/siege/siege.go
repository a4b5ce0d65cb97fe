// Package siege tries every way out of package probe, in the box of every
// service, on the machine itself: as the service, as root in its box, and with one
// layer of the box at a time. It is root, outside of all boxes, and only the
// image of the test of cloison/test/attack has it.
//
// It needs what PID 1 needs, and PID 1's control groups. It writes lines that
// begin with "cloison-attack: " to the console.
package siege

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"cloison/format/service"
	"cloison/linux/cgroup"
	"cloison/linux/clock"
	"cloison/linux/kmsg"
	"cloison/target/supervise"
	"cloison/test/attack/probe"

	kformat "cloison/format/kmsg"
)

// Prefix begins the names of the services that are the probe in another's box.
const Prefix = "as-"

// Config is a way to make the box.
type Config struct {
	Name    string
	Without []string // steps of the launcher
}

// Filter is the name of the layer that is the last.
const Filter = "seccomp"

// Layers of the box that can be left out one by one: the names of their steps.
var layers = []struct{ name, step string }{
	{Filter, "seccomp"}, {"landlock", "landlock"}, {"user", "identity"}, {"w^x", "memory"},
}

// Alone are boxes of which one layer at a time is left, and the last has none:
// there are only its namespaces, its mounts, its limits and the kernel. The filter
// has none of its own: what it stops it kills, with a signal that nothing else
// sends.
func Alone() []Config {
	var all []Config
	for _, only := range layers {
		if only.name == Filter {
			continue
		}
		c := Config{Name: only.name}
		for _, other := range layers {
			if other != only {
				c.Without = append(c.Without, other.step)
			}
		}
		all = append(all, c)
	}
	box := Config{Name: "box"}
	for _, l := range layers {
		box.Without = append(box.Without, l.step)
	}
	return append(all, box)
}

const (
	patience = 2 * time.Minute
	group    = cgroup.Root + "/siege"
)

// The siege's own program, and that of the probe, which is the launcher of boxes
// that are not whole as well.
var (
	program  = service.RootPath(Prefix+"siege") + "/usr/lib/cloison/siege"
	launcher = service.RootPath(Prefix+"probe") + "/usr/lib/cloison/probe"
)

// Init is PID 1: the real one, and beside it the siege, when all is ready.
func Init() {
	go func() {
		if err := begin(); err != nil {
			say("cannot begin: %v", err)
		}
	}()
	supervise.Main()
}

func begin() error {
	f, err := kmsg.Follow()
	if err != nil {
		return err
	}
	defer f.Close() // only read
	for {
		text, err := f.Next()
		if err != nil {
			return err
		}
		record, err := kformat.Parse(text)
		if err != nil {
			return err
		}
		if strings.HasPrefix(record.Text, "cloison: ready ") {
			break
		}
	}
	// PID 1 reaps it like any orphan.
	_, err = syscall.ForkExec(program, []string{program, "besiege"}, &syscall.ProcAttr{Dir: "/"})
	return err
}

// Main is the siege. PID 1 has started it as a service as well, to have it in the
// image: there it has nothing to do.
func Main() {
	if len(os.Args) == 1 {
		return
	}
	if err := besiege(); err != nil {
		say("cannot go on: %v", err)
		os.Exit(1)
	}
}

// console is opened once: lines are written whole.
var console *os.File

func say(format string, args ...any) {
	if console == nil {
		console, _ = os.OpenFile("/dev/console", os.O_WRONLY|syscall.O_NOCTTY, 0)
	}
	// Who waits for the line notices where it is missing.
	_, _ = fmt.Fprintf(console, "cloison-attack: "+format+"\r\n", args...)
}

func besiege() error {
	top, err := cgroup.Make(group)
	if err != nil {
		return err
	}
	if err := errors.Join(cgroup.Delegate(group, "cpu", "memory", "pids"), top.Close()); err != nil {
		return err
	}
	boxes, err := profiles()
	if err != nil {
		return err
	}
	end, err := victim()
	if err != nil {
		return err
	}
	defer end()
	attempts := probe.Attempts()
	say("%d attempts, boxes %s", len(attempts), strings.Join(names(boxes), " "))
	spent := make([]time.Duration, len(boxes))
	// In parts, so that whoever watches sees it go on.
	for from := 0; from < len(attempts); {
		to := from + 1
		for to < min(from+part, len(attempts)) && (attempts[to].Group == probe.Wears) == (attempts[from].Group == probe.Wears) {
			to++
		}
		results, err := allBoxes(boxes, attempts[from:to], spent)
		if err != nil {
			return err
		}
		for i, a := range attempts[from:to] {
			say("%d | %s | %s | %s", from+i+1, a.Group, a.Name, strings.Join(results[i], " | "))
		}
		from = to
	}
	for at, box := range boxes {
		say("%s took %.0f s", box.Name, spent[at].Seconds())
	}
	say("done")
	return nil
}

// allBoxes makes attempts in all boxes, and returns what came of each, box by box.
// Two boxes at a time are tried, of different services: those of one share its
// folder of the state volume. Attempts that use up what others need have the
// machine for themselves.
func allBoxes(boxes []box, attempts []probe.Attempt, spent []time.Duration) (results [][]string, err error) {
	byBox, errs := make([][]string, len(boxes)), make([]error, len(boxes))
	lane := func(name string, mine func(box) bool) {
		for at, b := range boxes {
			if !mine(b) {
				continue
			}
			since := clock.SinceBoot()
			byBox[at], errs[at] = all(b, name, attempts)
			spent[at] += clock.SinceBoot() - since
		}
	}
	layered := func(b box) bool { return b.service.Name == Prefix+"probe" }
	if attempts[0].Group == probe.Wears {
		lane("box", func(box) bool { return true })
	} else {
		var other sync.WaitGroup
		other.Go(func() { lane("box-1", func(b box) bool { return !layered(b) }) })
		lane("box-2", layered)
		other.Wait()
	}
	for at, b := range boxes {
		if errs[at] != nil {
			return nil, fmt.Errorf("in the box of %s: %w", b.Name, errs[at])
		}
	}
	for i := range attempts {
		var row []string
		for at, b := range boxes {
			row = append(row, b.Name+"="+byBox[at][i])
		}
		results = append(results, row)
	}
	return results, nil
}

// part is how many attempts are made in one box before the next.
const part = 30

// all makes attempts in as many boxes of one kind as it takes: each that ends the
// probe, or gets through, takes one. name is that of their control group.
func all(b box, name string, attempts []probe.Attempt) (results []string, err error) {
	for len(results) < len(attempts) {
		var orders []string
		for _, a := range attempts[len(results):] {
			orders = append(orders, a.Name)
		}
		these, err := try(b.service, b.Config, name, orders)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", orders[0], err)
		}
		results = append(results, these...)
	}
	return results, nil
}

// box is a service and how it is made.
type box struct {
	service *service.Service
	Config
}

func names(boxes []box) (all []string) {
	for _, b := range boxes {
		all = append(all, b.Name)
	}
	return all
}

// profiles are all boxes: those of the services as they are, and that of the
// probe as it is, with root in it, and with one layer at a time.
func profiles() ([]box, error) {
	folders, err := os.ReadDir(service.Folder)
	if err != nil {
		return nil, err
	}
	var boxes []box
	for _, f := range folders {
		if !strings.HasPrefix(f.Name(), Prefix) || f.Name() == Prefix+"siege" {
			continue
		}
		text, err := os.ReadFile(service.SealedPath(f.Name()))
		if err != nil {
			return nil, err
		}
		s, err := service.Parse(string(text))
		if err != nil {
			return nil, err
		}
		boxes = append(boxes, box{s, Config{Name: strings.TrimPrefix(s.Name, Prefix)}})
		if s.Name == Prefix+"probe" {
			boxes = append(boxes, box{s, Config{Name: "root", Without: []string{"identity"}}})
			for _, c := range Alone() {
				boxes = append(boxes, box{s, c})
			}
		}
	}
	return boxes, nil
}

// victim waits for strangers, outside of all boxes, at sockets without a path and
// with one. That they can be reached is seen from here.
func victim() (end func(), err error) {
	var open []io.Closer
	end = func() {
		for _, c := range open {
			_ = c.Close() // the siege ends with it
		}
	}
	for _, name := range []string{"@" + probe.Victim[1:], probe.VictimPath} {
		l, err := net.Listen("unix", name)
		if err != nil {
			return end, err
		}
		open = append(open, l)
		c, err := net.Dial("unix", name)
		if err != nil {
			return end, err
		}
		open = append(open, c)
	}
	if err := os.Chmod(probe.VictimPath, 0o666); err != nil {
		return end, err
	}
	address := &net.UnixAddr{Name: "@" + probe.Victim[1:], Net: "unixgram"}
	l, err := net.ListenUnixgram("unixgram", address)
	if err != nil {
		return end, err
	}
	open = append(open, l)
	return end, nil
}

// try makes a box, has the probe in it make attempts, and says in a few words
// what came of those that it made: THROUGH and what was reached, or what stopped
// them.
func try(s *service.Service, c Config, name string, orders []string) (results []string, err error) {
	g, err := cgroup.Make(group + "/" + name)
	if err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, g.Kill(), empty(g), g.Close(), os.Remove(group+"/"+name), clean(s.Name))
	}()
	limits := cgroup.Limits{Memory: uint64(s.Limits.Memory), PIDs: uint64(s.Limits.Processes), CPU: 400, Weight: 100}
	if err := g.Limit(limits); err != nil {
		return nil, err
	}
	status, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer status.Close()                          // only read
	cmd := exec.Command(service.Launcher, s.Name) // the real one
	if len(c.Without) > 0 {
		cmd = exec.Command(launcher, strings.Join(c.Without, ","), s.Name)
	}
	var out head
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = []string{}, strings.NewReader(strings.Join(orders, "\n")+"\n"), &out, &out
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: syscall.CLONE_NEWPID, UseCgroupFD: true, CgroupFD: int(g.Folder().Fd())}
	err = errors.Join(cmd.Start(), theirs.Close()) // the launcher's only
	if err != nil {
		return nil, err
	}
	late := time.AfterFunc(patience, func() { _ = g.Kill() })
	text, err := io.ReadAll(status)
	wait := cmd.Wait()
	inTime := late.Stop()
	err = errors.Join(err, rightClock())
	if len(text) > 0 {
		err = errors.Join(err, fmt.Errorf("no box: %s", bytes.TrimSpace(text)))
	}
	if err != nil {
		return nil, err
	}
	return judge(orders, out.String(), wait, inTime)
}

// began is when the siege did, by the clock and by the time since the start.
var began = struct {
	at    time.Time
	since time.Duration
}{time.Now().Round(0), clock.SinceBoot()}

// rightClock takes back what root in a box may have done to the clock.
func rightClock() error {
	now := began.at.Add(clock.SinceBoot() - began.since)
	if time.Since(now).Abs() < time.Second {
		return nil
	}
	return clock.System{}.Step(now)
}

// judge reads what the probe said of its orders, and how it ended.
func judge(orders []string, out string, wait error, inTime bool) (results []string, err error) {
	tried := strings.Split("\n"+out, "\n"+probe.Trying)[1:]
	if len(tried) == 0 {
		return nil, fmt.Errorf("the probe did not run: %v, %.200q", wait, out)
	}
	for i, said := range tried {
		lines := strings.Split(strings.TrimSpace(said), "\n")
		if i >= len(orders) || lines[0] != orders[i] {
			return nil, fmt.Errorf("the probe says %.60q instead of its order", lines[0])
		}
		last := lines[len(lines)-1]
		// What was reached may be the end of the program itself.
		if at := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, probe.Through) }); at >= 0 {
			results = append(results, "THROUGH: "+strings.TrimPrefix(lines[at], probe.Through))
			continue
		}
		if why, ok := strings.CutPrefix(last, probe.Stopped); ok {
			results = append(results, why)
			continue
		}
		if i < len(tried)-1 {
			return nil, fmt.Errorf("the probe says nothing of %s", lines[0])
		}
		results = append(results, ended(wait, inTime, strings.Join(lines[1:], " ")))
	}
	return results, nil
}

// ended says how the kernel has ended the probe, or what it said when it ended by
// itself, which it should not.
func ended(wait error, inTime bool, said string) string {
	var exit *exec.ExitError
	switch {
	case !inTime:
		return "HANGS"
	case !errors.As(wait, &exit):
		return fmt.Sprintf("DID NOT END as it should: %.200q", said)
	}
	if ws := exit.Sys().(syscall.WaitStatus); ws.Signaled() {
		return "killed: " + ws.Signal().String()
	}
	return fmt.Sprintf("DID NOT END as it should: %v, %.200q", wait, said)
}

// clean removes what the probe has left in its folder of the state volume.
func clean(name string) error {
	folders, err := filepath.Glob(filepath.Join(service.States, name, "*", "*"))
	for _, path := range folders {
		err = errors.Join(err, os.RemoveAll(path))
	}
	return err
}

// empty waits until the control group has no process.
func empty(g *cgroup.Group) error {
	for end := time.Now().Add(patience); ; {
		alive, err := g.Populated()
		if err != nil || !alive {
			return err
		}
		if time.Now().After(end) {
			return errors.New("processes of a box do not end")
		}
	}
}

// head keeps the first and the last of what is written to it.
type head struct{ first, last []byte }

func (h *head) Write(b []byte) (int, error) {
	n := len(b)
	room := min(32<<10-len(h.first), len(b))
	h.first = append(h.first, b[:room]...)
	h.last = append(h.last, b[room:]...)
	if more := len(h.last) - 4<<10; more > 0 {
		h.last = h.last[more:]
	}
	return n, nil
}

func (h *head) String() string { return string(h.first) + string(h.last) }
