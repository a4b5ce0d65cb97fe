package clock

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/beevik/ntp"
)

// ntpTime prints a time as NTP has it: seconds since 1900 and their fraction
// (RFC 5905, section 6).
func ntpTime(t time.Time) uint64 {
	return uint64(t.Unix()+2208988800)<<32 | uint64(t.Nanosecond())<<32/1e9
}

// reply is a good answer of a server of stratum 1 to a request: RFC 5905, figure 8.
func reply(request []byte, ahead time.Duration) []byte {
	now := ntpTime(time.Now().Add(ahead))
	p := make([]byte, 48)
	p[0], p[1], p[2], p[3] = 0<<6|4<<3|4, 1, 6, 0xe9 // no leap, version 4, server; precision 2^-23
	binary.BigEndian.PutUint32(p[8:], 1<<10)         // root dispersion, 1/64 s
	copy(p[12:], "GPS\x00")
	binary.BigEndian.PutUint64(p[16:], now-1<<32) // reference
	copy(p[24:], request[40:48])                  // origin
	binary.BigEndian.PutUint64(p[32:], now)       // receive
	binary.BigEndian.PutUint64(p[40:], now)       // transmit
	return p
}

// ntpServer answers each request on a port of its own with what change makes of a
// good reply; nil is no answer.
func ntpServer(t *testing.T, ahead time.Duration, change func(p []byte) []byte) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			if p := change(reply(b[:n], ahead)); p != nil {
				if _, err := conn.WriteTo(p, from); err != nil {
					return
				}
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return conn.LocalAddr().String()
}

func TestQuery(t *testing.T) {
	for _, ahead := range []time.Duration{0, time.Hour, -time.Hour, 24 * 365 * time.Hour} {
		server := ntpServer(t, ahead, func(p []byte) []byte { return p })
		s, err := query(t.Context(), server)
		if err != nil || s.server != server || (s.offset-ahead).Abs() > s.distance {
			t.Errorf("query of a server that is %v ahead = %+v, %v", ahead, s, err)
		}
	}
}

func TestQueryRefuses(t *testing.T) {
	put := func(at int, value byte) func([]byte) []byte {
		return func(p []byte) []byte { p[at] = value; return p }
	}
	kiss := func(code string) func([]byte) []byte {
		return func(p []byte) []byte { p[1] = 0; copy(p[12:], code); return p }
	}
	for _, test := range []struct {
		name   string
		change func(p []byte) []byte
		want   error
		text   string
	}{
		{name: "kiss of death RATE", change: kiss("RATE"), want: errRate},
		{name: "kiss of death DENY", change: kiss("DENY"), want: errDenied},
		{name: "kiss of death RSTR", change: kiss("RSTR"), want: errDenied},
		{name: "kiss of death INIT", change: kiss("INIT"), text: `is not synchronised: "INIT"`},
		{name: "another's origin", change: func(p []byte) []byte { p[24] ^= 1; return p }, want: ntp.ErrServerResponseMismatch},
		{name: "origin zero", change: func(p []byte) []byte { clear(p[24:32]); return p }, want: ntp.ErrServerResponseMismatch},
		{name: "not synchronised", change: put(0, 3<<6|4<<3|4), want: ntp.ErrInvalidLeapSecond},
		{name: "stratum 16", change: put(1, 16), want: ntp.ErrInvalidStratum},
		{name: "a client's packet", change: put(0, 4<<3|3), want: ntp.ErrInvalidMode},
		{name: "a broadcast", change: put(0, 4<<3|5), want: ntp.ErrInvalidMode},
		{name: "no transmit time", change: func(p []byte) []byte { clear(p[40:48]); return p }, want: ntp.ErrInvalidTransmitTime},
		{name: "sent before it was received", change: put(39, 0xff), want: ntp.ErrServerTickedBackwards},
		{name: "a clock set in the future", change: put(16, 0xff), want: ntp.ErrInvalidTime},
		{name: "a clock set a week ago", change: func(p []byte) []byte {
			binary.BigEndian.PutUint64(p[16:], binary.BigEndian.Uint64(p[40:])-7*86400<<32)
			return p
		}, want: ntp.ErrServerClockFreshness},
		{name: "uncertain by an hour", change: func(p []byte) []byte { binary.BigEndian.PutUint32(p[8:], 3600<<16); return p }, want: ntp.ErrInvalidDispersion},
		{name: "uncertain by two seconds", change: func(p []byte) []byte { binary.BigEndian.PutUint32(p[4:], 4<<16); return p }, text: "its time is uncertain by"},
		{name: "half a packet", change: func(p []byte) []byte { return p[:47] }, want: ntp.ErrInvalidTime},
		{name: "an empty packet", change: func([]byte) []byte { return []byte{} }, want: ntp.ErrInvalidTime},
	} {
		s, err := query(t.Context(), ntpServer(t, time.Hour, func(p []byte) []byte {
			// The last byte of the receive time: later than the transmit time.
			if test.want == ntp.ErrServerTickedBackwards {
				p[39], p[47] = 0, 0
			}
			return test.change(p)
		}))
		if err == nil || test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: query = %+v, %v, want %v%s", test.name, s, err, test.want, test.text)
		}
	}
}

// TestQueryEnds: who says nothing holds up nobody who wants to leave.
func TestQueryEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	server := ntpServer(t, 0, func([]byte) []byte { cancel(); return nil })
	if s, err := query(ctx, server); !errors.Is(err, net.ErrClosed) {
		t.Errorf("query = %+v, %v, want %v", s, err, net.ErrClosed)
	}
}

// TestQueryFromElsewhere: an answer that another port sends is not the server's.
func TestQueryFromElsewhere(t *testing.T) {
	other, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sent := make(chan error)
	go func() {
		b := make([]byte, 512)
		n, from, err := conn.ReadFrom(b)
		if err == nil {
			_, err = other.WriteTo(reply(b[:n], time.Hour), from)
		}
		if err == nil {
			_, err = conn.WriteTo(reply(b[:n], 0), from)
		}
		sent <- err
	}()
	s, err := query(t.Context(), conn.LocalAddr().String())
	if err != nil || s.offset.Abs() > s.distance {
		t.Errorf("query = %+v, %v, want the server's own answer", s, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}
