package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"cloison/format/config"
	"cloison/host/sdk"
	"cloison/host/sdk/sdktest"
	"cloison/linux/socket"
	target "cloison/target/ssh"
)

// openSSH is a folder with keys of ssh-keygen, and OpenSSH's client.
type openSSH struct {
	*sdk.SDK
	t    *testing.T
	dir  string
	port string
}

// run runs a program of OpenSSH and returns what it says and its code.
func (o openSSH) run(args ...string) (string, int) {
	o.t.Helper()
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(o.t.Context(), time.Minute)
	defer cancel()
	c := o.Command(ctx, sdk.Step{Args: args, Dir: o.dir, Writable: []string{o.dir}, Network: true, Stdout: &out, Stderr: &out})
	if err := c.Run(); err != nil && c.ProcessState == nil {
		o.t.Fatal(err)
	}
	return out.String(), c.ProcessState.ExitCode()
}

// keygen makes a key, or what else ssh-keygen makes.
func (o openSSH) keygen(args ...string) {
	o.t.Helper()
	if out, code := o.run(append([]string{"ssh-keygen", "-q"}, args...)...); code != 0 {
		o.t.Fatalf("ssh-keygen %q: %d, %s", args, code, out)
	}
}

// public returns the key in a file as documents have it.
func (o openSSH) public(name string) string {
	o.t.Helper()
	text, err := os.ReadFile(filepath.Join(o.dir, name+".pub"))
	if err != nil {
		o.t.Fatal(err)
	}
	words := strings.Fields(string(text))
	return words[0] + " " + words[1]
}

// echo is a session that says its command, and ends with 4.
func echo(role, name string) (io.ReadWriteCloser, io.ReadWriteCloser, error) {
	ours, theirs, err := socket.StreamPair()
	if err != nil {
		return nil, nil, err
	}
	channel, err := net.FileConn(ours)
	if err != nil {
		return nil, nil, err
	}
	control, other, err := socket.Pair()
	if err != nil {
		return nil, nil, err
	}
	go func() {
		defer theirs.Close()
		defer other.Close()
		b := make([]byte, 4096)
		n, err := other.Read(b)
		var first struct {
			Command string `json:"command"`
		}
		if err != nil || json.Unmarshal(b[:n], &first) != nil {
			return
		}
		_, _ = io.WriteString(theirs, role+" "+name+" says "+first.Command+"\n") // whoever has left hears nothing
		_, _ = io.WriteString(other, `{"exit":4}`)
	}()
	return channel.(*net.UnixConn), control, ours.Close()
}

// TestOpenSSH: OpenSSH's client comes in with keys and certificates of ssh-keygen,
// and does not with those that are not good for it.
func TestOpenSSH(t *testing.T) {
	o := openSSH{SDK: sdktest.Open(t), t: t, dir: t.TempDir()}
	for name, kind := range map[string]string{"alice": "ed25519", "carol": "ecdsa", "authority": "ed25519", "other": "ed25519", "dave": "rsa", "host": "ed25519"} {
		o.keygen("-t", kind, "-N", "", "-C", name, "-f", name)
	}
	text, err := os.ReadFile(filepath.Join(o.dir, "host"))
	if err != nil {
		t.Fatal(err)
	}
	host, err := ssh.ParsePrivateKey(text)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, o.port, err = net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server := target.Server{
		Access: config.Access{
			Keys:        []config.Key{{Name: "alice", Role: "admin", Key: o.public("alice")}, {Name: "carol", Role: "audit", Key: o.public("carol")}},
			Authorities: []config.Authority{{Name: "corp", Key: o.public("authority"), Roles: []string{"admin"}}},
			Serials:     []string{"corp:13"},
		},
		Host: host, From: netip.MustParseAddr("127.0.0.1"), Now: time.Now, Login: 20 * time.Second, Start: echo, Say: func(line string) { t.Log(line) },
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if err := server.Serve(c); err != nil {
				t.Log(err)
			}
		}
	}()
	defer func() {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		<-done
	}()
	const denied = "Permission denied (publickey)"
	for _, test := range []struct {
		name      string
		authority string   // that signs a certificate for the key other
		args      []string // of ssh-keygen -s
		key, user string
		ssh       []string
		want      string
		code      int
	}{
		{name: "a key", key: "alice", user: "admin", want: "admin alice says hello", code: 4},
		{name: "a key of NIST's curve", key: "carol", user: "audit", want: "audit carol says hello", code: 4},
		{name: "another role", key: "alice", user: "audit", want: denied, code: 255},
		{name: "a stranger", key: "other", user: "admin", want: denied, code: 255},
		{name: "RSA", key: "dave", user: "admin", want: denied, code: 255},
		{name: "a certificate", authority: "authority", args: []string{"-n", "admin", "-V", "+1h"}, key: "other", user: "admin", want: "admin dora says hello", code: 4},
		{name: "expired", authority: "authority", args: []string{"-n", "admin", "-V", "-2h:-1h"}, key: "other", user: "admin", want: denied, code: 255},
		{name: "not yet valid", authority: "authority", args: []string{"-n", "admin", "-V", "+1h:+2h"}, key: "other", user: "admin", want: denied, code: 255},
		{name: "for another role", authority: "authority", args: []string{"-n", "audit", "-V", "+1h"}, key: "other", user: "admin", want: denied, code: 255},
		{name: "for nobody", authority: "authority", args: []string{"-V", "+1h"}, key: "other", user: "admin", want: denied, code: 255},
		{name: "revoked", authority: "authority", args: []string{"-n", "admin", "-z", "13", "-V", "+1h"}, key: "other", user: "admin", want: denied, code: 255},
		{name: "from here", authority: "authority", args: []string{"-n", "admin", "-O", "source-address=127.0.0.0/8"}, key: "other", user: "admin", want: "admin dora says hello", code: 4},
		{name: "from elsewhere", authority: "authority", args: []string{"-n", "admin", "-O", "source-address=192.0.2.0/24"}, key: "other", user: "admin", want: denied, code: 255},
		{name: "a forced command", authority: "authority", args: []string{"-n", "admin", "-O", "force-command=x"}, key: "other", user: "admin", want: denied, code: 255},
		{name: "of a host", authority: "authority", args: []string{"-h", "-n", "admin", "-V", "+1h"}, key: "other", user: "admin", want: denied, code: 255},
		{name: "of an unknown authority", authority: "dave", args: []string{"-n", "admin", "-V", "+1h"}, key: "other", user: "admin", want: denied, code: 255},
		{name: "an old key exchange", key: "alice", user: "admin", ssh: []string{"-o", "KexAlgorithms=ecdh-sha2-nistp256"}, want: "no matching key exchange method found", code: 255},
		{name: "an old cipher", key: "alice", user: "admin", ssh: []string{"-o", "Ciphers=aes256-ctr"}, want: "no matching cipher found", code: 255},
		{name: "sftp", key: "alice", user: "admin", ssh: []string{"-s"}, want: "subsystem request failed", code: 255},
	} {
		cert := filepath.Join(o.dir, "other-cert.pub")
		if err := os.RemoveAll(cert); err != nil {
			t.Fatal(err)
		}
		if test.authority != "" {
			o.keygen(append(append([]string{"-s", test.authority, "-I", "dora"}, test.args...), "other.pub")...)
		}
		out, code := o.run(append(append([]string{
			"ssh", "-F", "none", "-p", o.port, "-i", test.key, "-l", test.user, "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes",
			"-o", "UserKnownHostsFile=" + filepath.Join(o.dir, "known_hosts"), "-o", "StrictHostKeyChecking=accept-new",
		}, test.ssh...), "127.0.0.1", "hello")...)
		if code != test.code || !strings.Contains(out, test.want) {
			t.Errorf("%s: ssh ends with %d, want %d, and says %q, want %q", test.name, code, test.code, out, test.want)
		}
	}
}
