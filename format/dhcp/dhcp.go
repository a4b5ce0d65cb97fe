// Package dhcp prints what a DHCP client for IPv4 says, and parses what servers
// answer. Who answers is anybody on the link: a message that is not exactly of the
// form is refused, and of its options only those are read that a client here has a
// use for. It needs nothing but the standard library.
//
// Source: RFC 2131 (sections 2, 3 and 4.3.1), RFC 2132 (options), RFC 3396 (an
// option in pieces), RFC 6842 (client identifier). Numbers and
// addresses are in network byte order.
package dhcp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// Ports of UDP.
const (
	ServerPort = 67
	ClientPort = 68
)

// Type is what a message is for (RFC 2132, section 9.6).
type Type byte

// The types that a client sends or understands.
const (
	Discover Type = 1
	Offer    Type = 2
	Request  Type = 3
	ACK      Type = 5
	NAK      Type = 6
)

// Codes of options (RFC 2132). Routes that a server hands out (RFC 3442) are not
// among them: whoever is quickest to answer on a link would take traffic that the
// administrator has sent elsewhere (CVE-2024-3661).
const (
	optionPad        = 0
	optionMask       = 1
	optionRouter     = 3
	optionHostname   = 12
	optionRequested  = 50
	optionLease      = 51
	optionType       = 53
	optionServer     = 54
	optionParameters = 55
	optionText       = 56
	optionMaxSize    = 57
	optionRenewal    = 58
	optionRebinding  = 59
	optionClient     = 61
	optionEnd        = 255
)

const (
	bootRequest, bootReply = 1, 2
	ethernet               = 1
	hardwareSize           = 6
	broadcast              = 0x8000
	// fixed is the size up to the options (RFC 2131, figure 1), cookie what stands
	// before them.
	fixed  = 236
	cookie = 0x63825363
	// MaxSize bounds a message, in bytes: what an Ethernet frame holds.
	MaxSize = 1472
	// least is what relays take for a message of BOOTP (RFC 1542, section 2.1).
	least = 300
	// maxAddresses bounds a list: nobody has a use for more.
	maxAddresses = 16
)

// Infinite is a lease without an end.
const Infinite = 1<<32 - 1

// IPv4 is an address; the zero one is none.
type IPv4 [4]byte

// Hardware is the address of an Ethernet interface.
type Hardware [6]byte

// Question is what a client says.
type Question struct {
	Type     Type
	ID       uint32 // of the exchange: random
	Seconds  uint16 // since the exchange began
	Hardware Hardware
	Hostname string // "" says none
	Client   IPv4   // its address, when it can answer to it: renewing, rebinding, releasing
	// Wanted is the address that it asks for, before it has it.
	Wanted IPv4
	Server IPv4 // whose offer it takes
}

// Print returns the message.
func (q Question) Print() []byte {
	b := make([]byte, fixed, least)
	b[0], b[1], b[2] = bootRequest, ethernet, hardwareSize
	binary.BigEndian.PutUint32(b[4:], q.ID)
	binary.BigEndian.PutUint16(b[8:], q.Seconds)
	if q.Client == (IPv4{}) {
		// Without an address it hears only what is sent to all.
		binary.BigEndian.PutUint16(b[10:], broadcast)
	}
	copy(b[12:], q.Client[:])
	copy(b[28:], q.Hardware[:])
	b = binary.BigEndian.AppendUint32(b, cookie)
	option := func(code byte, value ...byte) { b = append(append(b, code, byte(len(value))), value...) }
	option(optionType, byte(q.Type))
	option(optionClient, append([]byte{ethernet}, q.Hardware[:]...)...)
	if q.Wanted != (IPv4{}) {
		option(optionRequested, q.Wanted[:]...)
	}
	if q.Server != (IPv4{}) {
		option(optionServer, q.Server[:]...)
	}
	if q.Type == Discover || q.Type == Request {
		option(optionMaxSize, MaxSize>>8, MaxSize&0xff)
		option(optionParameters, optionMask, optionRouter, optionLease, optionRenewal, optionRebinding)
		if q.Hostname != "" && len(q.Hostname) < 64 {
			option(optionHostname, []byte(q.Hostname)...)
		}
	}
	b = append(b, optionEnd)
	return append(b, make([]byte, max(0, least-len(b)))...)
}

// Answer is what a server says.
type Answer struct {
	Type      Type // Offer, ACK or NAK
	ID        uint32
	Hardware  Hardware // whom it is for
	Address   IPv4     // for the client; zero in a NAK
	Server    IPv4     // its identifier
	Lease     uint32   // seconds; Infinite
	Renewal   uint32   // T1, seconds from now; 0: it does not say
	Rebinding uint32   // T2, likewise
	Bits      uint8    // of the network's prefix
	Routers   []IPv4   // the best first
}

// Parse reads an answer.
func Parse(message []byte) (Answer, error) {
	a, err := parse(message)
	if err != nil {
		return Answer{}, fmt.Errorf("cannot parse a DHCP answer: %w", err)
	}
	return a, nil
}

func parse(b []byte) (Answer, error) {
	switch {
	case len(b) < fixed+4 || len(b) > MaxSize:
		return Answer{}, fmt.Errorf("it has %d bytes", len(b))
	case b[0] != bootReply || b[1] != ethernet || b[2] != hardwareSize:
		return Answer{}, errors.New("it is no answer to Ethernet")
	case binary.BigEndian.Uint32(b[fixed:]) != cookie:
		return Answer{}, errors.New("it is not of DHCP")
	}
	options, err := split(b[fixed+4:])
	if err != nil {
		return Answer{}, err
	}
	a := Answer{ID: binary.BigEndian.Uint32(b[4:]), Hardware: Hardware(b[28:34]), Address: IPv4(b[16:20])}
	r := reader{options: options}
	a.Type = Type(r.exactly(optionType, 1)[0])
	a.Server = IPv4(r.exactly(optionServer, 4))
	switch a.Type {
	case NAK:
		// Nothing else in it means anything (RFC 2131, table 3).
		return Answer{Type: NAK, ID: a.ID, Hardware: a.Hardware, Server: a.Server}, r.err
	case Offer, ACK:
	default:
		r.fail("it is of the type %d", a.Type)
	}
	a.Lease = r.number(optionLease)
	if _, ok := options[optionRenewal]; ok {
		a.Renewal = r.number(optionRenewal)
	}
	if _, ok := options[optionRebinding]; ok {
		a.Rebinding = r.number(optionRebinding)
	}
	mask := binary.BigEndian.Uint32(r.exactly(optionMask, 4))
	a.Bits = uint8(bits.OnesCount32(mask))
	if mask != ^uint32(0)<<(32-a.Bits) || a.Bits < 8 || a.Bits > 32 {
		r.fail("its mask is %08x", mask)
	}
	a.Routers = r.addresses(optionRouter)
	if r.err == nil {
		r.err = a.check()
	}
	return a, r.err
}

// check looks for what no client can have: an address that is not one of a host,
// or times that do not follow each other.
func (a Answer) check() error {
	for _, ip := range append([]IPv4{a.Address, a.Server}, a.Routers...) {
		if !ip.isHost() {
			return fmt.Errorf("%v is no address of a host", ip)
		}
	}
	if a.Bits < 31 {
		if host := binary.BigEndian.Uint32(a.Address[:]) & (1<<(32-a.Bits) - 1); host == 0 || host == 1<<(32-a.Bits)-1 {
			return fmt.Errorf("%v is no host of its network of %d bits", a.Address, a.Bits)
		}
	}
	if a.Lease == 0 {
		return errors.New("its lease has ended")
	}
	if a.Renewal > a.Lease || a.Rebinding > a.Lease || a.Renewal > a.Rebinding && a.Rebinding != 0 {
		return fmt.Errorf("it is to be renewed after %d s, rebound after %d s, and lasts %d s", a.Renewal, a.Rebinding, a.Lease)
	}
	return nil
}

// isHost reports whether an address can be one host's: not of this network, the
// loopback, multicast or beyond.
func (ip IPv4) isHost() bool { return ip[0] != 0 && ip[0] != 127 && ip[0] < 224 }

func (ip IPv4) String() string { return fmt.Sprintf("%d.%d.%d.%d", ip[0], ip[1], ip[2], ip[3]) }

// split returns the options by their codes. Pieces of one belong together
// (RFC 3396).
func split(b []byte) (map[byte][]byte, error) {
	options := map[byte][]byte{}
	for len(b) > 0 {
		code := b[0]
		switch {
		case code == optionPad:
			b = b[1:]
			continue
		case code == optionEnd:
			if len(bytes.Trim(b[1:], "\x00")) > 0 {
				return nil, errors.New("something stands behind its end")
			}
			return options, nil
		case len(b) < 2 || len(b) < 2+int(b[1]):
			return nil, fmt.Errorf("its option %d is cut off", code)
		}
		options[code] = append(options[code], b[2:2+int(b[1])]...)
		b = b[2+int(b[1]):]
	}
	return nil, errors.New("its options have no end")
}

// reader keeps the first thing that is wrong.
type reader struct {
	options map[byte][]byte
	err     error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// exactly returns the value of an option that has to be there.
func (r *reader) exactly(code byte, size int) []byte {
	value := r.options[code]
	if len(value) != size {
		r.fail("its option %d has %d bytes, want %d", code, len(value), size)
		return make([]byte, size)
	}
	return value
}

func (r *reader) number(code byte) uint32 { return binary.BigEndian.Uint32(r.exactly(code, 4)) }

func (r *reader) addresses(code byte) []IPv4 {
	value := r.options[code]
	if len(value)%4 != 0 || len(value) > 4*maxAddresses {
		r.fail("its option %d has %d bytes", code, len(value))
		return nil
	}
	var all []IPv4
	for ; len(value) > 0; value = value[4:] {
		all = append(all, IPv4(value[:4]))
	}
	return all
}

// Print returns the message of a server that answers so. It is for tests, which
// play one.
func (a Answer) Print() []byte {
	b := make([]byte, fixed)
	b[0], b[1], b[2] = bootReply, ethernet, hardwareSize
	binary.BigEndian.PutUint32(b[4:], a.ID)
	copy(b[16:], a.Address[:])
	copy(b[28:], a.Hardware[:])
	b = binary.BigEndian.AppendUint32(b, cookie)
	option := func(code byte, value ...byte) {
		if len(value) > 0 {
			b = append(append(b, code, byte(len(value))), value...)
		}
	}
	number := func(code byte, n uint32) {
		if n != 0 {
			option(code, binary.BigEndian.AppendUint32(nil, n)...)
		}
	}
	option(optionType, byte(a.Type))
	option(optionServer, a.Server[:]...)
	if a.Type != NAK {
		number(optionLease, a.Lease)
		number(optionRenewal, a.Renewal)
		number(optionRebinding, a.Rebinding)
		option(optionMask, binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-a.Bits))...)
		var routers []byte
		for _, ip := range a.Routers {
			routers = append(routers, ip[:]...)
		}
		option(optionRouter, routers...)
	}
	return append(b, optionEnd)
}
