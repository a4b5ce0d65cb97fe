package supervise

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"cloison/format/service"
	"cloison/format/session"
	"cloison/linux/socket"
)

// asker is a service that asks for sessions, and a supervisor that has the role
// admin.
func asker(t *testing.T, name string) (*supervisor, *hosted) {
	t.Helper()
	s := &supervisor{}
	if err := s.makeKey(); err != nil {
		t.Fatal(err)
	}
	s.kinds = []*kind{{Service: &service.Service{Name: "role-admin", Start: service.Start{Instances: 1}}}}
	k := &kind{Service: &service.Service{Name: name}, door: newDoor(service.Accept{Port: 22, Waiting: 4, Each: 2, Minute: 60}, 4)}
	return s, &hosted{unit: &unit{Service: k.Service}, instance: &instance{of: k, number: 1, from: netip.MustParseAddr("192.0.2.7")}}
}

func TestSessionRefused(t *testing.T) {
	two := func(n int) []*os.File { return make([]*os.File, n) }
	for want, test := range map[string]struct {
		service, text string
		files         int
		change        func(*supervisor, *hosted)
	}{
		"this service may not ask":     {service: "timed", text: "admin alice", files: 2},
		"not a role, a name and two":   {service: "sshd", text: "admin", files: 2},
		"a name and two files":         {service: "sshd", text: "admin alice", files: 1},
		`there is no role "audit"`:     {service: "sshd", text: "audit alice", files: 2},
		`there is no role ""`:          {service: "sshd", text: " alice", files: 2},
		`there is no role "../admin"`:  {service: "sshd", text: "../admin alice", files: 2},
		`"" is no name`:                {service: "sshd", text: "admin ", files: 2},
		`"alice bob" is no name`:       {service: "sshd", text: "admin alice bob", files: 2},
		`"alice\nbob" is no name`:      {service: "sshd", text: "admin alice\nbob", files: 2},
		"the machine is going down":    {service: "sshd", text: "admin alice", files: 2, change: func(s *supervisor, _ *hosted) { s.ending = &end{} }},
		"a connection has one session": {service: "sshd", text: "admin alice", files: 2, change: func(_ *supervisor, h *hosted) { h.instance.session = h }},
		"1 sessions of the role admin ": {service: "sshd", text: "admin alice", files: 2, change: func(s *supervisor, _ *hosted) {
			s.services = []*hosted{{unit: &unit{Service: s.kinds[0].Service, stage: ready}, instance: &instance{of: s.kinds[0], number: 1}}}
		}},
	} {
		s, h := asker(t, test.service)
		if test.change != nil {
			test.change(s, h)
		}
		err := s.startSession(order{run: &run{of: h}, text: test.text, files: two(test.files)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s asks for %q: %v, want %s", test.service, test.text, err, want)
		}
		if s.sessions != 0 || len(h.instance.of.door.sources) != 0 {
			t.Errorf("%s asks for %q, and something was done", test.service, test.text)
		}
	}
}

// TestWhispered: who is handed a ticket reads it once, whole, and nothing behind.
func TestWhispered(t *testing.T) {
	s, _ := asker(t, "sshd")
	ticket, err := session.Session{ID: 1, Role: "admin", Name: "alice", From: "192.0.2.7", Started: time.Second}.Sign(s.key)
	if err != nil {
		t.Fatal(err)
	}
	f, err := whispered(ticket)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, session.MaxTicket)
	n, err := f.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	if one, err := session.Verify(string(b[:n]), s.public); err != nil || one.Name != "alice" {
		t.Errorf("the ticket is of %+v, %v", one, err)
	}
	if n, err := f.Read(b); err == nil {
		t.Errorf("%d bytes more: %q", n, b[:n])
	}
}

// TestOrders: an order comes with its files; one with too many, or too long, ends
// the listening, and the loop is not kept waiting by one who does not read.
func TestOrders(t *testing.T) {
	ours, theirs, err := socket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	_, h := asker(t, "sshd")
	r := &run{of: h, orders: ours}
	orders, done := make(chan order), make(chan error, 1)
	go func() { done <- r.takeOrders(orders) }()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := socket.SendFiles(theirs, "admin alice", null, null); err != nil {
		t.Fatal(err)
	}
	o := <-orders
	if o.text != "admin alice" || len(o.files) != 2 {
		t.Errorf("order %q with %d files", o.text, len(o.files))
	}
	o.answer <- "started"
	b := make([]byte, 100)
	if n, err := theirs.Read(b); err != nil || string(b[:n]) != "started" {
		t.Errorf("answer %q, %v", b[:n], err)
	}
	if err := socket.SendFiles(theirs, "admin alice", null, null, null); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, f := range append(o.files, ours, theirs) {
		f.Close()
	}
}
