package supervise

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"cloison/format/network"
	"cloison/format/service"
	"cloison/linux/audit"
	"cloison/linux/cgroup"
	"cloison/linux/process"
	"cloison/linux/socket"
)

// gifts are what a service can be given by its declaration, besides its sockets.
// Whoever has the descriptor needs no right to open it.
var gifts = []struct {
	name, what string
	open       func(s *supervisor, r *run) (theirs *os.File, keep bool, err error)
}{
	{"supervisor", "a socket to PID 1, for the words of its table", func(_ *supervisor, r *run) (theirs *os.File, keep bool, err error) {
		r.control, theirs, err = socket.Pair()
		return theirs, false, err
	}},
	// These two stay open here: the next run goes on where the last one was.
	{"kmsg", "the kernel's log, for reading", func(s *supervisor, _ *run) (*os.File, bool, error) { return s.kernelLog, true, nil }},
	{"audit", "the kernel's audit records", func(s *supervisor, _ *run) (*os.File, bool, error) { return s.audit, true, nil }},
	{"sessions", "a socket to PID 1, for orders of sessions", func(_ *supervisor, r *run) (theirs *os.File, keep bool, err error) {
		r.orders, theirs, err = socket.Pair()
		return theirs, false, err
	}},
	{"session-key", "a socket with one message: the key that tickets of sessions are checked with", func(s *supervisor, _ *run) (*os.File, bool, error) {
		theirs, err := whispered(string(s.public))
		return theirs, false, err
	}},
	{"outputs", "a socket with one message for each service: its name, and the pipe with its output", (*supervisor).outputs},
}

// outputs fills a socket with the pipes of all services that write to the log,
// and closes our end: nothing else comes.
func (s *supervisor) outputs(*run) (theirs *os.File, keep bool, err error) {
	ours, theirs, err := socket.Pair()
	if err != nil {
		return nil, false, err
	}
	for _, o := range s.pipes {
		err = errors.Join(err, socket.Send(ours, o.name, o.from))
	}
	if err = errors.Join(err, ours.Close()); err != nil {
		return nil, false, errors.Join(err, theirs.Close())
	}
	return theirs, false, nil
}

// readDeclarations reads those of all services of the image, in the order of
// their start.
func (s *supervisor) readDeclarations() error {
	entries, err := os.ReadDir(service.Folder)
	if err != nil {
		return fmt.Errorf("cannot read the declarations of the services: %w", err)
	}
	var all []*service.Service
	for _, e := range entries {
		text, err := os.ReadFile(service.SealedPath(e.Name()))
		if err != nil {
			return fmt.Errorf("cannot read the declaration of %s: %w", e.Name(), err)
		}
		d, err := service.Parse(string(text))
		if err != nil {
			return fmt.Errorf("declaration of %s: %w", e.Name(), err)
		}
		if d.Name != e.Name() {
			return fmt.Errorf("the declaration of %s is that of %s", e.Name(), d.Name)
		}
		all = append(all, d)
	}
	if err := service.CheckTogether(all); err != nil {
		return err
	}
	s.declared, err = service.Order(all)
	return err
}

// host prepares what services keep from one start to the next: their shares of
// the state volume, groups, pipes, sockets. After it nothing but processes is made for a service.
func (s *supervisor) host() error {
	if err := network.CheckServices(s.declared, s.networks); err != nil {
		return err
	}
	// 1. What each may keep, before it is there.
	if err := s.share(s.declared); err != nil {
		return err
	}
	// 2. Groups: what is limited is delegated from the root down.
	if err := cgroup.Delegate(cgroup.Root, "cpu", "memory", "pids"); err != nil {
		return err
	}
	top, err := cgroup.Make(groups)
	if err != nil {
		return err
	}
	if err := errors.Join(cgroup.Delegate(groups, "cpu", "memory", "pids"), top.Close()); err != nil {
		return err
	}
	for _, d := range s.declared {
		if d.Start.Instances > 0 {
			if err := s.prepare(d); err != nil {
				return err
			}
			continue
		}
		h := &hosted{unit: &unit{Service: d, stage: waiting}, sockets: map[string]*os.File{}}
		if h.group, err = cgroup.Make(path.Join(groups, d.Name)); err != nil {
			return err
		}
		if err := h.group.Limit(limitsOf(d)); err != nil {
			return err
		}
		// 3. Where its output goes.
		if h.ours, h.theirs, err = process.Pipe(); err != nil {
			return err
		}
		if d.Stdio == service.Log {
			s.pipes = append(s.pipes, output{d.Name, h.ours})
		}
		// 4. Sockets: they are there before anybody could miss them.
		if err := h.listen(); err != nil {
			return err
		}
		s.services = append(s.services, h)
	}
	if err := s.makeKey(); err != nil {
		return err
	}
	// 5. What is told to the log, from before the first service on.
	if s.kernelLog, err = os.Open("/dev/kmsg"); err != nil {
		return fmt.Errorf("cannot open the kernel's log: %w", err)
	}
	s.audit, err = audit.Open()
	return err
}

// output is where what a service writes can be read.
type output struct {
	name string
	from *os.File
}

func limitsOf(d *service.Service) cgroup.Limits {
	return cgroup.Limits{Memory: uint64(d.Limits.Memory), PIDs: uint64(d.Limits.Processes), CPU: uint64(d.Limits.CPU), Weight: weight}
}

var kinds = map[string]socket.Kind{service.Stream: socket.Stream, service.SeqPacket: socket.SeqPacket, service.Datagram: socket.Datagram}

// listen makes the sockets that the service provides.
func (h *hosted) listen() error {
	for _, p := range h.Provides {
		at := service.SocketPath(h.Name, p.Name)
		if err := os.MkdirAll(path.Dir(at), 0o711); err != nil {
			return fmt.Errorf("cannot make the sockets of %s: %w", h.Name, err)
		}
		f, err := socket.Listen(at, kinds[p.Type], os.FileMode(p.Mode))
		if err != nil {
			return err
		}
		h.sockets[p.Name] = f
	}
	return nil
}

// units are the states of all services.
func (s *supervisor) units() []*unit {
	units := make([]*unit, len(s.services))
	for i, h := range s.services {
		units[i] = h.unit
	}
	return units
}

// of finds the service of a unit.
func (s *supervisor) of(u *unit) *hosted {
	return s.services[slices.IndexFunc(s.services, func(h *hosted) bool { return h.unit == u })]
}

// pending names the required services that are not up.
func (s *supervisor) pending() string {
	var names []string
	for _, h := range s.services {
		if h.Start.Required && !h.up() {
			names = append(names, h.Name)
		}
	}
	return strings.Join(names, ", ")
}
