package supervise

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"cloison/format/service"
	"cloison/linux/cgroup"
	log "cloison/linux/kmsg"
	"cloison/linux/namespace"
	"cloison/linux/process"
	"cloison/linux/socket"
	"cloison/linux/tcp"
)

// kind is a service that is started for each connection or each session.
type kind struct {
	*service.Service
	ours, theirs *os.File // its output, of all instances
	count        uint64   // instances so far
	door         *door    // nil where it waits for no connections
	told         time.Time
}

// instance is what is its own of one.
type instance struct {
	of     *kind
	number uint64
	handed map[string]*os.File // until it is started
	from   netip.Addr          // of its connection
	// session is what its connection has led to, nil before.
	session *hosted
	// parent is the instance that asked for this session, or nil.
	parent *hosted
}

// title names an instance.
func (i *instance) title() string { return fmt.Sprintf("%s@%d", i.of.Name, i.number) }

// arrival is a connection that was let in.
type arrival struct {
	of         *kind
	connection *os.File
	from       netip.Addr
}

// backlog is how many connections the kernel keeps until they are accepted.
const backlog = 128

// prepare makes what the instances of a service share, and opens its port.
func (s *supervisor) prepare(d *service.Service) error {
	k := &kind{Service: d}
	var err error
	if k.ours, k.theirs, err = process.Pipe(); err != nil {
		return err
	}
	s.pipes = append(s.pipes, output{d.Name, k.ours})
	s.kinds = append(s.kinds, k)
	for _, a := range d.Accepts {
		var l *os.File
		err := namespace.InNetwork(filepath.Join(service.Networks, d.Network), func() (err error) {
			l, err = tcp.Listen(a.Port, backlog)
			return err
		})
		if err != nil {
			return fmt.Errorf("cannot take connections for %s: %w", d.Name, err)
		}
		k.door = newDoor(a, d.Start.Instances)
		go s.guard(func() error { return s.accept(k, l) })
	}
	return nil
}

// accept lets connections in, or ends them at once.
func (s *supervisor) accept(k *kind, l *os.File) error {
	for {
		c, err := socket.Accept(l)
		if errors.Is(err, os.ErrClosed) || errors.Is(err, syscall.EBADF) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSOCK) {
			return fmt.Errorf("cannot take connections for %s: %w", k.Name, err)
		}
		if err != nil {
			// A flood, or what the network has told of a connection before it was
			// taken (accept(2)): strangers do not end the machine.
			time.Sleep(pace)
			continue
		}
		// One that is gone already has no address any more.
		from, err := tcp.From(c)
		if err != nil || !k.door.admit(time.Now(), from) {
			_ = tcp.Reset(c) // nobody is left who could be told
			continue
		}
		s.arrivals <- arrival{k, c, from}
	}
}

// tellDoors says once a minute how many connections were refused.
func (s *supervisor) tellDoors(now time.Time) error {
	for _, k := range s.kinds {
		if k.door == nil || now.Sub(k.told) < time.Minute {
			continue
		}
		if n := k.door.takeRefused(); n > 0 {
			k.told = now
			if err := s.log.Printf(log.Info, "cloison: service %s: %d connections were refused, too many at once or of one source", k.Name, n); err != nil {
				return err
			}
		}
	}
	return nil
}

// arrive starts an instance for a connection.
func (s *supervisor) arrive(a arrival) error {
	if s.ending != nil || s.ready == 0 {
		a.of.door.left(a.from, false)
		_ = tcp.Reset(a.connection) // nobody is served before the system is up, and after
		return nil
	}
	return s.begin(a.of, &instance{handed: map[string]*os.File{service.Connection: a.connection}, from: a.from})
}

// begin starts an instance.
func (s *supervisor) begin(k *kind, i *instance) error {
	k.count++
	i.of, i.number = k, k.count
	h := &hosted{unit: &unit{Service: k.Service, stage: waiting}, ours: k.ours, theirs: k.theirs, instance: i}
	var err error
	if h.group, err = cgroup.Make(path.Join(groups, h.title())); err == nil {
		err = h.group.Limit(limitsOf(k.Service))
	}
	if err != nil {
		// Too much at once, most likely: this one is not served.
		s.leave(h)
		return s.log.Printf(log.Info, "cloison: cannot start the service %s: %v", h.title(), err)
	}
	s.services = append(s.services, h)
	if i.parent != nil {
		i.parent.instance.session = h
	}
	return s.act(h, launch)
}

// leave follows the end of an instance: its place is free, and its session has
// nobody to talk to.
func (s *supervisor) leave(h *hosted) {
	i := h.instance
	for _, f := range i.handed {
		_ = f.Close() // nobody has it
	}
	i.handed = nil
	if i.of.door != nil {
		i.of.door.left(i.from, i.session != nil)
	}
	if session := i.session; session != nil && session.run != nil && !session.over() {
		session.verdict = "its connection has ended"
		_ = session.group.Kill() // it ends by itself as well: its channel is closed
	}
	h.enter(stopped, time.Now(), time.Time{})
}

// sweep forgets instances that have ended.
func (s *supervisor) sweep() {
	s.services = slices.DeleteFunc(s.services, func(h *hosted) bool {
		// A group that is not empty yet is removed at the next turn.
		return h.instance != nil && h.over() && h.run == nil && h.group.Remove() == nil
	})
}

// running counts the instances of a service.
func (s *supervisor) running(k *kind) uint32 {
	n := uint32(0)
	for _, h := range s.services {
		if h.instance != nil && h.instance.of == k && !h.over() {
			n++
		}
	}
	return n
}
