package config

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cloison/format/config"
	"cloison/format/session"
	"cloison/linux/mount"
	"cloison/linux/socket"
	"cloison/target/apply"
	"cloison/target/varlink"
)

// These tests run the engine in processes of its own, with its owners behind real
// sockets, and kill it.

// childFolder is the variable that makes this test program such a process.
const childFolder = "CLOISON_TEST_CONFIGD"

func TestMain(m *testing.M) {
	if folder := os.Getenv(childFolder); folder != "" {
		if err := child(folder, os.Getenv("DIE_AT"), os.Args[len(os.Args)-1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child is a configuration service that does one thing. It says each step that it
// reaches and kills itself at one of them.
func child(folder, dieAt, what string) error {
	policy := config.Policy{Delegate: []string{"system.*", "time.*", "access.*"}}
	defaults, err := policy.Documents()
	if err != nil {
		return err
	}
	owners := map[string]Owner{"access": nil}
	for _, concern := range []string{"system", "time"} {
		owners[concern] = apply.Remote{Socket: filepath.Join(folder, concern+".socket"), Patience: time.Minute}
	}
	begun := time.Now()
	e, err := Open(Options{
		Folder: filepath.Join(folder, "state"), Policy: policy, Defaults: defaults, Owners: owners,
		Now: time.Now, SinceBoot: func() time.Duration { return time.Since(begun) + time.Second }, Say: func(string) {},
		step: func(name string) {
			fmt.Println(name)
			if name == dieAt {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		},
	})
	if err != nil {
		return err
	}
	e.Settle()
	number, _ := e.Documents()
	alice := session.Session{ID: 1, Role: "admin", Name: "alice", From: "192.0.2.1"}
	switch what {
	case "start":
		return nil
	case "first", "second":
		texts := map[string]string{"system": "hostname = \"" + what + "\"\n", "time": "servers = [\"" + what + "\"]\n", "access": "[ssh]\nnetworks = [\"" + what + "\"]\n"}
		changed := uint64(0)
		if changed, _, _, err = e.Commit(alice, number, texts, time.Minute); err == nil && changed == 0 {
			return nil // it holds
		}
	case "back":
		_, _, _, err = e.Commit(alice, number, map[string]string{"system": "hostname = \"second\"\n", "time": "servers = [\"second\"]\n"}, time.Minute)
		if err == nil {
			return e.TakeBack(alice)
		}
	}
	if err != nil {
		return err
	}
	_, err = e.Confirm(session.Session{ID: 2, Role: "admin", Name: "bob", From: "192.0.2.1", Started: time.Since(begun) + time.Minute})
	return err
}

// lockedOwner is an owner that answers several at once.
type lockedOwner struct {
	mu sync.Mutex
	owner
}

func (o *lockedOwner) Apply(document []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.owner.Apply(document)
}

func (o *lockedOwner) Running() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return []byte(o.document)
}

// site is a folder with owners that go on while the service is killed.
type site struct {
	t      *testing.T
	folder string
	owners map[string]*lockedOwner
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t, t.TempDir(), map[string]*lockedOwner{}}
	for _, concern := range []string{"system", "time"} {
		o := &lockedOwner{}
		s.owners[concern] = o
		l, err := socket.Listen(filepath.Join(s.folder, concern+".socket"), socket.Stream, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		server, err := varlink.New(varlink.Service{
			Product: "test", Version: "0", Definitions: []string{apply.Definition}, Methods: apply.Methods(o),
			Peers: map[uint32]string{uint32(os.Getuid()): apply.Caller},
		})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = server.Serve(l, func(error) {}) // a killed client is what is tested
		}()
		t.Cleanup(func() { _ = l.Close(); <-done })
	}
	if err := os.Mkdir(filepath.Join(s.folder, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) command(what, dieAt string) *exec.Cmd {
	c := exec.Command(os.Args[0], what)
	c.Env = append(os.Environ(), childFolder+"="+s.folder, "DIE_AT="+dieAt)
	c.Stderr = os.Stderr
	return c
}

// run runs a service that does one thing and returns the steps that it said.
func (s *site) run(what, dieAt string) []string {
	s.t.Helper()
	out, err := s.command(what, dieAt).Output()
	var exit *exec.ExitError
	switch {
	case dieAt == "" && err != nil:
		s.t.Fatalf("%s: %v", what, err)
	case dieAt != "" && (!errors.As(err, &exit) || !strings.Contains(exit.String(), "killed")):
		s.t.Fatalf("%s was not killed at %q: %v", what, dieAt, err)
	}
	return strings.Fields(strings.ReplaceAll(strings.ReplaceAll(string(out), " ", "_"), "\n", " "))
}

// holds returns whose configuration holds; it is whole: in each owner and in each
// file.
func (s *site) holds() string {
	s.t.Helper()
	where := map[string]string{}
	for _, concern := range []string{"system", "time", "access"} {
		b, err := os.ReadFile(filepath.Join(s.folder, "state/running", concern, concern+".toml"))
		if err != nil {
			s.t.Fatal(err)
		}
		where["file "+concern] = string(b)
	}
	for concern, o := range s.owners {
		where["owner "+concern] = string(o.Running())
	}
	found := ""
	for at, text := range where {
		state := "default"
		for _, name := range []string{"first", "second"} {
			if strings.Contains(text, `"`+name+`"`) {
				state = name
			}
		}
		if found == "" {
			found = state
		}
		if state != found {
			s.t.Errorf("two configurations hold: %s has %s, another %s: %q", at, state, found, where)
		}
	}
	return found
}

// TestKilled kills the service at each step of a commit that is confirmed, and of
// one that is taken back, and starts it again: all of the old configuration holds,
// or all of the new one once its confirmation is on the disk.
func TestKilled(t *testing.T) {
	for _, test := range []struct{ what, end string }{{"second", "second"}, {"back", "first"}} {
		s := newSite(t)
		s.run("first", "")
		steps := s.run(test.what, "")
		if got := s.holds(); got != test.end {
			t.Fatalf("after %s without a kill %s holds", test.what, got)
		}
		if len(steps) < 8 {
			t.Fatalf("%s has the steps %q", test.what, steps)
		}
		kept := false
		for _, step := range steps {
			s := newSite(t)
			s.run("first", "")
			step = strings.ReplaceAll(step, "_", " ")
			s.run(test.what, step)
			kept = kept || step == "kept"
			want := "first"
			if kept {
				want = "second"
			}
			s.run("start", "")
			if got := s.holds(); got != want {
				t.Errorf("killed at %q of %s: %s holds, want %s", step, test.what, got, want)
			}
			// It is as good as new.
			s.run("second", "")
			if got := s.holds(); got != "second" {
				t.Errorf("a commit after a kill at %q: %s holds", step, got)
			}
		}
	}
}

// TestKilledAnywhere kills it between the steps, too.
func TestKilledAnywhere(t *testing.T) {
	s := newSite(t)
	s.run("first", "")
	begun := time.Now()
	s.run("start", "")
	s.run("second", "")
	whole := time.Since(begun)
	const kills = 30
	ended := map[string]int{}
	for n := range kills {
		s.run("first", "")
		c := s.command("second", "")
		out, err := c.StdoutPipe()
		if err == nil {
			err = c.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		// The first step says that the commit has begun: from there on it is killed
		// a little later each time.
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		timer := time.AfterFunc(whole*time.Duration(n)/kills/2, func() { _ = c.Process.Kill() }) // it may have ended
		_ = c.Wait()                                                                             // how it ended is what holds
		timer.Stop()
		s.run("start", "")
		ended[s.holds()]++
	}
	t.Logf("after %d kills: %v", kills, ended)
	if ended["first"] == 0 || ended["first"]+ended["second"] != kills {
		t.Errorf("after %d kills: %v; want the first, and later the second", kills, ended)
	}
}

// TestFullVolume: on a volume without space a commit is refused or taken back, and
// what held holds, also after a restart; with space again it goes on.
func TestFullVolume(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("this test fills a file system of its own: run it as root")
	}
	s := newSite(t)
	state := filepath.Join(s.folder, "state")
	if err := mount.Mount("tmpfs", state, "tmpfs", "size=256k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := mount.Unmount(state); err != nil {
			t.Error(err)
		}
	})
	s.run("first", "")
	filler := filepath.Join(state, "filler")
	outcomes := map[string]int{}
	// Ever less space is left, a page at a time, until there is none.
	for pages := 12; pages >= 0; pages-- {
		fill(t, filler, pages)
		c := s.command("second", "")
		var said bytes.Buffer
		c.Stderr = &said
		err := c.Run()
		if err == nil {
			outcomes["second"]++
			remove(t, filler)
			s.run("first", "")
			continue
		}
		outcomes["refused"]++
		if !strings.Contains(said.String(), "no space left") {
			t.Errorf("with %d pages left the commit fails with %q", pages, said.String())
		}
		s.run("start", "") // still full
		if got := s.holds(); got != "first" {
			t.Errorf("with %d pages left %s holds after a restart", pages, got)
		}
		remove(t, filler)
	}
	if outcomes["second"] == 0 || outcomes["refused"] == 0 {
		t.Errorf("the commits ended so: %v; want some of each", outcomes)
	}
	s.run("second", "")
	if got := s.holds(); got != "second" {
		t.Errorf("with space again %s holds", got)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// fill leaves so many pages of a file system.
func fill(t *testing.T, filler string, pages int) {
	t.Helper()
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	page := make([]byte, 4096)
	size := int64(0)
	for {
		if _, err := f.WriteAt(page, size); err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			break
		}
		size += int64(len(page))
	}
	if err := errors.Join(f.Truncate(max(0, size-int64(pages*len(page)))), f.Close()); err != nil {
		t.Fatal(err)
	}
}
