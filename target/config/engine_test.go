package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"cloison/format/config"
	"cloison/format/session"
)

// owner keeps a document in memory.
type owner struct {
	document string
	fails    map[string]error // by a text in the document
	applied  []string
	lies     bool // takes a document and keeps its own
}

func (o *owner) Apply(document []byte) error {
	for text, err := range o.fails {
		if strings.Contains(string(document), text) {
			return err
		}
	}
	o.applied = append(o.applied, string(document))
	if !o.lies {
		o.document = string(document)
	}
	return nil
}

func (o *owner) Running() ([]byte, error) { return []byte(o.document), nil }

// machine is a configuration service with its owners.
type machine struct {
	t        testing.TB
	o        Options
	engine   *Engine
	owners   map[string]*owner
	said     []string
	sessions uint64
}

func newMachine(t testing.TB, change ...func(*Options)) *machine {
	t.Helper()
	policy := config.Policy{Delegate: []string{"system.*", "time.*", "access.*"}, Defaults: map[string]map[string]any{"time": {"servers": []string{"ntp.example"}}}}
	defaults, err := policy.Documents()
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	m := &machine{t: t, owners: map[string]*owner{"system": {}, "time": {}}}
	m.o = Options{
		Folder: t.TempDir(), Policy: policy, Defaults: defaults, Owners: map[string]Owner{"system": m.owners["system"], "time": m.owners["time"], "access": nil},
		Now: time.Now, SinceBoot: func() time.Duration { return time.Since(begun) }, Say: func(line string) { m.said = append(m.said, line) },
	}
	for _, c := range change {
		c(&m.o)
	}
	m.start()
	return m
}

// start starts the service, as after a restart of the machine: owners read their
// files.
func (m *machine) start() {
	m.t.Helper()
	var err error
	if m.engine, err = Open(m.o); err != nil {
		m.t.Fatal(err)
	}
	for concern, o := range m.owners {
		o.document = m.file(concern)
	}
	m.engine.Settle()
}

// session is a new one of somebody.
func (m *machine) session(name string) session.Session {
	m.sessions++
	return session.Session{ID: m.sessions, Role: "admin", Name: name, From: "192.0.2.1", Started: m.o.SinceBoot()}
}

func (m *machine) commit(s session.Session, texts map[string]string) error {
	m.t.Helper()
	number, _ := m.engine.Documents()
	_, _, _, err := m.engine.Commit(s, number, texts, time.Minute)
	return err
}

func (m *machine) file(concern string) string {
	m.t.Helper()
	b, err := os.ReadFile(filepath.Join(m.o.Folder, "running", concern, concern+".toml"))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(b)
}

// holds checks that a text is in the documents of the owners and in the files that
// they start with.
func (m *machine) holds(concern, text string) {
	m.t.Helper()
	if got := m.file(concern); !strings.Contains(got, text) {
		m.t.Errorf("the file %s is %q, want %q in it", concern, got, text)
	}
	if o := m.owners[concern]; o != nil && !strings.Contains(o.document, text) {
		m.t.Errorf("the owner of %s has %q, want %q in it", concern, o.document, text)
	}
	if left, err := filepath.Glob(filepath.Join(m.o.Folder, "running/*/*")); err != nil || m.engine.waiting == nil && len(left) != len(config.Concerns()) {
		m.t.Errorf("files are left: %q, %v", left, err)
	}
}

const (
	newName    = `hostname = "gate-1"` + "\n"
	newServers = `servers = ["192.0.2.9"]` + "\n"
)

var both = map[string]string{"system": newName, "time": newServers}

func TestConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		m.holds("time", "ntp.example")
		alice := m.session("alice")
		time.Sleep(time.Second)
		number, wait, changes, err := m.engine.Commit(alice, 0, both, 0)
		if err != nil || number != 1 || wait != 2*time.Minute || len(changes) != 2 {
			t.Fatalf("Commit = %d, %v, %v, %v", number, wait, changes, err)
		}
		m.holds("system", "gate-1")
		m.holds("time", "192.0.2.9")
		time.Sleep(time.Second)
		if _, err := m.engine.Confirm(alice); !errors.Is(err, errSession) {
			t.Errorf("Confirm from the same session = %v, want that it is refused", err)
		}
		again := m.session("alice")
		if n, err := m.engine.Confirm(again); err != nil || n != 1 {
			t.Fatalf("Confirm = %d, %v", n, err)
		}
		time.Sleep(time.Hour)
		m.start()
		m.holds("system", "gate-1")
		m.holds("time", "192.0.2.9")
		history, err := m.engine.History(10)
		if err != nil || len(history) != 1 {
			t.Fatalf("History = %v, %v", history, err)
		}
		h := history[0]
		if h.By != person(alice) || h.ConfirmedBy != person(again) || h.What != "commit" || h.Documents["system"] != newName || len(h.Changes) != 2 {
			t.Errorf("the history has %+v", h)
		}
		if _, err := m.engine.Confirm(m.session("alice")); !errors.Is(err, errNothing) {
			t.Errorf("a second Confirm = %v", err)
		}
	})
}

// TestNotConfirmed: what nobody confirms is taken back, also by those who were there
// before, and whatever the clock says.
func TestNotConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := time.Now()
		m := newMachine(t, func(o *Options) { o.Now = func() time.Time { return clock } })
		early := m.session("bob")
		time.Sleep(time.Second)
		if err := m.commit(m.session("alice"), both); err != nil {
			t.Fatal(err)
		}
		if _, err := m.engine.Confirm(early); !errors.Is(err, errSession) {
			t.Errorf("Confirm from a session of before = %v, want that it is refused", err)
		}
		clock = clock.AddDate(-30, 0, 0)
		time.Sleep(time.Minute - time.Millisecond)
		m.holds("system", "gate-1")
		clock = clock.AddDate(60, 0, 0)
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		m.holds("system", "cloison")
		m.holds("time", "ntp.example")
		if _, err := m.engine.Confirm(m.session("bob")); !errors.Is(err, errNothing) {
			t.Errorf("Confirm when it is too late = %v", err)
		}
		if !slices.ContainsFunc(m.said, func(s string) bool { return strings.HasPrefix(s, "nobody has confirmed revision 1") }) {
			t.Errorf("nothing of it is in the log: %q", m.said)
		}
		m.start()
		m.holds("system", "cloison")
	})
}

func TestTakeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		s := m.session("alice")
		if err := m.engine.TakeBack(s); !errors.Is(err, errNothing) {
			t.Errorf("TakeBack of nothing = %v", err)
		}
		if err := m.commit(s, both); err != nil {
			t.Fatal(err)
		}
		if err := m.engine.TakeBack(s); err != nil {
			t.Fatal(err)
		}
		m.holds("system", "cloison")
		m.holds("time", "ntp.example")
		if err := m.commit(s, both); err != nil {
			t.Errorf("a commit after it = %v", err)
		}
		if err := m.engine.TakeBack(s); err != nil {
			t.Fatal(err)
		}
	})
}

// TestOwnerRefuses: all is as before, also what was applied already; an owner that
// says yes and does nothing is found out.
func TestOwnerRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*machine){
		"says no": func(m *machine) { m.owners["time"].fails = map[string]error{"192.0.2.9": errors.New("no way")} },
		"lies":    func(m *machine) { m.owners["time"].lies = true },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			spoil(m)
			var refused *refusedError
			if err := m.commit(m.session("alice"), both); !errors.As(err, &refused) || refused.concern != "time" {
				t.Errorf("Commit = %v, want that time is refused", err)
			}
			m.holds("system", "cloison")
			m.holds("time", "ntp.example")
			if len(m.owners["system"].applied) != 2 {
				t.Errorf("system was applied %d times, want there and back", len(m.owners["system"].applied))
			}
			if _, _, ok := m.engine.Waiting(); ok {
				t.Error("a commit waits")
			}
		})
	}
}

func TestTwoCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		if err := m.commit(m.session("alice"), map[string]string{"system": newName}); err != nil {
			t.Fatal(err)
		}
		var busy *busyError
		if err := m.commit(m.session("bob"), map[string]string{"time": newServers}); !errors.As(err, &busy) || busy.by.Name != "alice" {
			t.Errorf("a second Commit = %v, want that alice's waits", err)
		}
		time.Sleep(time.Second)
		if _, err := m.engine.Confirm(m.session("bob")); err != nil {
			t.Fatal(err)
		}
		// What bob wanted was made from revision 0.
		if _, _, _, err := m.engine.Commit(m.session("bob"), 0, map[string]string{"time": newServers}, 0); !errors.Is(err, errStale) {
			t.Errorf("a Commit of old documents = %v, want that it is refused", err)
		}
	})
}

func TestTwoPersons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, func(o *Options) { o.Policy.TwoPersons = true })
		if err := m.commit(m.session("alice"), both); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if _, err := m.engine.Confirm(m.session("alice")); !errors.Is(err, errPerson) {
			t.Errorf("Confirm by the same person = %v, want that it is refused", err)
		}
		if _, err := m.engine.Confirm(m.session("bob")); err != nil {
			t.Errorf("Confirm by another = %v", err)
		}
	})
}

func TestRefused(t *testing.T) {
	m := newMachine(t, func(o *Options) { o.Policy.Delegate = []string{"system.hostname", "network.*"} })
	for name, test := range map[string]struct {
		texts map[string]string
		want  string
	}{
		"not delegated":  {map[string]string{"time": newServers}, "time.servers is the product's"},
		"partly":         {map[string]string{"system": newName + `idle = "1h"` + "\n"}, "system.idle is the product's"},
		"unknown key":    {map[string]string{"system": "hostnam = \"x\"\n"}, `system: line 1: unknown key "hostnam"`},
		"no such":        {map[string]string{"firewall": ""}, `unknown document "firewall"`},
		"nobody applies": {map[string]string{"network": "resolvers = [\"192.0.2.1\"]\n"}, "network: nothing in this product applies it"},
		"too large":      {map[string]string{"system": strings.Repeat("#", config.MaxDocument+1)}, "larger than"},
	} {
		err := m.commit(m.session("alice"), test.texts)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Commit = %v, want %q", name, err, test.want)
		}
	}
	number, wait, changes, err := m.engine.Commit(m.session("alice"), 0, map[string]string{"system": "# the product's\n"}, 0)
	if number != 0 || wait != 0 || len(changes) != 0 || err != nil {
		t.Errorf("Commit of what holds = %d, %v, %v, %v, want nothing", number, wait, changes, err)
	}
	if files, err := filepath.Glob(filepath.Join(m.o.Folder, "history/*")); err != nil || len(files) != 0 {
		t.Errorf("the history has %q, %v", files, err)
	}
}

func TestRollback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		confirm := func() {
			t.Helper()
			time.Sleep(time.Second)
			if _, err := m.engine.Confirm(m.session("bob")); err != nil {
				t.Fatal(err)
			}
		}
		for _, text := range []string{newServers, "servers = []\n"} {
			if err := m.commit(m.session("alice"), map[string]string{"time": text}); err != nil {
				t.Fatal(err)
			}
			confirm()
		}
		if got := m.file("time"); got != "" {
			t.Errorf("the file time is %q, want no servers, whatever the product has", got)
		}
		for _, test := range []struct {
			to   uint64
			want string
		}{{1, "192.0.2.9"}, {0, "ntp.example"}} {
			number, _, _, err := m.engine.Rollback(m.session("alice"), test.to, 0)
			if err != nil {
				t.Fatal(err)
			}
			m.holds("time", test.want)
			confirm()
			if h, err := m.engine.History(1); err != nil || h[0].Number != number || !strings.HasPrefix(h[0].What, "rollback to ") {
				t.Errorf("History = %+v, %v", h, err)
			}
		}
		if _, _, _, err := m.engine.Rollback(m.session("alice"), 2, 0); err != nil {
			t.Fatal(err)
		}
		if got := m.owners["time"].document; got != "" {
			t.Errorf("after a rollback to no servers the owner has %q", got)
		}
		if _, _, _, err := m.engine.Rollback(m.session("alice"), 99, 0); err == nil {
			t.Error("Rollback to a revision that is not there succeeds")
		}
		changes, err := m.engine.Between(0, 2)
		if want := []config.Change{{Concern: "time", Key: "servers", Before: `["ntp.example"]`}}; err != nil || cmp.Diff(want, changes) != "" {
			t.Errorf("Between(0, 2) = %v, %v", changes, err)
		}
	})
}

// TestRestartWhileWaiting: a restart at any point before the confirmation takes everything
// back; the tests of real kills are below.
func TestRestartWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		if err := m.commit(m.session("alice"), both); err != nil {
			t.Fatal(err)
		}
		m.engine.waiting.timer.Stop() // the old process is gone
		m.start()
		m.holds("system", "cloison")
		m.holds("time", "ntp.example")
		if err := m.commit(m.session("alice"), both); err != nil {
			t.Errorf("a commit after it = %v", err)
		}
		m.engine.waiting.timer.Stop()
	})
}

// TestServiceAlone: only the configuration service ended: owners that have gone on
// get back what is confirmed.
func TestServiceAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		if err := m.commit(m.session("alice"), both); err != nil {
			t.Fatal(err)
		}
		m.engine.waiting.timer.Stop()
		var err error
		if m.engine, err = Open(m.o); err != nil {
			t.Fatal(err)
		}
		if err := m.commit(m.session("alice"), both); !errors.Is(err, errStart) {
			t.Errorf("Commit while owners have not what is confirmed = %v", err)
		}
		m.engine.Settle()
		m.holds("system", "cloison")
		m.holds("time", "ntp.example")
	})
}

// TestOtherRelease: a document of a release that had other keys does not stop the
// machine, and opens nothing.
func TestOtherRelease(t *testing.T) {
	m := newMachine(t)
	r := config.Revision{
		Number: 1, Time: time.Now(), What: "commit", By: config.Person{Name: "alice"},
		Documents: map[string]string{"system": newName, "time": "sources = []\n", "sound": "volume = 11\n"},
	}
	if err := m.engine.store.keep(r); err != nil {
		t.Fatal(err)
	}
	m.start()
	m.holds("system", "gate-1")
	m.holds("time", "ntp.example")
	if !slices.ContainsFunc(m.said, func(s string) bool { return strings.Contains(s, "does not understand") }) {
		t.Errorf("nothing of it is in the log: %q", m.said)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	m := newMachine(t)
	for n := range uint64(maxRevisions + 10) {
		r := config.Revision{Number: n + 1, Time: time.Now(), What: "commit", By: config.Person{Name: "alice"}}
		if err := m.engine.store.keep(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.engine.store.shrink(); err != nil {
		t.Fatal(err)
	}
	numbers, err := m.engine.store.numbers()
	if err != nil || len(numbers) != maxRevisions || numbers[0] != 11 {
		t.Errorf("the history has %d revisions from %d, %v", len(numbers), numbers[0], err)
	}
}

func TestOwnersAreOfDocuments(t *testing.T) {
	for concern := range sockets {
		if !slices.Contains(config.Concerns(), concern) {
			t.Errorf("%s has a socket and is no document", concern)
		}
	}
}
