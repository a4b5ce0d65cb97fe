package peer

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloison/format/timekeeping"
	"cloison/host/sdk"
	"cloison/host/sdk/sdktest"
	"cloison/linux/clock"
	target "cloison/target/clock"
)

// inSDK is set in the step of the SDK that runs TestChrony's inner half.
const inSDK = "CLOISON_TEST_NTP"

// TestChrony asks a real NTP server, chronyd, through the whole time service. A
// step of the SDK has no network but its own loopback, so this test runs itself
// there, beside the server.
func TestChrony(t *testing.T) {
	if os.Getenv(inSDK) != "" {
		t.Run("synchronised", func(t *testing.T) { askChrony(t, "local stratum 5\n", "synchronised with 1 of 1 servers") })
		t.Run("not synchronised", func(t *testing.T) {
			askChrony(t, "", "not synchronised: too few servers answer; 127.0.0.1:11123: is not synchronised")
		})
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s, dir := sdktest.Open(t), t.TempDir()
	var out bytes.Buffer
	err = s.Run(t.Context(), sdk.Step{
		Args: []string{self, "-test.run=^TestChrony$", "-test.v"}, Env: []string{inSDK + "=1", "TMPDIR=" + dir},
		Dir: dir, ReadOnly: []string{self}, Writable: []string{dir}, Stdout: &out,
	})
	if err != nil || strings.Count(out.String(), "--- PASS") != 3 {
		t.Errorf("in the SDK: %v\n%s", err, out.String())
	}
}

// askChrony starts chronyd and the service, and waits until the service says
// want.
func askChrony(t *testing.T, configuration, want string) {
	const port = "11123"
	dir := t.TempDir()
	path := filepath.Join(dir, "chrony.conf")
	text := configuration + "allow 127.0.0.1\nbindaddress 127.0.0.1\nport " + port + "\ncmdport 0\nbindcmdaddress /\n" +
		"pidfile " + filepath.Join(dir, "pid") + "\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// -x: it leaves the clock alone; -U and -u: it needs no privilege and drops none.
	server := exec.CommandContext(ctx, "chronyd", "-d", "-x", "-U", "-u", "root", "-f", path)
	var log bytes.Buffer
	server.Stderr = &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = server.Wait() // it was killed
		if t.Failed() {
			t.Logf("chronyd says:\n%s", log.String())
		}
	}()
	address := net.JoinHostPort("127.0.0.1", port)
	if err := answers(ctx, address); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancelCause(ctx)
	var said []string
	c := &kept{}
	s := target.New(target.Options{
		Clock: c, Config: timekeeping.Config{Servers: []string{address}}, Released: time.Unix(0, 0), Stamp: filepath.Join(dir, "stamp"),
		Say: func(line string) {
			said = append(said, line)
			if strings.HasPrefix(line, want) {
				stop(nil)
			}
		},
	})
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
	if n := len(said); n == 0 || !strings.HasPrefix(said[n-1], want) {
		t.Errorf("the service says %q, want %q at the end", said, want)
	}
	if c.stepped || c.offset.Abs() > time.Second {
		t.Errorf("the clock was stepped: %t, or is off by %v: it is the server's own", c.stepped, c.offset)
	}
}

// answers waits until a server answers at all.
func answers(ctx context.Context, address string) error {
	conn, err := net.Dial("udp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	request, b := make([]byte, 48), make([]byte, 512)
	request[0] = 4<<3 | 3 // version 4, client
	for ctx.Err() == nil {
		if _, err := conn.Write(request); err != nil {
			continue // nobody there yet
		}
		if err := conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			return err
		}
		if n, err := conn.Read(b); err == nil && n >= 48 {
			return nil
		}
	}
	return fmt.Errorf("no NTP server answers at %s", address)
}

// kept is the clock of this machine, which nothing changes.
type kept struct {
	clock.System
	stepped bool
	offset  time.Duration
}

func (k *kept) Step(time.Time) error { k.stepped = true; return nil }

func (k *kept) Slew(offset, _, _ time.Duration) error { k.offset = offset; return nil }
