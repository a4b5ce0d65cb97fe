// Package logexport is the service that sends the log to a collector as it is
// written: syslog (RFC 5424) over TLS with this machine's certificate (RFC 5425).
// The log service itself has no network.
//
// The log is the spool: what is kept here is up to where the collector has it.
// While it is away nothing is read, and when it is back it gets the rest; what the
// log had to remove meanwhile is told to it by number. Syslog has no receipts: a
// record counts as sent when the other machine's TCP has it, and after a broken
// connection the last ones can come twice, under the same sequence.
//
// It needs a folder for its key and its place, the log document of the
// configuration, the log's socket, and a network in which the collector is.
package logexport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"cloison/format/logrecord"
	format "cloison/format/service"
	"cloison/format/syslog"
	"cloison/linux/file"
	"cloison/linux/socket"
	"cloison/target/varlink"
)

const (
	// port is that of syslog over TLS (RFC 5425, section 4.1).
	port = "6514"
	// wait is how long the log is asked to wait for records, in seconds.
	wait = 10
	// count is how many records are asked for.
	count = 500
	// dialing is how long a connection may take to be made, and a write.
	dialing  = 30 * time.Second
	patience = 30 * time.Second
	// The pause after a failure doubles from the first to the second.
	pause   = time.Second
	longest = time.Minute
)

// Collector is where a log is sent to.
type Collector struct {
	Name        string
	Address     string // host or host:port
	Authorities string // PEM
}

// TLS returns how to speak to a collector, as the owner of a certificate.
func (c Collector) TLS(own *tls.Certificate) (*tls.Config, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(c.Authorities)) {
		return nil, fmt.Errorf("collector %s: its authorities are no certificates", c.Name)
	}
	host, _, err := net.SplitHostPort(c.address())
	if err != nil {
		return nil, fmt.Errorf("collector %s: %w", c.Name, err)
	}
	t := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool, ServerName: host}
	if own != nil {
		t.Certificates = []tls.Certificate{*own}
	}
	return t, nil
}

func (c Collector) address() string {
	if _, _, err := net.SplitHostPort(c.Address); err == nil {
		return c.Address
	}
	return net.JoinHostPort(strings.Trim(c.Address, "[]"), port)
}

// Page is some records and where to go on.
type Page struct {
	Records []logrecord.Record `json:"records"`
	Next    uint64             `json:"next"`
}

// Read asks the log service.
func Read(first uint64) (p Page, err error) {
	err = varlink.Do(format.SocketPath("logd", "log"), "cloison.Log.Read", map[string]uint64{"first": first, "count": count, "wait": wait}, &p, patience)
	return p, err
}

// Exporter sends the log to one collector.
type Exporter struct {
	Collector Collector
	TLS       *tls.Config
	Host      string // what this machine is called
	Place     string // file with the sequence of the next record
	Read      func(first uint64) (Page, error)
	Say       func(text string)
}

// Run sends until ctx ends.
func (e *Exporter) Run(ctx context.Context) error {
	delay, said := pause, ""
	for {
		began := time.Now()
		err := e.send(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > longest {
			delay, said = pause, ""
		}
		if why := reason(err); why != said {
			e.Say(fmt.Sprintf("collector %s is away: %s", e.Collector.Name, why))
			said = why
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay):
		}
		delay = min(2*delay, longest)
	}
}

// reason is an error without the port of our own end, which is another each time.
func reason(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}

// errEnded says that the collector, and not we, ended the connection.
var errEnded = errors.New("the collector has ended the connection")

// send connects and sends until something fails.
func (e *Exporter) send(ctx context.Context) (err error) {
	next, err := e.place()
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	dialer := &net.Dialer{Timeout: dialing}
	// The box allows TCP, and multipath TCP is another protocol to it.
	dialer.SetMultipathTCP(false)
	raw, err := dialer.DialContext(ctx, "tcp", e.Collector.address())
	if err != nil {
		return err
	}
	c := tls.Client(raw, e.TLS)
	defer func() {
		// What ended it explains what failed then.
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		_ = raw.Close() // it may be closed already
	}()
	shake, cancel := context.WithTimeout(ctx, dialing)
	defer cancel()
	if err := c.HandshakeContext(shake); err != nil {
		return err
	}
	tcp, ok := raw.(*net.TCPConn)
	if !ok {
		return errors.New("internal error: the connection is not TCP")
	}
	e.Say(fmt.Sprintf("collector %s: connected, from record %d on", e.Collector.Name, next))
	// A collector says nothing. When it ends, or refuses our certificate, it is
	// heard here.
	go func() {
		_, err := io.Copy(io.Discard, c)
		if err != nil {
			err = fmt.Errorf("%w: %s", errEnded, reason(err))
		} else {
			err = errEnded
		}
		stop(err)
		_ = raw.Close() // ends a write that waits
	}()
	sent := next
	for ctx.Err() == nil {
		p, err := e.Read(sent)
		if err != nil {
			return err
		}
		unsent, err := socket.Unsent(tcp)
		if err != nil {
			return err
		}
		if unsent == 0 && sent != next {
			// What was written before has arrived.
			if err := file.WriteAtomic(e.Place, []byte(strconv.FormatUint(sent, 10)+"\n"), 0o600); err != nil {
				return err
			}
			next = sent
		}
		var b []byte
		if len(p.Records) > 0 && p.Records[0].Sequence > sent {
			b = syslog.Frame(e.missing(p.Records[0], sent), e.Host)
		}
		for _, r := range p.Records {
			b = append(b, syslog.Frame(r, e.Host)...)
		}
		if err := c.SetWriteDeadline(time.Now().Add(dialing)); err != nil {
			return err
		}
		if _, err := c.Write(b); err != nil {
			return err
		}
		sent = p.Next
	}
	return nil
}

// missing is what is said in the place of records that the log has removed.
func (e *Exporter) missing(r logrecord.Record, from uint64) logrecord.Record {
	return logrecord.Record{
		Time: r.Time, Boot: r.Boot, Sequence: from, Source: "log",
		Message: fmt.Sprintf("the records from %d to %d were removed before the collector had them", from, r.Sequence-1),
	}
}

// place reads where to go on.
func (e *Exporter) place() (uint64, error) {
	b, err := os.ReadFile(e.Place)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	var n uint64
	if err == nil {
		n, err = strconv.ParseUint(strings.TrimSuffix(string(b), "\n"), 10, 53)
	}
	if err != nil {
		return 0, fmt.Errorf("cannot tell up to where %s has the log: %w", e.Collector.Name, err)
	}
	return n, nil
}
