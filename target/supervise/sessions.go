package supervise

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"cloison/format/session"
	"cloison/linux/clock"
	log "cloison/linux/kmsg"
	"cloison/linux/socket"
)

// starters are the services that may ask for sessions. They have found out who
// is there; PID 1 knows where from.
var starters = []string{"sshd", "console"}

// rolePrefix is before the role in the name of the service that is its session.
const rolePrefix = "role-"

// atConsole is where a session comes from that no connection asked for.
const atConsole = "console"

// order is what a service asks for: a session of a role, with two files that lead
// to whoever is there.
type order struct {
	run   *run
	text  string // ROLE NAME
	files []*os.File
	// answer takes one text without waiting.
	answer chan string
}

// Files of an order.
const (
	channelFile = "channel" // what is typed, and what is shown
	controlFile = "control" // messages beside it
	ticketFile  = "session" // the ticket
)

// maxOrder bounds an order, in bytes.
const maxOrder = 256

// makeKey makes the key of this boot's tickets.
func (s *supervisor) makeKey() (err error) {
	s.public, s.key, err = ed25519.GenerateKey(rand.Reader)
	return err
}

// whispered returns a socket with one message in it, and nothing behind.
func whispered(message string) (*os.File, error) {
	ours, theirs, err := socket.Pair()
	if err != nil {
		return nil, err
	}
	_, err = ours.WriteString(message)
	if err = errors.Join(err, ours.Close()); err != nil {
		return nil, errors.Join(err, theirs.Close())
	}
	return theirs, nil
}

// takeOrders hands orders to the loop until the other side ends, or asks for
// something else.
func (r *run) takeOrders(orders chan<- order) error {
	b := make([]byte, maxOrder)
	for {
		text, files, err := socket.ReceiveFiles(r.orders, b, 2)
		if errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) || errors.Is(err, syscall.ECONNRESET) {
			return nil // the loop hears of the end by SIGCHLD
		}
		if err != nil {
			return nil // one that sends what cannot be received is not answered
		}
		answer := make(chan string, 1)
		orders <- order{r, text, files, answer}
		// This goroutine waits for one who does not read, and the loop does not.
		if _, err := r.orders.WriteString(<-answer); err != nil {
			return nil // the loop hears of the end by SIGCHLD
		}
		time.Sleep(pace)
	}
}

// order starts a session, or says why not.
func (s *supervisor) order(o order) error {
	close := func() {
		for _, f := range o.files {
			_ = f.Close() // who waits at the other end hears that
		}
	}
	if o.run.of.run != o.run {
		close()
		o.answer <- "" // of one that has ended meanwhile
		return nil
	}
	err := s.startSession(o)
	answer := "started"
	if err != nil {
		close()
		answer = "refused: " + err.Error()
		if err := s.log.Printf(log.Info, "cloison: service %s gets no session: %v", o.run.of.title(), err); err != nil {
			return err
		}
	}
	o.answer <- answer
	return nil
}

func (s *supervisor) startSession(o order) error {
	h := o.run.of
	role, name, ok := strings.Cut(o.text, " ")
	from := atConsole
	switch {
	case !slices.Contains(starters, h.Name):
		return errors.New("this service may not ask for sessions")
	case !ok || len(o.files) != 2:
		return errors.New("not a role, a name and two files")
	case s.ending != nil:
		return errors.New("the machine is going down")
	case h.instance != nil && h.instance.session != nil:
		return errors.New("a connection has one session")
	}
	if h.instance != nil {
		from = h.instance.from.String()
	}
	at := slices.IndexFunc(s.kinds, func(k *kind) bool { return k.Name == rolePrefix+role })
	if at < 0 {
		return fmt.Errorf("there is no role %q", role)
	}
	k := s.kinds[at]
	if n := s.running(k); n >= k.Start.Instances {
		return fmt.Errorf("%d sessions of the role %s are open, no more", n, role)
	}
	one := session.Session{ID: s.sessions + 1, Role: role, Name: name, From: from, Started: clock.SinceBoot()}
	ticket, err := one.Sign(s.key)
	if err != nil {
		return err
	}
	theirs, err := whispered(ticket)
	if err != nil {
		return err
	}
	s.sessions++
	i := &instance{handed: map[string]*os.File{channelFile: o.files[0], controlFile: o.files[1], ticketFile: theirs}, from: netip.Addr{}}
	if h.instance != nil {
		i.parent = h
		i.parent.instance.of.door.proven(h.instance.from)
		h.next(time.Now(), told, "")
	}
	if err := s.begin(k, i); err != nil {
		return err
	}
	return s.log.Printf(log.Info, "cloison: session %d: %s as %s from %s, service %s", one.ID, name, role, from, i.title())
}
