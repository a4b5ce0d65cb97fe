package process

import (
	"errors"
	"os"
	"os/signal"
	"strings"
	"testing"
	"time"
)

// TestMain is also the program that the tests run.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-test.") {
		program(os.Args[1])
	}
	os.Exit(m.Run())
}

func program(what string) {
	switch what {
	case "inputs":
		for _, fd := range []uintptr{0, 3, 4} {
			b := make([]byte, 100)
			n, err := os.NewFile(fd, "").Read(b)
			os.Stdout.WriteString(string(b[:n]) + ".")
			if err != nil {
				os.Stdout.WriteString(err.Error())
			}
		}
	case "environment":
		os.Stdout.WriteString(strings.Join(os.Environ(), ","))
	case "fail":
		os.Stderr.WriteString("no\nluck\n")
		os.Exit(7)
	case "hang":
		signals := make(chan os.Signal, 1)
		signal.Notify(signals)
		for range signals {
		}
	}
	os.Exit(0)
}

func TestRun(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	secrets := [][]byte{[]byte("a"), []byte("b"), []byte("c")}
	for _, c := range []struct {
		name   string
		inputs [][]byte
		env    []string
		want   string
	}{
		{"inputs", secrets, nil, "a.b.c."},
		{"environment", nil, []string{"A=1"}, "A=1"},
		{"environment", [][]byte{make([]byte, 1<<20)}, nil, ""}, // nobody reads it
	} {
		var seen strings.Builder
		out, err := Run(Command{
			Path: self, Args: []string{c.name}, Env: c.env, Inputs: c.inputs, Deadline: time.Minute,
			Progress: func(b []byte) { seen.Write(b) },
		})
		if string(out) != c.want || seen.String() != c.want || err != nil {
			t.Errorf("Run(%s) = %q, %v, and told %q, want %q", c.name, out, err, seen.String(), c.want)
		}
	}
}

func TestRunFails(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	_, err = Run(Command{Path: self, Args: []string{"fail"}, Deadline: time.Minute})
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != 7 || exit.Text != "no luck" {
		t.Errorf("Run(fail) = %v, want exit 7: no luck", err)
	}
	if _, err = Run(Command{Path: self, Args: []string{"hang"}, Deadline: 100 * time.Millisecond}); !errors.Is(err, ErrDeadline) {
		t.Errorf("Run(hang) = %v, want %v", err, ErrDeadline)
	}
	if _, err = Run(Command{Path: "/nowhere", Deadline: time.Minute}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Run(/nowhere) = %v, want %v", err, os.ErrNotExist)
	}
}
