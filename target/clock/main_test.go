package clock

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloison/format/timekeeping"
)

// TestServe runs the service as its program does, with servers on real sockets of
// which one lies.
func TestServe(t *testing.T) {
	root := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put(program, "")
	if err := os.Chtimes(filepath.Join(root, program), released, released); err != nil {
		t.Fatal(err)
	}
	// A clock that is a day behind has to be after the release all the same.
	now := time.Now()
	if now.Before(released) {
		t.Fatalf("this machine's clock says %v", now)
	}
	put(folder+"/stamp", timekeeping.Stamp{Clock: released.Add(time.Second), Confirmed: released}.String())
	good := func(p []byte) []byte { return p }
	const ahead = 24 * time.Hour
	liar := ntpServer(t, 0, good)
	put(configuration, `servers = ["`+ntpServer(t, ahead, good)+`", "`+liar+`", "`+ntpServer(t, ahead, good)+`"]`)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	m := newMachine(now)
	var out lines
	out.until = func(text string) {
		if strings.Contains(text, "wrong: "+liar) {
			cancel()
		}
	}
	ready := 0
	err := serve(ctx, root, m, &out, func() error { ready++; return nil })
	if err != nil || ready != 1 || len(m.steps) != 1 || (m.wrong-ahead).Abs() > time.Second {
		t.Errorf("serve = %v, ready %d times, steps %v, ahead by %v, want one step of %v\n%s", err, ready, m.steps, m.wrong, ahead, out.text)
	}
	text, err := os.ReadFile(filepath.Join(root, folder, "stamp"))
	if err != nil {
		t.Fatal(err)
	}
	stamp, err := timekeeping.ParseStamp(string(text))
	if err != nil || stamp.Confirmed.Sub(now.Add(ahead)).Abs() > 10*time.Second {
		t.Errorf("the stamp is %v, %v, want about %v", stamp, err, now.Add(ahead))
	}
}

// lines looks at what was written so far after each line.
type lines struct {
	text  string
	until func(string)
}

func (l *lines) Write(b []byte) (int, error) {
	l.text += string(b)
	l.until(l.text)
	return len(b), nil
}

func TestServeRefuses(t *testing.T) {
	root := t.TempDir()
	ready := func() error { t.Error("it says that it is ready"); return nil }
	if err := serve(t.Context(), root, newMachine(released), &lines{}, ready); err == nil || !strings.Contains(err.Error(), "cannot tell the date of the release") {
		t.Errorf("serve without a program = %v", err)
	}
	path := filepath.Join(root, configuration)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("server = []"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := serve(t.Context(), root, newMachine(released), &lines{}, ready); err == nil || !strings.Contains(err.Error(), "line 1: unknown key [server]") {
		t.Errorf("serve with a wrong configuration = %v", err)
	}
}
