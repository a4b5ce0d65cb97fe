package ssh

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"cloison/format/config"
	"cloison/linux/socket"
)

// machine is a server with sessions that echo lines, and say what they were told.
type machine struct {
	Server
	address string
	mu      sync.Mutex
	said    []string
	started []string
	served  sync.WaitGroup
	refuse  error
}

func (m *machine) say(line string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.said = append(m.said, line)
}

// told waits for nothing: it looks at what was said so far.
func (m *machine) told() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.said, "\n")
}

// session is a role's: it prints the first message and then each line in capitals;
// "exit" ends it with 3.
func session(channel net.Conn, control *os.File) {
	defer channel.Close()
	defer control.Close()
	messages := make(chan string, 10)
	go func() {
		defer close(messages)
		b := make([]byte, 4096)
		for {
			n, err := control.Read(b)
			if err != nil || n == 0 {
				return
			}
			messages <- string(b[:n])
		}
	}()
	var first message
	text := <-messages
	if err := json.Unmarshal([]byte(text), &first); err != nil {
		return
	}
	code := uint8(3)
	fmt.Fprintf(channel, "%s\n", text)
	if first.Command != "" {
		code = 5
	} else {
		for lines := bufio.NewScanner(channel); lines.Scan() && lines.Text() != "exit"; {
			if lines.Text() == "size" {
				fmt.Fprintf(channel, "%s\n", <-messages)
				continue
			}
			fmt.Fprintf(channel, "%s\n", strings.ToUpper(lines.Text()))
		}
	}
	b, err := json.Marshal(message{Exit: &code})
	if err == nil {
		_, _ = control.Write(b)
	}
}

func (m *machine) start(role, name string) (io.ReadWriteCloser, io.ReadWriteCloser, error) {
	m.mu.Lock()
	m.started = append(m.started, role+" "+name)
	m.mu.Unlock()
	if m.refuse != nil {
		return nil, nil, m.refuse
	}
	ours, theirs, err := socket.StreamPair()
	if err != nil {
		return nil, nil, err
	}
	a, err := net.FileConn(ours)
	if err != nil {
		return nil, nil, err
	}
	b, err := net.FileConn(theirs)
	if err != nil {
		return nil, nil, err
	}
	control, other, err := socket.Pair()
	if err != nil {
		return nil, nil, err
	}
	go session(b, other)
	return a.(*net.UnixConn), control, errors.Join(ours.Close(), theirs.Close())
}

func newMachine(t *testing.T, access config.Access) *machine {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{address: l.Addr().String()}
	m.Server = Server{Access: access, Host: signer(t), From: here, Now: func() time.Time { return now }, Login: 3 * time.Second, Start: m.start, Say: m.say}
	m.served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			m.served.Go(func() {
				if err := m.Serve(c); err != nil {
					m.say(err.Error())
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); m.served.Wait() })
	return m
}

func (m *machine) dial(user string, auth ssh.AuthMethod, change func(*ssh.ClientConfig)) (*ssh.Client, error) {
	c := &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{auth}, HostKeyCallback: ssh.FixedHostKey(m.Host.PublicKey()), Timeout: 20 * time.Second}
	if change != nil {
		change(c)
	}
	return ssh.Dial("tcp", m.address, c)
}

// alice is somebody who may come in as admin.
func alice(t *testing.T) (*machine, *ssh.Client) {
	t.Helper()
	key := signer(t)
	m := newMachine(t, config.Access{Keys: []config.Key{{Name: "alice", Role: "admin", Key: written(key.PublicKey())}}})
	c, err := m.dial("admin", ssh.PublicKeys(key), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return m, c
}

func TestCommand(t *testing.T) {
	m, c := alice(t)
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Output("status --json")
	var exit *ssh.ExitError
	if !errors.As(err, &exit) || exit.ExitStatus() != 5 || string(out) != `{"command":"status --json"}`+"\n" {
		t.Errorf("status --json says %q, %v", out, err)
	}
	if !slices.Equal(m.started, []string{"admin alice"}) {
		t.Errorf("started %q", m.started)
	}
}

func TestTerminal(t *testing.T) {
	_, c := alice(t)
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RequestPty("xterm-256color", 24, 80, ssh.TerminalModes{ssh.ECHO: 1}); err != nil {
		t.Fatal(err)
	}
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	expect := func(want string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("shows %q, want %q", lines.Text(), want)
		}
	}
	expect(`{"term":"xterm-256color","columns":80,"rows":24}`)
	fmt.Fprintln(in, "hello")
	expect("HELLO")
	if err := s.WindowChange(50, 100_000); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(in, "size")
	expect(`{"columns":1000,"rows":50}`)
	fmt.Fprintln(in, "exit")
	var exit *ssh.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 3 {
		t.Errorf("the session ends with %v, want 3", err)
	}
}

// TestNothingElse: what SSH could do beside a session is refused, each for itself.
func TestNothingElse(t *testing.T) {
	m, c := alice(t)
	if _, err := c.Dial("tcp", "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "one session, and nothing else") {
		t.Errorf("a forwarded connection: %v", err)
	}
	if _, err := c.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("a forwarded port is there")
	}
	if ok, _, err := c.SendRequest("streamlocal-forward@openssh.com", true, nil); ok || err != nil {
		t.Errorf("a forwarded Unix socket: %t, %v", ok, err)
	}
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Setenv("LD_PRELOAD", "/x"); err == nil {
		t.Error("an environment was taken")
	}
	for name, try := range map[string]func() (bool, error){
		"agent": func() (bool, error) { return s.SendRequest("auth-agent-req@openssh.com", true, nil) },
		"X11":   func() (bool, error) { return s.SendRequest("x11-req", true, make([]byte, 20)) },
		"subsystem": func() (bool, error) {
			return s.SendRequest("subsystem", true, ssh.Marshal(struct{ Name string }{"sftp"}))
		},
		"a command with a line feed": func() (bool, error) {
			return s.SendRequest("exec", true, ssh.Marshal(struct{ C string }{"status\nreboot"}))
		},
		"no command": func() (bool, error) { return s.SendRequest("exec", true, ssh.Marshal(struct{ C string }{""})) },
		"a long command": func() (bool, error) {
			return s.SendRequest("exec", true, ssh.Marshal(struct{ C string }{strings.Repeat("x", 2049)}))
		},
		"half a command": func() (bool, error) { return s.SendRequest("exec", true, []byte{0, 0, 0, 9, 'x'}) },
		"a bad terminal": func() (bool, error) {
			return s.SendRequest("pty-req", true, ssh.Marshal(struct {
				T          string
				C, R, W, H uint32
				M          string
			}{"x\x1b[2J", 1, 1, 1, 1, ""}))
		},
	} {
		if ok, err := try(); ok || err != nil {
			t.Errorf("%s: %t, %v, want that it is refused", name, ok, err)
		}
	}
	if len(m.started) > 0 {
		t.Errorf("started %q", m.started)
	}
	if second, err := c.NewSession(); err == nil {
		t.Errorf("a second session is there: %v", second)
	}
}

// TestNotLetIn: whoever is not named, or does not speak what is spoken, stays
// outside, and no session is started.
func TestNotLetIn(t *testing.T) {
	key, authority := signer(t), signer(t)
	m := newMachine(t, config.Access{
		Keys:        []config.Key{{Name: "alice", Role: "admin", Key: written(key.PublicKey())}},
		Authorities: []config.Authority{{Name: "corp", Key: written(authority.PublicKey()), Roles: []string{"admin"}}},
	})
	expired, err := ssh.NewCertSigner(certified(t, authority, key, func(c *ssh.Certificate) { c.ValidBefore = uint64(now.Unix()) - 1 }), key)
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]struct {
		user   string
		auth   ssh.AuthMethod
		change func(*ssh.ClientConfig)
	}{
		"a wrong key":            {"admin", ssh.PublicKeys(signer(t)), nil},
		"another role":           {"audit", ssh.PublicKeys(key), nil},
		"root":                   {"root", ssh.PublicKeys(key), nil},
		"an expired certificate": {"admin", ssh.PublicKeys(expired), nil},
		"a password":             {"admin", ssh.Password("admin"), nil},
		"nothing":                {"admin", ssh.PublicKeys(), nil},
		"ECDH of NIST":           {"admin", ssh.PublicKeys(key), func(c *ssh.ClientConfig) { c.KeyExchanges = []string{ssh.KeyExchangeECDHP256} }},
		"a group of 2048 bits":   {"admin", ssh.PublicKeys(key), func(c *ssh.ClientConfig) { c.KeyExchanges = []string{ssh.KeyExchangeDH14SHA256} }},
		"AES in CTR":             {"admin", ssh.PublicKeys(key), func(c *ssh.ClientConfig) { c.Ciphers = []string{ssh.CipherAES256CTR} }},
		"AES in CBC":             {"admin", ssh.PublicKeys(key), func(c *ssh.ClientConfig) { c.Ciphers = []string{ssh.InsecureCipherAES128CBC} }},
		"RSA":                    {"admin", ssh.PublicKeys(key), func(c *ssh.ClientConfig) { c.HostKeyAlgorithms = []string{ssh.KeyAlgoRSASHA512} }},
	} {
		c, err := m.dial(try.user, try.auth, try.change)
		if err == nil {
			c.Close()
			t.Errorf("%s is let in", name)
		}
	}
	// A key is tried before it is shown that one has it: that alone lets nobody in.
	c, err := m.dial("admin", ssh.PublicKeys(half{key}), nil)
	if err == nil {
		c.Close()
		t.Error("somebody is let in who knows only the public key")
	}
	if len(m.started) > 0 {
		t.Errorf("started %q", m.started)
	}
	if _, err := m.dial("admin", ssh.PublicKeys(key), nil); err != nil {
		t.Errorf("after all that nobody is let in any more: %v", err)
	}
}

// half has a public key and signs with another.
type half struct{ ssh.Signer }

func (h half) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	s, err := h.Signer.Sign(rand, append(bytes.Clone(data), 0))
	return s, err
}

// TestRudeClients: bytes that are no SSH, too many of them, and none at all.
func TestRudeClients(t *testing.T) {
	m := newMachine(t, config.Access{})
	for name, text := range map[string]string{
		"HTTP":            "GET / HTTP/1.1\r\n\r\n",
		"a huge banner":   "SSH-2.0-" + strings.Repeat("x", 1<<20) + "\r\n",
		"an old version":  "SSH-1.5-x\r\n",
		"a huge packet":   "SSH-2.0-x\r\n\xff\xff\xff\xff" + strings.Repeat("x", 1<<10),
		"a packet of 0":   "SSH-2.0-x\r\n\x00\x00\x00\x00\x00\x00\x00\x00",
		"lines and lines": strings.Repeat("hello\r\n", 10_000),
	} {
		c, err := net.Dial("tcp", m.address)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, text) // the other side may have left in the middle
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after %s the connection stays open", name)
		}
		c.Close()
	}
	if !strings.Contains(m.told(), "nobody has come in from 192.0.2.7") {
		t.Errorf("said %q", m.told())
	}
}

func TestSessionRefused(t *testing.T) {
	m, c := alice(t)
	m.refuse = errors.New("refused: 4 sessions of the role admin are open, no more")
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	var told bytes.Buffer
	s.Stderr = &told
	if err := s.Run("status"); err == nil {
		t.Error("there is a session")
	}
	if err := c.Wait(); err == nil {
		t.Error("the connection ends without a reason")
	}
	if !strings.Contains(m.told(), "alice gets no session as admin: refused: 4 sessions") {
		t.Errorf("said %q", m.told())
	}
}
