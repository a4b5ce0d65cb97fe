// Package rtnetlink prints and parses the messages by which the kernel is asked
// about interfaces, IPv4 addresses and routes of a network namespace, and told to
// change them. It needs nothing but the standard library.
//
// Source: netlink(7), rtnetlink(7); include/uapi/linux/{netlink,rtnetlink,
// if_link,if_addr}.h of Linux 7.3. Numbers are little-endian, as on the machines
// that we build for; addresses are as they go over the wire.
package rtnetlink

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// Types of messages.
const (
	errorMessage = 2 // NLMSG_ERROR; with the error 0 it is an acknowledgement
	doneMessage  = 3 // NLMSG_DONE
	newLink      = 16
	getLink      = 18
	setLink      = 19
	newAddress   = 20
	delAddress   = 21
	getAddress   = 22
	newRoute     = 24
	delRoute     = 25
	getRoute     = 26
)

// Flags of messages.
const (
	request     = 0x001
	acknowledge = 0x004
	replace     = 0x100 // of requests that make
	create      = 0x400
	dump        = 0x300 // of requests that ask
	interrupted = 0x010 // NLM_F_DUMP_INTR
)

const (
	header       = 16 // struct nlmsghdr
	unspecified  = 0  // AF_UNSPEC
	inet         = 2  // AF_INET
	mainTable    = 254
	unicast      = 1 // RTN_UNICAST
	linkScope    = 253
	flagUp       = 0x1     // IFF_UP
	flagLoopback = 0x8     // IFF_LOOPBACK
	flagLower    = 0x10000 // IFF_LOWER_UP
)

// Attributes.
const (
	linkAddress   = 1 // IFLA_ADDRESS
	linkName      = 3 // IFLA_IFNAME
	linkMTU       = 4
	linkNamespace = 28

	addressAddress   = 1 // IFA_ADDRESS
	addressLocal     = 2 // IFA_LOCAL
	addressCacheInfo = 6

	routeDestination = 1
	routeInterface   = 4 // RTA_OIF
	routeGateway     = 5
	routePriority    = 6
	routeSource      = 7 // RTA_PREFSRC
	routeTable       = 15
)

// Forever is a lifetime without an end.
const Forever = 1<<32 - 1

// maxName is IFNAMSIZ without the zero behind.
const maxName = 15

// IPv4 is an address, in network byte order.
type IPv4 [4]byte

// Link is an interface.
type Link struct {
	Index    uint32
	Name     string
	Hardware []byte // its address on the link; empty where it has none
	Loopback bool
	Up       bool // it was told to be
	Carrier  bool // and something is at the other end
	MTU      uint32
}

// Address is an IPv4 address of an interface.
type Address struct {
	Link  uint32 // its interface's index
	IP    IPv4
	Bits  uint8  // of the network's prefix
	Valid uint32 // seconds until the kernel takes it away; Forever
}

// Route is an IPv4 route of the main table, to one interface.
type Route struct {
	To       IPv4
	Bits     uint8 // 0: everything else
	Gateway  IPv4  // zero: To is on the link
	Link     uint32
	Source   IPv4 // what packets come from; the route goes when that address goes. Zero: any
	Metric   uint32
	Protocol uint8 // who made it
}

// Who made a route (RTPROT_…).
const (
	Kernel uint8 = 2
	Static uint8 = 4
	DHCP   uint8 = 16
)

// Links asks for all interfaces.
func Links() []byte { return message(getLink, request|dump, make([]byte, 16), nil) }

// Addresses asks for all IPv4 addresses.
func Addresses() []byte { return message(getAddress, request|dump, []byte{inet, 7: 0}, nil) }

// Routes asks for all IPv4 routes.
func Routes() []byte { return message(getRoute, request|dump, []byte{inet, 11: 0}, nil) }

// MoveLink gives an interface to the network namespace that a descriptor refers
// to, under a name. It is down there.
func MoveLink(index uint32, name string, namespace int) []byte {
	var a attributes
	a.text(linkName, name)
	a.number(linkNamespace, uint32(namespace))
	return message(setLink, request|acknowledge, linkBody(index, 0, 0), a)
}

// SetUp switches an interface on or off.
func SetUp(index uint32, up bool) []byte {
	var flags uint32
	if up {
		flags = flagUp
	}
	return message(setLink, request|acknowledge, linkBody(index, flags, flagUp), nil)
}

// SetMTU sets the size of an interface's largest packet, in bytes.
func SetMTU(index, mtu uint32) []byte {
	var a attributes
	a.number(linkMTU, mtu)
	return message(setLink, request|acknowledge, linkBody(index, 0, 0), a)
}

func linkBody(index, flags, change uint32) []byte {
	b := []byte{unspecified, 0, 0, 0}
	for _, n := range []uint32{index, flags, change} {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	return b
}

// Set gives an interface the address, or the address that it has the lifetime.
func (a Address) Set() []byte {
	body, attributes := a.message()
	return message(newAddress, request|acknowledge|create|replace, body, attributes)
}

// Remove takes the address away.
func (a Address) Remove() []byte {
	body, attributes := a.message()
	return message(delAddress, request|acknowledge, body, attributes)
}

func (a Address) message() ([]byte, attributes) {
	var t attributes
	t.bytes(addressLocal, a.IP[:])
	t.bytes(addressAddress, a.IP[:])
	cache := make([]byte, 16)
	binary.LittleEndian.PutUint32(cache, a.Valid) // preferred
	binary.LittleEndian.PutUint32(cache[4:], a.Valid)
	t.bytes(addressCacheInfo, cache)
	return binary.LittleEndian.AppendUint32([]byte{inet, a.Bits, 0, 0}, a.Link), t
}

// Set makes the route, in the place of one that differs only in its gateway.
func (r Route) Set() []byte {
	body, attributes := r.message()
	return message(newRoute, request|acknowledge|create|replace, body, attributes)
}

// Remove takes the route away.
func (r Route) Remove() []byte {
	body, attributes := r.message()
	return message(delRoute, request|acknowledge, body, attributes)
}

func (r Route) message() ([]byte, attributes) {
	var a attributes
	scope := uint8(linkScope)
	if r.Bits > 0 {
		a.bytes(routeDestination, r.To[:])
	}
	if r.Gateway != (IPv4{}) {
		a.bytes(routeGateway, r.Gateway[:])
		scope = 0
	}
	if r.Source != (IPv4{}) {
		a.bytes(routeSource, r.Source[:])
	}
	a.number(routeInterface, r.Link)
	if r.Metric != 0 {
		a.number(routePriority, r.Metric)
	}
	return []byte{inet, r.Bits, 0, 0, mainTable, r.Protocol, scope, unicast, 0, 0, 0, 0}, a
}

// attributes are those of a message, one behind the other.
type attributes []byte

func (a *attributes) bytes(kind uint16, value []byte) {
	*a = binary.LittleEndian.AppendUint16(*a, uint16(4+len(value)))
	*a = binary.LittleEndian.AppendUint16(*a, kind)
	*a = append(*a, value...)
	for len(*a)%4 != 0 {
		*a = append(*a, 0)
	}
}

func (a *attributes) number(kind uint16, value uint32) {
	a.bytes(kind, binary.LittleEndian.AppendUint32(nil, value))
}

func (a *attributes) text(kind uint16, value string) { a.bytes(kind, append([]byte(value), 0)) }

// message prints a message whose sequence number and sender are still 0.
func message(kind, flags uint16, body []byte, a attributes) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(header+len(body)+len(a)))
	b = binary.LittleEndian.AppendUint16(b, kind)
	b = binary.LittleEndian.AppendUint16(b, flags)
	b = append(b, make([]byte, 8)...)
	return append(append(b, body...), a...)
}

// Number gives a request its sequence number, which the answers have as well.
func Number(request []byte, sequence uint32) {
	binary.LittleEndian.PutUint32(request[8:], sequence)
}

// Error is what the kernel answers when it does not do what it was asked: an
// errno.
type Error int32

func (e Error) Error() string { return fmt.Sprintf("the kernel answers with the error %d", int32(e)) }

// Answer is what the kernel has said to one request so far.
type Answer struct {
	Links     []Link
	Addresses []Address
	Routes    []Route
	Done      bool // nothing more comes
}

// Read adds what is in one datagram of the kernel. Messages with another sequence
// number are not of this answer. It returns an Error when the request was refused.
func (a *Answer) Read(datagram []byte, sequence uint32) error {
	for len(datagram) > 0 {
		if len(datagram) < header {
			return fmt.Errorf("cannot parse a netlink message of %d bytes", len(datagram))
		}
		length := int(binary.LittleEndian.Uint32(datagram))
		if length < header || length > len(datagram) {
			return fmt.Errorf("cannot parse a netlink message: %d bytes of %d", length, len(datagram))
		}
		kind, flags := binary.LittleEndian.Uint16(datagram[4:]), binary.LittleEndian.Uint16(datagram[6:])
		of, body := binary.LittleEndian.Uint32(datagram[8:]), datagram[header:length]
		datagram = datagram[min(len(datagram), (length+3)&^3):]
		if of != sequence {
			continue
		}
		if flags&interrupted != 0 {
			return fmt.Errorf("cannot list: something changed meanwhile")
		}
		if err := a.add(kind, body); err != nil {
			return err
		}
	}
	return nil
}

func (a *Answer) add(kind uint16, body []byte) error {
	var err error
	switch kind {
	case errorMessage, doneMessage:
		a.Done = true
		if len(body) < 4 {
			return fmt.Errorf("cannot parse a netlink message: an error of %d bytes", len(body))
		}
		if code := int32(binary.LittleEndian.Uint32(body)); code != 0 {
			return Error(-code)
		}
	case newLink:
		var l Link
		if l, err = parseLink(body); err == nil {
			a.Links = append(a.Links, l)
		}
	case newAddress:
		var address Address
		if address, err = parseAddress(body); err == nil {
			a.Addresses = append(a.Addresses, address)
		}
	case newRoute:
		r, ok, problem := parseRoute(body)
		if err = problem; err == nil && ok {
			a.Routes = append(a.Routes, r)
		}
	default:
		err = fmt.Errorf("cannot parse a netlink message of the type %d", kind)
	}
	return err
}

// each walks attributes.
func each(b []byte, do func(kind uint16, value []byte)) error {
	for len(b) > 0 {
		if len(b) < 4 {
			return fmt.Errorf("cannot parse a netlink attribute of %d bytes", len(b))
		}
		length := int(binary.LittleEndian.Uint16(b))
		if length < 4 || length > len(b) {
			return fmt.Errorf("cannot parse a netlink attribute: %d bytes of %d", length, len(b))
		}
		do(binary.LittleEndian.Uint16(b[2:])&0x3fff, b[4:length])
		b = b[min(len(b), (length+3)&^3):]
	}
	return nil
}

func number(value []byte) uint32 {
	if len(value) != 4 {
		return 0
	}
	return binary.LittleEndian.Uint32(value)
}

func ipv4(value []byte) IPv4 {
	if len(value) != 4 {
		return IPv4{}
	}
	return IPv4(value)
}

func parseLink(b []byte) (Link, error) {
	if len(b) < 16 {
		return Link{}, fmt.Errorf("cannot parse an interface of %d bytes", len(b))
	}
	flags := binary.LittleEndian.Uint32(b[8:])
	l := Link{
		Index: binary.LittleEndian.Uint32(b[4:]), Loopback: flags&flagLoopback != 0,
		Up: flags&flagUp != 0, Carrier: flags&flagLower != 0,
	}
	err := each(b[16:], func(kind uint16, value []byte) {
		switch kind {
		case linkAddress:
			l.Hardware = append([]byte(nil), value...)
		case linkMTU:
			l.MTU = number(value)
		case linkName:
			l.Name = strings.TrimSuffix(string(value), "\x00")
		}
	})
	if err == nil && (l.Name == "" || len(l.Name) > maxName || strings.Contains(l.Name, "\x00")) {
		err = fmt.Errorf("cannot parse an interface: its name is %q", l.Name)
	}
	return l, err
}

func parseAddress(b []byte) (Address, error) {
	if len(b) < 8 || b[0] != inet {
		return Address{}, fmt.Errorf("cannot parse an address of %d bytes", len(b))
	}
	a := Address{Link: binary.LittleEndian.Uint32(b[4:]), Bits: b[1], Valid: Forever}
	err := each(b[8:], func(kind uint16, value []byte) {
		switch {
		case kind == addressLocal:
			a.IP = ipv4(value)
		case kind == addressCacheInfo && len(value) >= 8:
			a.Valid = binary.LittleEndian.Uint32(value[4:])
		}
	})
	if err == nil && (a.Bits > 32 || a.IP == IPv4{}) {
		err = fmt.Errorf("cannot parse an address: %v/%d", a.IP, a.Bits)
	}
	return a, err
}

// parseRoute reads a route; ok is false for one that is not a unicast route of
// the main table to one interface.
func parseRoute(b []byte) (r Route, ok bool, err error) {
	if len(b) < 12 || b[0] != inet {
		return Route{}, false, fmt.Errorf("cannot parse a route of %d bytes", len(b))
	}
	table := uint32(b[4])
	r = Route{Bits: b[1], Protocol: b[5]}
	err = each(b[12:], func(kind uint16, value []byte) {
		switch kind {
		case routeDestination:
			r.To = ipv4(value)
		case routeInterface:
			r.Link = number(value)
		case routeGateway:
			r.Gateway = ipv4(value)
		case routePriority:
			r.Metric = number(value)
		case routeSource:
			r.Source = ipv4(value)
		case routeTable:
			table = number(value)
		}
	})
	if err == nil && r.Bits > 32 {
		err = fmt.Errorf("cannot parse a route to %v/%d", r.To, r.Bits)
	}
	return r, err == nil && table == mainTable && b[7] == unicast && r.Link != 0, err
}
