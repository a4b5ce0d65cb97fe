package boot

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"

	"cloison/format/service"
	"cloison/host/sdk"
)

// ntpPort is where the NTP server of a script listens on the host.
const ntpPort = 11123

// people are keys that scripts have: alice may come in as admin, bob as audit,
// corp is an authority for both roles, mallory is nobody.
var people = sync.OnceValues(func() (map[string]ed25519.PrivateKey, error) {
	all := map[string]ed25519.PrivateKey{}
	for _, name := range []string{"alice", "bob", "corp", "mallory"} {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		all[name] = key
	}
	return all, nil
})

// written is a public key as documents have it.
func written(key ed25519.PrivateKey) (string, error) {
	public, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		return "", err
	}
	return public.Type() + " " + base64.StdEncoding.EncodeToString(public.Marshal()), nil
}

// withRemote changes a tree so that its product can be reached over SSH, has its
// address from DHCP and its time from a server on the host. What a role's session
// does is package role.
func withRemote(tree string) error {
	keys, err := people()
	if err != nil {
		return err
	}
	public := map[string]string{}
	for name, key := range keys {
		if public[name], err = written(key); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{
		"network": "[[interface]]\nname = \"wan0\"\nmethod = \"dhcp\"\n",
		"time":    fmt.Sprintf("servers = [\"10.0.2.2:%d\"]\n", ntpPort),
		"access": fmt.Sprintf("[ssh]\nnetworks = [\"outer\"]\n[[key]]\nname = \"alice\"\nrole = \"admin\"\nkey = %q\n[[key]]\nname = \"bob\"\nrole = \"audit\"\nkey = %q\n"+
			"[[authority]]\nname = \"corp\"\nkey = %q\nroles = [\"admin\", \"audit\"]\n", public["alice"], public["bob"], public["corp"]),
	} {
		if err := os.WriteFile(filepath.Join(tree, "test/boot/seeded/documents", name+".toml"), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := addProgram(tree, "role", "cloison/test/boot/role"); err != nil {
		return err
	}
	for _, role := range []string{"admin", "audit"} {
		if err := addService(tree, "role-"+role, roleService(role)); err != nil {
			return err
		}
	}
	timed := filepath.Join(tree, "image/services/timed.toml")
	for _, change := range [][2]string{
		{`(?m)^network = "none"$`, `network = "outer"`},
		{`(?m)^configuration = .*$`, fmt.Sprintf("configuration = [{ source = %q, path = \"/etc/cloison\" }]", service.Configurations+"/time")},
		{`(?m)^groups = \["runtime", `, `groups = ["runtime", "internet", `},
		{`(?m)^read = \[\]$`, `read = ["/etc/cloison"]`},
		{`(?m)^udp_bind = .*$`, `udp_bind = [0]`},
		{`(?m)^udp_connect = .*$`, fmt.Sprintf("udp_connect = [%d]", ntpPort)},
	} {
		if err := edit(timed, change[0], change[1]); err != nil {
			return err
		}
	}
	return edit(filepath.Join(tree, "image/products/gateway/product.toml"), `(?m)^services = \[(.*)\]$`,
		`services = [${1}, "netd", "hostkeyd", "sshd", "role-admin", "role-audit"]

[[networks]]
name = "outer"
why = "the side of strangers"
interfaces = [{ name = "wan0", port = "0000:00:10.0" }]
`)
}

// roleService is a role's session that has no right at all.
func roleService(role string) string {
	text := strings.NewReplacer(`"look-none"`, `"role-`+role+`"`, "looks around in its network", "is a session of the role "+role,
		"/usr/lib/cloison/looker", "/usr/lib/cloison/role", `given = []`, `given = ["session", "channel", "control"]`,
		`"runtime", "netlink"`, `"runtime"`, `after = ["logd"]`, `after = []`, "instances = 0", "instances = 2", "required = true", "required = false",
		`ready = "notify"`, `ready = "started"`, `restart = "always"`, `restart = "never"`, `delay = "500ms"`, `delay = "none"`, `longest = "30s"`, `longest = "none"`).Replace(looker("none"))
	return text
}

// keyFile writes a private key where a script's ssh finds it.
func (s *stage) keyFile(ts *testscript.TestScript, name string) string {
	keys, err := people()
	must(ts, err)
	key, ok := keys[name]
	if !ok {
		ts.Fatalf("there is nobody called %s", name)
	}
	block, err := ssh.MarshalPrivateKey(key, name)
	must(ts, err)
	path := ts.MkAbs(name)
	must(ts, os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
	public, err := written(key)
	must(ts, err)
	must(ts, os.WriteFile(path+".pub", []byte(public+" "+name+"\n"), 0o644))
	return path
}

// ntpServer: a real NTP server, chronyd, on the host's loopback until the script
// ends.
func (s *stage) ntpServer(ts *testscript.TestScript, args []string) {
	want(ts, args, "")
	dir := ts.MkAbs("ntp")
	must(ts, os.Mkdir(dir, 0o755))
	path := filepath.Join(dir, "chrony.conf")
	must(ts, os.WriteFile(path, fmt.Appendf(nil, "local stratum 5\nallow 127.0.0.1\nbindaddress 127.0.0.1\nport %d\ncmdport 0\nbindcmdaddress /\npidfile %s/pid\n", ntpPort, dir), 0o644))
	ctx, cancel := context.WithCancel(context.Background())
	c := s.sdk.Command(ctx, sdk.Step{
		Args: []string{"chronyd", "-d", "-x", "-U", "-u", "root", "-f", path},
		Dir:  dir, Writable: []string{dir}, Network: true,
	})
	must(ts, c.Start())
	ts.Defer(func() { cancel(); _ = c.Wait() }) // it was killed
}

// certify KEY PRINCIPALS [ARGUMENTS…]: ssh-keygen makes a certificate of the
// authority corp for a key.
func (s *stage) certify(ts *testscript.TestScript, args []string) {
	if len(args) < 2 {
		ts.Fatalf("want certify KEY PRINCIPALS [ARGUMENTS…]")
	}
	authority, key := s.keyFile(ts, "corp"), s.keyFile(ts, args[0])
	dir := filepath.Dir(key)
	must(ts, s.sdk.Run(context.Background(), sdk.Step{
		Args: append([]string{"ssh-keygen", "-q", "-s", authority, "-I", args[0], "-n", args[1]}, append(args[2:], key+".pub")...),
		Dir:  dir, Writable: []string{dir},
	}))
}

// ssh CODE KEY USER [ARGUMENTS…]: OpenSSH's client comes in with somebody's key, and
// the certificate beside it where there is one. What it says is in the file ssh.out.
// Options of ssh may stand before the command.
func (s *stage) ssh(ts *testscript.TestScript, args []string) {
	if len(args) < 3 {
		ts.Fatalf("want ssh CODE KEY USER [ARGUMENTS…]")
	}
	code, err := strconv.Atoi(args[0])
	must(ts, err)
	key := ts.MkAbs(args[1])
	if _, err := os.Stat(key); err != nil {
		s.keyFile(ts, args[1])
	}
	dir := filepath.Dir(key)
	ctx, cancel := within()
	defer cancel()
	out, err := os.Create(ts.MkAbs("ssh.out"))
	must(ts, err)
	c := s.sdk.Command(ctx, sdk.Step{
		Args: append([]string{
			"ssh", "-F", "none", "-p", ts.Getenv("PORT"), "-i", key, "-l", args[2], "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none",
			"-o", "BatchMode=yes", "-o", "UserKnownHostsFile=" + ts.MkAbs("known_hosts"), "-o", "StrictHostKeyChecking=accept-new",
			"-o", "HostKeyAlias=machine", "-o", "ConnectTimeout=60",
			"127.0.0.1",
		}, args[3:]...),
		Dir: dir, Writable: []string{dir}, Network: true, Stdout: out, Stderr: out,
	})
	err = c.Run()
	must(ts, out.Close())
	text, readErr := os.ReadFile(ts.MkAbs("ssh.out"))
	must(ts, readErr)
	ts.Logf("ssh: %v\n%s", err, text)
	if got := c.ProcessState.ExitCode(); got != code {
		ts.Fatalf("ssh ends with %d, want %d", got, code)
	}
}

// flood COUNT MOST: so many connections at once that say nothing. All but MOST are
// ended at once, and these before long.
func (s *stage) flood(ts *testscript.TestScript, args []string) {
	want(ts, args, "COUNT MOST")
	count, err := strconv.Atoi(args[0])
	must(ts, err)
	most, err := strconv.Atoi(args[1])
	must(ts, err)
	begin := time.Now()
	left := make(chan time.Duration, count)
	var all sync.WaitGroup
	for range count {
		all.Go(func() {
			c, err := net.Dial("tcp", "127.0.0.1:"+ts.Getenv("PORT"))
			if err == nil {
				err = c.SetDeadline(time.Now().Add(deadline))
				// A server that is there says its version and waits.
				n, copied := io.Copy(io.Discard, c)
				err = errors.Join(err, c.Close())
				if n > 0 && !errors.Is(copied, os.ErrDeadlineExceeded) {
					left <- time.Since(begin)
				}
			}
			_ = err // a connection that ends early is what is wanted
		})
	}
	all.Wait()
	close(left)
	served := 0
	for at := range left {
		served++
		ts.Logf("one was served until %v", at)
	}
	if served == 0 || served > most {
		ts.Fatalf("%d of %d connections were served, want 1 to %d", served, count, most)
	}
}
