package machine_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cloison/host/machine"
	"cloison/host/sdk"
	"cloison/host/sdk/sdktest"
)

// The test binary is also the program that starts a machine and then ends in
// the way that these variables say.
const (
	lifeEnd    = "CLOISON_TEST_END"
	lifeSDK    = "CLOISON_TEST_SDK"
	lifeFolder = "CLOISON_TEST_FOLDER"
	lifeImage  = "CLOISON_TEST_IMAGE"
)

func TestMain(m *testing.M) {
	if end := os.Getenv(lifeEnd); end != "" {
		if err := live(end); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// live starts a machine, says so on stdout, and ends.
func live(end string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := &sdk.SDK{Root: os.Getenv(lifeSDK)}
	f, err := machine.OpenFolder(os.Getenv(lifeFolder))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Prepare(s, os.Getenv(lifeImage)); err != nil {
		return err
	}
	m, err := machine.Start(ctx, machine.Config{SDK: s, Folder: f})
	if err != nil {
		return err
	}
	defer m.Close()
	fmt.Println("started")
	// The test goes on when it has seen our processes.
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	switch end {
	case "panic":
		panic("on purpose")
	case "exit":
		os.Exit(0)
	}
	<-m.Done()
	return nil
}

// However the program that started a machine ends, no process of the machine
// stays.
func TestNothingStays(t *testing.T) {
	s := sdktest.Open(t)
	image := filepath.Join(t.TempDir(), "disk.img")
	write(t, image, strings.Repeat("\x00", 1<<20))
	for _, how := range []struct {
		name   string
		signal syscall.Signal
	}{
		{"SIGKILL", syscall.SIGKILL},
		{"SIGTERM", syscall.SIGTERM},
		{"SIGINT", syscall.SIGINT},
		{"panic", 0},
		{"exit", 0},
	} {
		t.Run(how.name, func(t *testing.T) {
			c := exec.Command(os.Args[0])
			c.Env = append(os.Environ(), lifeEnd+"="+how.name, lifeSDK+"="+s.Root,
				lifeFolder+"="+filepath.Join(t.TempDir(), "machine"), lifeImage+"="+image)
			stdin, err := c.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			stdout, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Process.Kill(); c.Wait() })
			if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "started\n" {
				t.Fatalf("the machine did not start: %q, %v", line, err)
			}
			below := descendants(t, c.Process.Pid)
			for _, program := range []string{"qemu-system-x86", "swtpm"} {
				if !strings.Contains(fmt.Sprint(below), program) {
					t.Errorf("processes %v, want one of %s", below, program)
				}
			}
			if _, err := fmt.Fprintln(stdin, "go on"); err != nil {
				t.Fatal(err)
			}
			if how.signal != 0 {
				if err := c.Process.Signal(how.signal); err != nil {
					t.Fatal(err)
				}
			}
			c.Wait()
			gone(t, below)
		})
	}
}

func TestNothingStaysAfterCancel(t *testing.T) {
	s := sdktest.Open(t)
	image := filepath.Join(t.TempDir(), "disk.img")
	write(t, image, strings.Repeat("\x00", 1<<20))
	f := open(t, t.TempDir())
	if err := f.Prepare(s, image); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	m, err := machine.Start(ctx, machine.Config{SDK: s, Folder: f})
	if err != nil {
		t.Fatal(err)
	}
	below := descendants(t, os.Getpid())
	cancel()
	<-m.Done()
	gone(t, below)
	m.Close()
}

// process is one process: ids are used again, start times are not.
type process struct {
	pid  int
	name string
	born string // in clock ticks since the kernel's start
}

// descendants lists the processes below pid, from /proc/PID/stat (proc(5)).
func descendants(t *testing.T, pid int) []process {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	children := map[int][]process{}
	for _, path := range stats {
		if p, parent, ok := inspect(path); ok {
			children[parent] = append(children[parent], p)
		}
	}
	var all []process
	for next := []int{pid}; len(next) > 0; next = next[1:] {
		for _, p := range children[next[0]] {
			all = append(all, p)
			next = append(next, p.pid)
		}
	}
	if len(all) == 0 {
		t.Errorf("no process below %d", pid)
	}
	return all
}

// inspect reads one stat file. A process that is gone, or dead and not yet
// reaped, is not there.
func inspect(path string) (p process, parent int, ok bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return p, 0, false
	}
	start, end := strings.Index(string(text), "("), strings.LastIndex(string(text), ")")
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return p, 0, false
	}
	p.pid, err = strconv.Atoi(strings.TrimSpace(string(text[:start])))
	if err != nil {
		return p, 0, false
	}
	parent, err = strconv.Atoi(fields[1])
	p.name, p.born = string(text[start+1:end]), fields[19]
	return p, parent, err == nil
}

// gone waits until none of the processes is left. Killing spreads over pid
// namespaces, which takes the kernel a moment.
func gone(t *testing.T, processes []process) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for {
		var left []process
		for _, p := range processes {
			if now, _, ok := inspect(fmt.Sprintf("/proc/%d/stat", p.pid)); ok && now == p {
				left = append(left, p)
			}
		}
		if len(left) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("still there: %v", left)
		}
	}
}
