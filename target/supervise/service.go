package supervise

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"cloison/format/service"
	"cloison/linux/cgroup"
	"cloison/linux/kmsg"
	"cloison/linux/process"
	"cloison/linux/socket"
	"cloison/linux/terminal"
)

// groups is the control group below which each service has its own.
const groups = cgroup.Root + "/services"

// startingCPU is what a service gets of a processor until it is ready, in per
// cent, if that is more than its own limit: the box is made and the program loaded
// within that limit, too, and others wait for it. How long that may last is
// limited by the time that it has to become ready.
const startingCPU = 100

// weight is every service's share of busy processors.
const weight = 100

// hosted is a service with what it keeps from one start to the next.
type hosted struct {
	*unit
	group   *cgroup.Group
	sockets map[string]*os.File // that it provides, listening, by name
	// What it writes to its standard output goes in at theirs. Whoever is given
	// "outputs" reads it from ours; it waits in between.
	ours, theirs *os.File
	run          *run // nil while it does not run
	// Of an instance; nil of a service that is started once.
	instance *instance
}

// title names the service, and which instance of it.
func (h *hosted) title() string {
	if h.instance == nil {
		return h.Name
	}
	return h.instance.title()
}

// run is one process of a service.
type run struct {
	of       *hosted
	pid      int
	notify   *os.File // our ends of its sockets, nil where it has none
	control  *os.File
	orders   *os.File
	answers  chan string // what is still to be written to control
	step     chan string // what the launcher says before it becomes the program
	oomKills uint64      // of the group, when it started
}

// notice is something that happened to a run, for the loop.
type notice struct {
	run  *run
	what event
	word string // a request, where what is none
}

// pace is the least time between two words of one service that PID 1 reads.
const pace = 10 * time.Millisecond

// maxStep bounds what is kept of a launcher's words, in bytes.
const maxStep = 400

// start starts a service: the launcher in the service's group and in a new
// PID namespace. It gets
//
//	0, 1, 2  /dev/null and the pipe of its output, or the console
//	3, …     what the declaration names, in its order
//	last     a pipe on which it names the step that failed; it closes when the
//	         launcher has become the program
func (s *supervisor) start(h *hosted) (err error) {
	r := &run{of: h, step: make(chan string, 1), answers: make(chan string, 1)}
	var theirs []*os.File // closed here once they are the service's
	defer func() {
		for _, f := range theirs {
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			r.close()
		}
	}()
	files, err := h.stdio()
	if err != nil {
		return err
	}
	theirs = append(theirs, files[0])
	for _, name := range h.Descriptors() {
		f, keep, err := s.descriptor(r, name)
		if err != nil {
			return err
		}
		if files = append(files, f); !keep {
			theirs = append(theirs, f)
		}
	}
	usage, err := h.group.Usage()
	if err != nil {
		return err
	}
	r.oomKills = usage.OOMKills
	status, said, err := process.Pipe()
	if err != nil {
		return err
	}
	files, theirs = append(files, said), append(theirs, said)
	r.pid, err = process.Start(process.Spec{
		Path: service.Launcher, Args: []string{h.Name}, Env: s.environment(h), Files: files,
		PIDs: true, Group: h.group.Folder(),
	})
	if err != nil {
		return errors.Join(err, status.Close())
	}
	go s.guard(func() error { return r.launched(status, s.notices) })
	if r.notify != nil {
		go s.guard(func() error { return r.listen(r.notify, readiness, s.notices) })
	}
	if r.orders != nil {
		go s.guard(func() error { return r.takeOrders(s.orders) })
	}
	if r.control != nil {
		go s.guard(func() error { return r.listen(r.control, request, s.notices) })
		go r.write()
	}
	h.run = r
	return nil
}

// stdio opens descriptors 0 to 2; the first is to be closed.
func (h *hosted) stdio() ([]*os.File, error) {
	if h.Stdio == service.Console {
		tty, err := terminal.Open()
		return []*os.File{tty, tty, tty}, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", h.Name, err)
	}
	return []*os.File{null, h.theirs, h.theirs}, nil
}

// descriptor opens one of those that the declaration names. keep says that it
// is not for this run alone.
func (s *supervisor) descriptor(r *run, name string) (theirs *os.File, keep bool, err error) {
	if name == service.Notify {
		r.notify, theirs, err = socket.Pair()
		return theirs, false, err
	}
	if f, ok := r.of.sockets[name]; ok {
		return f, true, nil
	}
	if i := r.of.instance; i != nil {
		if f, ok := i.handed[name]; ok {
			delete(i.handed, name)
			return f, false, nil
		}
	}
	for _, g := range gifts {
		if g.name == name {
			return g.open(s, r)
		}
	}
	return nil, false, fmt.Errorf("service %s is to be given %s, and nobody knows what that is", r.of.Name, name)
}

// environment is the launcher's own, which boot this is, and which user is which
// of those services that may connect. The launcher hands the last two on.
func (s *supervisor) environment(h *hosted) []string {
	all := []string{service.Threads, service.Boot + "=" + s.boot}
	if len(h.Provides) == 0 {
		return all
	}
	var peers []string
	for _, other := range s.declared {
		for _, u := range other.Uses {
			if provider, _, _ := strings.Cut(u, "/"); provider == h.Name {
				peers = append(peers, fmt.Sprintf("%s=%d", other.Name, other.ID))
				break
			}
		}
	}
	return append(all, service.Peers+"="+strings.Join(peers, ","))
}

// launched reads the launcher's words until it has become the program or ended.
func (r *run) launched(status *os.File, notices chan<- notice) error {
	b, err := io.ReadAll(io.LimitReader(status, maxStep))
	if err = errors.Join(err, status.Close()); err != nil {
		return fmt.Errorf("cannot hear the launcher of %s: %w", r.of.Name, err)
	}
	r.step <- string(b)
	if len(b) == 0 {
		notices <- notice{run: r, what: executed}
	}
	return nil
}

// readiness understands what a service says of itself: two words, and nothing
// else.
func readiness(word string) (notice, bool) {
	switch word {
	case "ready":
		return notice{what: told}, true
	case "alive":
		return notice{what: lived}, true
	}
	return notice{}, false
}

// request understands a request as one of those in the table.
func request(word string) (notice, bool) {
	_, ok := find(word)
	return notice{word: word}, ok
}

// listen hands the words on a socket to the loop until the other side ends. It
// is closed upon a word that has no meaning: who sends one is not ours any more.
func (r *run) listen(from *os.File, understand func(string) (notice, bool), notices chan<- notice) error {
	b := make([]byte, 32)
	for {
		n, err := from.Read(b)
		if errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) || errors.Is(err, syscall.ECONNRESET) || err == nil && n == 0 {
			return nil // the loop hears of the end by SIGCHLD
		}
		if err != nil {
			return fmt.Errorf("cannot hear the service %s: %w", r.of.Name, err)
		}
		what, ok := understand(string(b[:n]))
		if !ok {
			what = notice{what: babbled}
		}
		what.run = r
		notices <- what
		if !ok {
			return nil
		}
		// Who floods us waits, not we.
		time.Sleep(pace)
	}
}

// answer sends a text. A service that does not read its answers is not waited
// for: it gets no more.
func (r *run) answer(text string) {
	select {
	case r.answers <- text:
	default:
	}
}

// write writes the answers until there will be none. The service may have ended,
// which is heard elsewhere.
func (r *run) write() {
	for text := range r.answers {
		_, _ = r.control.WriteString(text)
	}
}

func (r *run) close() {
	close(r.answers)
	for _, f := range []*os.File{r.notify, r.control, r.orders} {
		if f != nil {
			_ = f.Close() // nothing is left to lose
		}
	}
}

// how says why a run has ended, as far as the kernel and the launcher tell.
func (r *run) how(e process.Ended) (string, error) {
	usage, err := r.of.group.Usage()
	if err != nil {
		return "", err
	}
	how := e.How
	// The launcher is gone: its pipe has ended, or the program has it not.
	select {
	case step := <-r.step:
		if step = strings.TrimSpace(step); step != "" {
			how = "not started: " + step
		}
	case <-time.After(time.Second):
	}
	if usage.OOMKills > r.oomKills {
		how = fmt.Sprintf("out of memory: it reached its limit of %v", r.of.Limits.Memory)
	}
	if r.of.verdict != "" {
		how = r.of.verdict
	}
	return how, nil
}

// reap collects all that have ended.
func (s *supervisor) reap() error {
	for {
		e, ok, err := process.Reap()
		if err != nil || !ok {
			return err
		}
		for _, h := range s.services {
			if h.run == nil || h.run.pid != e.PID {
				continue
			}
			if err := s.ended(h, e); err != nil {
				return err
			}
		}
	}
}

// ended follows the end of a service's process. Its PID namespace ended with it,
// so that nothing else of it is left.
func (s *supervisor) ended(h *hosted, e process.Ended) error {
	how, err := h.run.how(e)
	if err != nil {
		return err
	}
	h.run.close()
	h.run = nil
	if err := h.group.Kill(); err != nil {
		return err
	}
	what := ended
	if e.OK {
		what = endedOK
	}
	h.next(time.Now(), what, how)
	if h.instance != nil {
		s.leave(h)
		return s.log.Printf(kmsg.Info, "cloison: service %s ended: %s", h.title(), how)
	}
	switch h.stage {
	case resting:
		s.say("service %s ended: %s; it starts again in %v", h.Name, how, h.pause)
	case failed:
		s.say("service %s failed: %s", h.Name, h.reason)
	default:
		return s.log.Printf(kmsg.Info, "cloison: service %s ended: %s", h.Name, how)
	}
	if h.stage == failed && h.Start.Required {
		return fmt.Errorf("the service %s failed: %s", h.Name, h.reason)
	}
	return nil
}

// limitCPU limits it as its declaration says once the service is ready, and as is
// usual before. An instance for a connection has no more before: until it is
// ready it is a stranger's.
func (h *hosted) limitCPU(up bool) error {
	limit := uint64(h.Limits.CPU)
	if !up && len(h.Accepts) == 0 {
		limit = max(startingCPU, limit)
	}
	return h.group.LimitCPU(limit)
}

// act does what a service's transition asked for.
func (s *supervisor) act(h *hosted, a action) error {
	switch {
	case a == launch:
		// Whatever is left of the last run is not there any more, or the new one
		// would be in one group with it.
		populated, err := h.group.Populated()
		if err != nil {
			return err
		}
		if populated {
			h.deadline = time.Now().Add(time.Second)
			return h.group.Kill()
		}
		if err := h.limitCPU(false); err != nil {
			return err
		}
		err = s.start(h)
		if err != nil && h.instance != nil {
			// Too much at once, most likely: this one is not served.
			h.next(time.Now(), ended, err.Error())
			s.leave(h)
			return s.log.Printf(kmsg.Info, "cloison: cannot start the service %s: %v", h.title(), err)
		}
		if err != nil {
			return fmt.Errorf("cannot start the service %s: %w", h.Name, err)
		}
		h.next(time.Now(), launched, "")
	case a == terminate && h.run != nil:
		return process.Signal(h.run.pid, syscall.SIGTERM)
	case a == kill:
		return h.group.Kill()
	}
	return nil
}
