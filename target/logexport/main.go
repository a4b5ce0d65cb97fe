package logexport

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"cloison/format/config"
	"cloison/linux/file"
	"cloison/target/service"
)

// Where things are in the service's root.
const (
	folder   = "/state/export"
	document = "/etc/cloison/log.toml"
)

// Main is the program.
func Main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "cloison: logexport: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	notify, err := service.Notify()
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	exporters, err := load(document, folder, host, say)
	if err != nil {
		return err
	}
	if err := notify.Ready(); err != nil {
		return err
	}
	ended := make(chan error)
	for _, e := range exporters {
		go func() { ended <- e.Run(ctx) }()
	}
	if len(exporters) == 0 {
		say("the log is sent to nobody: no collectors are configured")
		<-ctx.Done()
	}
	for range exporters {
		err = errors.Join(err, <-ended)
	}
	return err
}

func say(text string) { fmt.Println(text) }

// load makes an exporter for each collector of the log document. Without a
// document there are none.
func load(document, folder, host string, say func(string)) ([]*Exporter, error) {
	text, err := os.ReadFile(document)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration: %w", err)
	}
	d, err := config.As[config.Log](text)
	if err != nil {
		return nil, err
	}
	key, err := loadKey(filepath.Join(folder, "key"), host, say)
	if err != nil {
		return nil, err
	}
	var all []*Exporter
	for _, c := range d.Collectors {
		where := Collector{c.Name, c.Address, c.Authorities}
		var own *tls.Certificate
		if c.Certificate != "" {
			pair, err := tls.X509KeyPair([]byte(c.Certificate), key)
			if err != nil {
				return nil, fmt.Errorf("collector %s: the certificate is not for this machine's key: %w", c.Name, err)
			}
			own = &pair
		}
		t, err := where.TLS(own)
		if err != nil {
			return nil, err
		}
		all = append(all, &Exporter{Collector: where, TLS: t, Host: host, Place: filepath.Join(folder, c.Name+".place"), Read: Read, Say: say})
	}
	return all, nil
}

// loadKey reads this machine's key for collectors, in PEM, or makes it. What an
// authority has to sign is said once.
func loadKey(path, host string, say func(string)) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		return text, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("cannot make a key for collectors: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("cannot make a key for collectors: %w", err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: host}}, key)
	if err != nil {
		return nil, fmt.Errorf("cannot make a key for collectors: %w", err)
	}
	text = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := file.WriteAtomic(path, text, 0o400); err != nil {
		return nil, err
	}
	say("a key was made; an authority that the collectors trust signs this request (PKCS #10, base64): " + base64.StdEncoding.EncodeToString(request))
	return text, nil
}
