package dhcp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	card   = Hardware{0x52, 0x54, 0, 0x12, 0x34, 0x56}
	server = IPv4{10, 0, 2, 2}
)

func offer() Answer {
	return Answer{
		Type: ACK, ID: 0x01020304, Hardware: card, Address: IPv4{10, 0, 2, 15}, Server: server,
		Lease: 86400, Renewal: 43200, Rebinding: 75600, Bits: 24, Routers: []IPv4{server, {10, 0, 2, 3}},
	}
}

func TestPrint(t *testing.T) {
	got := Question{Type: Discover, ID: 0x01020304, Seconds: 5, Hardware: card, Hostname: "gw"}.Print()
	want, err := hex.DecodeString("01010600" + "01020304" + "00058000" + strings.Repeat("00", 16) + "525400123456" + strings.Repeat("00", 10+192) +
		"63825363" + "350101" + "3d0701525400123456" + "390205c0" + "370501033" + "33a3b" + "0c026777" + "ff")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, make([]byte, 300-len(want))...)
	if !bytes.Equal(got, want) {
		t.Errorf("Print = %x, want %x", got, want)
	}
	// Who has an address is answered there.
	if q := (Question{Type: Request, Client: IPv4{10, 0, 2, 15}}).Print(); q[10] != 0 || !bytes.Equal(q[12:16], []byte{10, 0, 2, 15}) {
		t.Errorf("Print of a renewal = %x", q[:20])
	}
}

func TestParse(t *testing.T) {
	for _, want := range []Answer{
		offer(),
		{Type: NAK, ID: 7, Hardware: card, Server: server},
		{Type: Offer, ID: 7, Hardware: card, Address: IPv4{192, 0, 2, 1}, Server: IPv4{192, 0, 2, 0}, Lease: Infinite, Bits: 31},
	} {
		got, err := Parse(want.Print())
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("Parse: %v, -want +got:\n%s", err, diff)
		}
	}
	// An option in pieces is one option.
	b := offer().Print()
	b = append(b[:len(b)-1], optionRouter, 4, 10, 0, 2, 4, optionPad, optionEnd, 0, 0)
	if got, err := Parse(b); err != nil || len(got.Routers) != 3 {
		t.Errorf("Parse of an option in pieces = %v, %v", got.Routers, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for want, change := range map[string]func(a *Answer){
		"of the type 1":           func(a *Answer) { a.Type = Discover },
		"0.0.0.0 is no address":   func(a *Answer) { a.Address = IPv4{} },
		"127.0.0.1 is no address": func(a *Answer) { a.Server = IPv4{127, 0, 0, 1} },
		"224.0.0.1 is no address": func(a *Answer) { a.Routers[1] = IPv4{224, 0, 0, 1} },
		"10.0.2.0 is no host":     func(a *Answer) { a.Address[3] = 0 },
		"10.0.2.255 is no host":   func(a *Answer) { a.Address[3] = 255 },
		"its mask is fe000000":    func(a *Answer) { a.Bits = 7 },
		"option 51 has 0 bytes":   func(a *Answer) { a.Lease = 0 },
		"to be renewed":           func(a *Answer) { a.Renewal = 86401 },
		"rebound after 43199":     func(a *Answer) { a.Rebinding = 43199 },
		"option 3 has 68 bytes":   func(a *Answer) { a.Routers = slices.Repeat(a.Routers[:1], 17) },
	} {
		a := offer()
		change(&a)
		if got, err := Parse(a.Print()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse = %+v, %v, want %s", got, err, want)
		}
	}
	for name, change := range map[string]func([]byte) []byte{
		"short":                func(b []byte) []byte { return b[:239] },
		"long":                 func(b []byte) []byte { return append(b, make([]byte, MaxSize)...) },
		"a question":           func(b []byte) []byte { b[0] = 1; return b },
		"not of Ethernet":      func(b []byte) []byte { b[1] = 6; return b },
		"BOOTP":                func(b []byte) []byte { b[236] = 0; return b },
		"without an end":       func(b []byte) []byte { return b[:len(b)-1] },
		"cut off":              func(b []byte) []byte { return b[:len(b)-2] },
		"more behind the end":  func(b []byte) []byte { return append(b, 1) },
		"a mask with holes":    func(b []byte) []byte { i := bytes.Index(b, []byte{1, 4, 255, 255}); b[i+4] = 0x55; return b },
		"a lease of 0 s":       func(b []byte) []byte { i := bytes.Index(b, []byte{51, 4}); clear(b[i+2 : i+6]); return b },
		"a type of two bytes":  func(b []byte) []byte { return append(b[:len(b)-1], 53, 1, 5, 255) },
		"half an address":      func(b []byte) []byte { return append(b[:len(b)-1], 3, 1, 5, 255) },
		"an option of nothing": func(b []byte) []byte { return append(b[:len(b)-1], 53) },
	} {
		if got, err := Parse(change(offer().Print())); err == nil {
			t.Errorf("Parse of what is %s = %+v", name, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(offer().Print())
	f.Add(Answer{Type: NAK, Server: server}.Print())
	f.Add(append(offer().Print(), 0, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := Parse(b)
		if err != nil {
			return
		}
		again, err := Parse(a.Print())
		if diff := cmp.Diff(a, again); err != nil || diff != "" {
			t.Errorf("Parse(Print(%+v)): %v, -want +got:\n%s", a, err, diff)
		}
		if a.Type != NAK && (a.Lease == 0 || binary.BigEndian.Uint32(a.Address[:]) == 0) {
			t.Errorf("%+v is no lease", a)
		}
	})
}
