// Package ssh is one SSH connection from its first byte to its last: it finds out
// who is there by a key or a certificate that the document "access" names, asks
// PID 1 for a session of that role, and passes on what is typed and shown. It has
// no right but its connection, and not even the host key.
//
// What the protocol could do beside that is refused: passwords, forwarding, agents,
// environments, subsystems, a second session. It needs a connection, the document,
// and the services hostkeyd and PID 1. Source: RFC 4252 to 4254; PROTOCOL and
// PROTOCOL.certkeys of OpenSSH.
package ssh

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/crypto/ssh"

	"cloison/format/config"
)

// Limits.
const (
	// login is how long it may take until it is known who is there, and then until
	// he asks for a session.
	login = 20 * time.Second
	// idle is how long nothing may come from the other side; a role's session has
	// a shorter limit of its own.
	idle = time.Hour
	// tries is how many keys may be offered.
	tries = 6
	// maxRequest bounds a command line, in bytes.
	maxRequest = 2048
	// maxSize bounds a terminal, in characters.
	maxSize = 1000
)

// Server is what one connection needs.
type Server struct {
	Access config.Access
	Host   ssh.Signer
	From   netip.Addr
	Now    func() time.Time
	Login  time.Duration // the limit until somebody is known, and until he asks
	// Start asks for a session of a role for somebody; the files lead to it.
	Start func(role, name string) (channel, control io.ReadWriteCloser, err error)
	Say   func(string) // one line for the log
}

// errNoSession ends a connection.
var errNoSession = errors.New("there is no session for it")

// protocol is what is spoken: nothing that is not in OpenSSH's own defaults of
// 2024, and of these not the oldest.
func (s Server) protocol() *ssh.ServerConfig {
	c := &ssh.ServerConfig{
		Config: ssh.Config{
			KeyExchanges: []string{ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519},
			Ciphers:      []string{ssh.CipherChaCha20Poly1305, ssh.CipherAES256GCM, ssh.CipherAES128GCM},
			MACs:         []string{ssh.HMACSHA512ETM, ssh.HMACSHA256ETM},
		},
		PublicKeyAuthAlgorithms: algorithms,
		MaxAuthTries:            tries,
		ServerVersion:           "SSH-2.0-Cloison",
		PublicKeyCallback: func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			p, err := identify(s.Access, c.User(), s.From, s.Now(), key)
			if err != nil {
				s.Say(fmt.Sprintf("%v is not let in: %v", s.From, err))
				return nil, errNobody
			}
			return p, nil
		},
	}
	c.AddHostKey(s.Host)
	return c
}

// farewell is how long a client may take to hang up once its session is over.
const farewell = 3 * time.Second

// Serve serves a connection to its end.
func (s Server) Serve(c net.Conn) error {
	defer c.Close() // nothing is left to lose
	if err := c.SetDeadline(time.Now().Add(s.Login)); err != nil {
		return err
	}
	conn, channels, requests, err := ssh.NewServerConn(c, s.protocol())
	if err != nil {
		return fmt.Errorf("nobody has come in from %v: %w", s.From, err)
	}
	defer conn.Close() // likewise
	role, name := conn.Permissions.Extensions[roleExtension], conn.Permissions.Extensions[nameExtension]
	if role == "" || name == "" {
		return errors.New("internal error: somebody came in, and nobody knows who")
	}
	_, terminal := conn.Permissions.Extensions[terminalExtension]
	go ssh.DiscardRequests(requests) // they are answered: no
	served := false
	for n := range channels {
		if n.ChannelType() != "session" || served {
			if err := n.Reject(ssh.Prohibited, "one session, and nothing else"); err != nil {
				return err
			}
			continue
		}
		served = true
		channel, asked, err := n.Accept()
		if err != nil {
			return err
		}
		if err := c.SetDeadline(time.Time{}); err != nil {
			return err
		}
		p := &passage{Server: s, role: role, name: name, mayHaveTerminal: terminal, channel: channel, conn: c}
		go func() {
			if err := p.serve(asked); err != nil {
				s.Say(fmt.Sprintf("session of %s as %s: %v", name, role, err))
			}
			// The client hangs up first: one that finds the line closed takes the
			// session for broken, and forgets how it ended.
			time.AfterFunc(farewell, func() { _ = conn.Close() })
		}()
	}
	return nil
}

// message is one of those beside a session's bytes.
type message struct {
	Command string `json:"command,omitempty"`
	Term    string `json:"term,omitempty"`
	Columns uint32 `json:"columns,omitempty"`
	Rows    uint32 `json:"rows,omitempty"`
	Exit    *uint8 `json:"exit,omitempty"`
}

// passage is between a client and its session.
type passage struct {
	Server
	role, name      string
	mayHaveTerminal bool
	channel         ssh.Channel
	conn            net.Conn
	first           message
	control         io.ReadWriteCloser // nil until there is a session
	done            chan error
}

// serve answers what the client asks of its channel, until that is over.
func (p *passage) serve(asked <-chan *ssh.Request) error {
	p.done = make(chan error, 1)
	wait := time.NewTimer(p.Login)
	defer wait.Stop()
	for {
		select {
		case r, ok := <-asked:
			if !ok {
				return p.end()
			}
			good, err := p.answer(r)
			if r.WantReply {
				err = errors.Join(err, r.Reply(good, nil))
			}
			if err != nil {
				return errors.Join(err, p.end())
			}
		case err := <-p.done:
			p.control = nil
			return err
		case <-wait.C:
			if p.control == nil {
				return errors.New("no session was asked for")
			}
		}
	}
}

// end ends the session, and waits until it is over.
func (p *passage) end() error {
	if p.control == nil {
		return nil
	}
	_ = p.control.Close() // the session hears that
	return <-p.done
}

// answer does what one request asks for, or says no.
func (p *passage) answer(r *ssh.Request) (good bool, err error) {
	switch {
	case r.Type == "pty-req" && p.control == nil && p.mayHaveTerminal && p.first.Term == "":
		// RFC 4254, section 6.2.
		var t struct {
			Term                         string
			Columns, Rows, Width, Height uint32
			Modes                        string
		}
		if ssh.Unmarshal(r.Payload, &t) != nil || !isTerm(t.Term) {
			return false, nil
		}
		p.first.Term, p.first.Columns, p.first.Rows = t.Term, min(t.Columns, maxSize), min(t.Rows, maxSize)
		return true, nil
	case r.Type == "window-change" && p.control != nil && p.first.Term != "":
		// RFC 4254, section 6.7.
		var t struct{ Columns, Rows, Width, Height uint32 }
		if ssh.Unmarshal(r.Payload, &t) != nil {
			return false, nil
		}
		return true, p.tell(message{Columns: min(t.Columns, maxSize), Rows: min(t.Rows, maxSize)})
	case r.Type == "shell" && p.control == nil && len(r.Payload) == 0:
		return p.start()
	case r.Type == "exec" && p.control == nil:
		// RFC 4254, section 6.5.
		var e struct{ Command string }
		if ssh.Unmarshal(r.Payload, &e) != nil || e.Command == "" || len(e.Command) > maxRequest || !isText(e.Command) {
			return false, nil
		}
		p.first.Command = e.Command
		return p.start()
	}
	return false, nil
}

func isTerm(s string) bool {
	if len(s) == 0 || len(s) > 32 {
		return false
	}
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '+' && c != '_' {
			return false
		}
	}
	return true
}

// isText reports whether s can stand in a log as it is.
func isText(s string) bool {
	for _, c := range s {
		if c < ' ' || c == 0x7f || c == '\uFFFD' {
			return false
		}
	}
	return true
}

func (p *passage) tell(m message) error {
	b, err := json.Marshal(m)
	if err == nil {
		_, err = p.control.Write(b)
	}
	return err
}

// start starts the session and passes on what both sides say.
func (p *passage) start() (good bool, err error) {
	session, control, err := p.Start(p.role, p.name)
	if err != nil {
		p.Say(fmt.Sprintf("%s gets no session as %s: %v", p.name, p.role, err))
		_, _ = fmt.Fprintf(p.channel.Stderr(), "cloison: no session: %v\r\n", err)
		return false, errNoSession
	}
	p.control = control
	if err := p.tell(p.first); err != nil {
		return false, err
	}
	go func() {
		_, _ = io.Copy(session, alive{p.channel, p.conn}) // its end is the session's
		if half, ok := session.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite() // nothing more is typed
		}
	}()
	go func() {
		_, shown := io.Copy(p.channel, session)
		code := uint8(255)
		b := make([]byte, 4096)
		for {
			n, err := control.Read(b)
			if n == 0 || err != nil {
				break
			}
			var m message
			if json.Unmarshal(b[:n], &m) == nil && m.Exit != nil {
				code = *m.Exit
				break
			}
		}
		// RFC 4254, section 6.10.
		_, err := p.channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{uint32(code)}))
		err = errors.Join(ignoreEnd(shown), ignoreEnd(err), ignoreEnd(p.channel.Close()))
		_ = session.Close() // over
		_ = control.Close()
		p.done <- err
	}()
	return true, nil
}

// ignoreEnd takes the end of a connection for none of an error.
func ignoreEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// alive reads what a client sends, and gives it time for more.
type alive struct {
	from io.Reader
	conn net.Conn
}

func (a alive) Read(b []byte) (int, error) {
	if err := a.conn.SetReadDeadline(time.Now().Add(idle)); err != nil {
		return 0, err
	}
	return a.from.Read(b)
}
