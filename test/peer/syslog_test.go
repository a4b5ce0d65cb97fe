package peer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloison/format/logrecord"
	"cloison/host/sdk"
	"cloison/host/sdk/sdktest"
	"cloison/linux/clock"
	"cloison/linux/socket"
	"cloison/target/log"
	"cloison/target/logexport"
	"cloison/target/varlink"
)

// inCollector is set in the step of the SDK that runs TestRsyslog's inner half.
const inCollector = "CLOISON_TEST_SYSLOG"

// TestRsyslog sends a log to a real collector, rsyslogd, over TLS. A step of the
// SDK has no network but its own loopback, so this test runs itself there, beside
// the collector.
func TestRsyslog(t *testing.T) {
	if os.Getenv(inCollector) != "" {
		t.Run("sends", exportToRsyslog)
		t.Run("refuses", rsyslogRefuses)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s, dir := sdktest.Open(t), t.TempDir()
	var out bytes.Buffer
	err = s.Run(t.Context(), sdk.Step{
		Args: []string{self, "-test.run=^TestRsyslog$", "-test.v"}, Env: []string{inCollector + "=1", "TMPDIR=" + dir},
		Dir: dir, ReadOnly: []string{self}, Writable: []string{dir}, Stdout: &out,
	})
	if err != nil || strings.Count(out.String(), "--- PASS") != 3 {
		t.Errorf("in the SDK: %v\n%s", err, out.String())
	}
}

// authority signs certificates of tests.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.pem, a.key = a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	block, _ := pem.Decode(a.pem)
	var err error
	if a.cert, err = x509.ParseCertificate(block.Bytes); err != nil {
		t.Fatal(err)
	}
	return a
}

// sign makes a key and its certificate.
func (a *authority) sign(c *x509.Certificate) (text []byte, key *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := c, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key
}

// machine is the certificate of a machine, or of a collector on this one.
func (a *authority) machine() (cert, key []byte) {
	a.t.Helper()
	cert, k := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "machine"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	})
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func (a *authority) pair() *tls.Certificate {
	a.t.Helper()
	pair, err := tls.X509KeyPair(a.machine())
	if err != nil {
		a.t.Fatal(err)
	}
	return &pair
}

// rsyslog is a running collector.
type rsyslog struct {
	t     *testing.T
	end   func()
	lines *bufio.Scanner
}

// collect starts rsyslogd on a port, with a certificate of server, for machines
// with one of clients. What it gets it writes to its standard output.
func collect(t *testing.T, port string, server, clients *authority) *rsyslog {
	t.Helper()
	dir := t.TempDir()
	cert, key := server.machine()
	for name, text := range map[string][]byte{"cert": cert, "key": key, "authority": clients.pem} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := fmt.Sprintf(`global(workDirectory="%[1]s" defaultNetstreamDriver="ossl" defaultNetstreamDriverCAFile="%[1]s/authority"
  defaultNetstreamDriverCertFile="%[1]s/cert" defaultNetstreamDriverKeyFile="%[1]s/key")
module(load="imtcp" streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="x509/certvalid")
template(name="fields" type="string" string="%%pri%%|%%timereported:::date-rfc3339%%|%%hostname%%|%%app-name%%|%%structured-data%%|%%msg%%\n")
input(type="imtcp" address="127.0.0.1" port="%[2]s" ruleset="export")
ruleset(name="export") { action(type="omfile" file="/dev/stdout" template="fields") }
`, dir, port)
	path := filepath.Join(dir, "rsyslog.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c := exec.CommandContext(ctx, "rsyslogd", "-n", "-f", path, "-i", filepath.Join(dir, "pid"))
	var said bytes.Buffer
	c.Stderr = &said
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	end := func() {
		cancel()
		_ = c.Wait() // it was killed
		if t.Failed() {
			t.Logf("rsyslogd says:\n%s", said.String())
		}
	}
	t.Cleanup(end)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	return &rsyslog{t, end, lines}
}

// until reads messages until one has a text, and returns all.
func (r *rsyslog) until(text string) []string {
	r.t.Helper()
	var got []string
	for r.lines.Scan() {
		got = append(got, r.lines.Text())
		if strings.Contains(r.lines.Text(), text) {
			return got
		}
	}
	r.t.Fatalf("rsyslogd has ended after %d messages, without %q", len(got), text)
	return nil
}

// source is a log with the socket of its service.
func source(t *testing.T) (c *log.Collector, read func(first uint64) (logexport.Page, error)) {
	t.Helper()
	dir := t.TempDir()
	c, err := log.New(dir, log.Settings{
		Limits: log.DefaultLimits, Rate: log.DefaultRate, Boot: strings.Repeat("0", 32), Now: time.Now, Up: clock.SinceBoot,
		Report: func(err error) { t.Errorf("reported: %v", err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	server, err := varlink.New(c.Offer(map[uint32]string{uint32(os.Getuid()): "logexport"}))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "log")
	l, err := socket.Listen(path, socket.Stream, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	written, ended := make(chan struct{}), make(chan error)
	go func() { c.Write(); close(written) }()
	go func() { ended <- server.Serve(l, func(error) {}) }()
	t.Cleanup(func() { c.End(); <-written; l.Close(); <-ended })
	return c, func(first uint64) (p logexport.Page, err error) {
		err = varlink.Do(path, "cloison.Log.Read", map[string]uint64{"first": first, "count": 20, "wait": 1}, &p, time.Minute)
		return p, err
	}
}

// say has a service write lines, of which the last is a mark.
func say(t *testing.T, c *log.Collector, lines int, mark string) {
	t.Helper()
	text := strings.Repeat("it is läte\n", lines) + mark + "\n"
	_ = c.Output("timed", strings.NewReader(text)) // io.EOF
}

func exportToRsyslog(t *testing.T) {
	const port = "16514"
	a := newAuthority(t)
	c, read := source(t)
	where := logexport.Collector{Name: "test", Address: "127.0.0.1:" + port, Authorities: string(a.pem)}
	config, err := where.TLS(a.pair())
	if err != nil {
		t.Fatal(err)
	}
	away, place := make(chan string, 100), filepath.Join(t.TempDir(), "place")
	e := &logexport.Exporter{
		Collector: where, TLS: config, Host: "gateway", Place: place, Read: read, Say: func(s string) { away <- s },
	}
	run := func() (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- e.Run(ctx) }()
		return func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	seen := map[string]int{}
	note := func(got []string) {
		for _, line := range got {
			_, rest, _ := strings.Cut(line, `sequence="`)
			number, _, _ := strings.Cut(rest, `"`)
			seen[number]++
		}
	}

	// 1. The collector is away at first; what is said meanwhile is not lost.
	say(t, c, 100, "first mark")
	stop := run()
	if s := <-away; !strings.Contains(s, "is away") {
		t.Errorf("it says %q, want that the collector is away", s)
	}
	r := collect(t, port, a, a)
	got := r.until("first mark")
	note(got)
	want := `|gateway|timed|[cloison@32473 sequence="1" boot="` + strings.Repeat("0", 32) + `"]|`
	if len(got) < 102 || !strings.Contains(got[1], want) || !strings.HasPrefix(got[1], "30|20") || !strings.HasSuffix(got[1], "it is läte") {
		t.Errorf("rsyslogd got %d messages, the second %q, want 102 and %q", len(got), got[1], want)
	}
	// 2. It goes away, and comes back.
	r.end()
	say(t, c, 50, "second mark")
	r = collect(t, port, a, a)
	note(r.until("second mark"))
	// 3. The exporter ends, and goes on where it was.
	say(t, c, 5, "third mark")
	note(r.until("third mark"))
	stop()
	say(t, c, 5, "fourth mark")
	stop = run()
	note(r.until("fourth mark"))
	stop()
	for i := range 1 + 101 + 51 + 6 + 6 {
		if seen[fmt.Sprint(i)] == 0 {
			t.Errorf("record %d has not arrived", i)
		}
	}
	if b, err := os.ReadFile(place); err != nil || string(b) == "0\n" {
		t.Errorf("the place is %q, %v", b, err)
	}
}

// A collector that does not know us gets nothing, and neither does one that we do
// not know.
func rsyslogRefuses(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	for i, test := range []struct {
		name            string
		server, clients *authority
		own             *tls.Certificate
		want            string
	}{
		{"without a certificate of ours", a, a, nil, "the collector has ended the connection"},
		{"with a stranger's certificate", a, a, stranger.pair(), "the collector has ended the connection"},
		{"a collector that is a stranger", stranger, a, a.pair(), "certificate signed by unknown authority"},
	} {
		port := fmt.Sprint(16515 + i)
		collect(t, port, test.server, test.clients)
		where := logexport.Collector{Name: "test", Address: "127.0.0.1:" + port, Authorities: string(a.pem)}
		config, err := where.TLS(test.own)
		if err != nil {
			t.Fatal(err)
		}
		said := make(chan string, 100)
		e := &logexport.Exporter{
			Collector: where, TLS: config, Host: "gateway", Place: filepath.Join(t.TempDir(), "place"), Say: func(s string) { said <- s },
			// Nothing is read before the collector has taken the connection; and what is
			// read comes when it had time to refuse.
			Read: func(first uint64) (logexport.Page, error) {
				return logexport.Page{Records: []logrecord.Record{}, Next: first}, nil
			},
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		ended := make(chan error)
		go func() { ended <- e.Run(ctx) }()
		found := false
		for !found && ctx.Err() == nil {
			select {
			case s := <-said:
				found = strings.Contains(s, test.want)
			case <-ctx.Done():
				t.Errorf("%s: it does not say %q", test.name, test.want)
			}
		}
		cancel()
		<-ended
	}
}
