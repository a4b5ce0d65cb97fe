package logexport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloison/format/logrecord"
)

// What is sent over TLS to a real collector is in test/peer.

func TestLoad(t *testing.T) {
	folder := t.TempDir()
	document := filepath.Join(folder, "log.toml")
	var said []string
	say := func(s string) { said = append(said, s) }
	if all, err := load(document, folder, "gateway", say); len(all) != 0 || err != nil {
		t.Errorf("load without a document = %v, %v, want nobody", all, err)
	}
	if err := os.WriteFile(document, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := load(document, folder, "gateway", say); err == nil {
		t.Error("load of nonsense = nil error")
	}
	if err := os.WriteFile(document, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if all, err := load(document, folder, "gateway", say); len(all) != 0 || err != nil {
		t.Errorf("load of an empty document = %v, %v, want nobody", all, err)
	}
	// It has made a key, and says once what has to be signed.
	if len(said) != 1 {
		t.Fatalf("it says %q, want a request", said)
	}
	der, err := base64.StdEncoding.DecodeString(said[0][strings.LastIndex(said[0], " ")+1:])
	if err != nil {
		t.Fatal(err)
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil || request.CheckSignature() != nil || request.Subject.CommonName != "gateway" {
		t.Fatalf("the request is %+v, %v", request, err)
	}
	// Signed, it is this machine's certificate.
	key, err := os.ReadFile(filepath.Join(folder, "key"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(key)
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: request.Subject, NotAfter: time.Now().Add(time.Hour)}
	signed, err := x509.CreateCertificate(nil, template, template, request.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}))
	toml := fmt.Sprintf("[[collector]]\nname = \"one\"\naddress = \"192.0.2.1\"\nauthorities = '''\n%s'''\ncertificate = '''\n%s'''\n", text, text)
	if err := os.WriteFile(document, []byte(toml), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := load(document, folder, "gateway", say)
	if err != nil || len(all) != 1 || len(said) != 1 {
		t.Fatalf("load = %v, %v, and it says %q", all, err, said)
	}
	if e := all[0]; e.Collector.address() != "192.0.2.1:6514" || len(e.TLS.Certificates) != 1 || e.TLS.ServerName != "192.0.2.1" || e.TLS.MinVersion != tls.VersionTLS13 {
		t.Errorf("the exporter is %+v with %+v", e.Collector, e.TLS)
	}
	// A certificate for another key is none of ours.
	if err := os.Remove(filepath.Join(folder, "key")); err != nil {
		t.Fatal(err)
	}
	if _, err := load(document, folder, "gateway", say); err == nil {
		t.Error("load with a certificate for another key = nil error")
	}
}

func TestMissing(t *testing.T) {
	e := &Exporter{}
	if r := e.missing(logrecord.Record{Sequence: 9}, 5); r.Sequence != 5 || r.Source != "log" || !strings.Contains(r.Message, "from 5 to 8 were removed") {
		t.Errorf("missing = %+v", r)
	}
}

// One that is away is told once, and again when the reason is another.
func TestAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	said := make(chan string, 10)
	e := &Exporter{
		Collector: Collector{Name: "one", Address: address}, TLS: &tls.Config{MinVersion: tls.VersionTLS13, ServerName: "x"},
		Place: filepath.Join(t.TempDir(), "place"), Say: func(s string) { said <- s },
	}
	ended := make(chan error)
	go func() { ended <- e.Run(ctx) }()
	if s := <-said; !strings.Contains(s, "connection refused") {
		t.Errorf("it says %q", s)
	}
	if l, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if s := <-said; strings.Contains(s, "connection refused") {
		t.Errorf("it says again %q", s)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
