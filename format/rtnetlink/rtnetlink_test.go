package rtnetlink

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// plain takes spaces out of a dump.
func plain(s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		panic(err)
	}
	return b
}

func TestRequests(t *testing.T) {
	for _, test := range []struct {
		name string
		got  []byte
		want string
	}{
		{"Links", Links(), "20000000 1200 0103 00000000 00000000 00000000 00000000 00000000 00000000"},
		{"Addresses", Addresses(), "18000000 1600 0103 00000000 00000000 02000000 00000000"},
		{"Routes", Routes(), "1c000000 1a00 0103 00000000 00000000 02000000 00000000 00000000"},
		{"MoveLink", MoveLink(2, "wan0", 7), `34000000 1300 0500 00000000 00000000 00000000 02000000 00000000 00000000
			0900 0300 77616e30 00000000 0800 1c00 07000000`},
		{"SetUp", SetUp(2, true), "20000000 1300 0500 00000000 00000000 00000000 02000000 01000000 01000000"},
		{"SetMTU", SetMTU(2, 1400), "28000000 1300 0500 00000000 00000000 00000000 02000000 00000000 00000000 0800 0400 78050000"},
		{"Set", Address{2, IPv4{10, 0, 2, 15}, 24, 600}.Set(), `3c000000 1400 0505 00000000 00000000 02180000 02000000
			0800 0200 0a00020f 0800 0100 0a00020f 1400 0600 58020000 58020000 00000000 00000000`},
		{"Route", Route{Gateway: IPv4{10, 0, 2, 2}, Link: 2, Source: IPv4{10, 0, 2, 15}, Protocol: DHCP}.Set(), `34000000 1800 0505 00000000 00000000
			02000000 fe100001 00000000 0800 0500 0a000202 0800 0700 0a00020f 0800 0400 02000000`},
	} {
		if !bytes.Equal(test.got, plain(test.want)) {
			t.Errorf("%s = %x, want %x", test.name, test.got, plain(test.want))
		}
	}
}

// reflect makes of a request that sets something what the kernel answers when it
// is asked for it.
func reflect(request []byte, kind byte) []byte {
	b := bytes.Clone(request)
	b[4], b[6], b[7] = kind, 2, 0
	return b
}

var done = plain("14000000 0300 0200 01000000 00000000 00000000")

func TestRead(t *testing.T) {
	address := Address{2, IPv4{10, 0, 2, 15}, 24, 600}
	route := Route{IPv4{192, 0, 2, 0}, 24, IPv4{10, 0, 2, 2}, 2, IPv4{10, 0, 2, 15}, 7, Static}
	link := plain(`3c000000 1000 0200 01000000 00000000 00000100 02000000 43100100 00000000
		0900 0300 77616e30 00000000 0600 0100 aabb0000 0800 0400 dc050000`)
	all := link
	for _, m := range [][]byte{reflect(address.Set(), newAddress), reflect(route.Set(), newRoute)} {
		Number(m, 1)
		all = append(all, m...)
	}
	other := bytes.Clone(link)
	Number(other, 9)
	var got Answer
	if err := got.Read(append(append(other, all...), done...), 1); err != nil {
		t.Fatal(err)
	}
	want := Answer{[]Link{{2, "wan0", []byte{0xaa, 0xbb}, false, true, true, 1500}}, []Address{address}, []Route{route}, true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Read, -want +got:\n%s", diff)
	}
	var refused Error
	if err := got.Read(plain("24000000 0200 0000 01000000 00000000 ffffffff 20000000 1300 0500 01000000 00000000"), 1); !errors.As(err, &refused) || refused != 1 {
		t.Errorf("Read of a refusal = %v, want the error 1", err)
	}
}

func TestReadRefuses(t *testing.T) {
	for _, text := range []string{
		"00", "ff000000 0300 0200 01000000 00000000", "0f000000 0300 0200 01000000 00000000",
		"10000000 0300 0200 01000000 00000000",                                               // an end without a code
		"10000000 6300 0200 01000000 00000000",                                               // a type that nobody asked for
		"14000000 0300 1200 01000000 00000000 00000000",                                      // NLM_F_DUMP_INTR
		"14000000 1000 0200 01000000 00000000 00000000",                                      // half an interface
		"20000000 1000 0200 01000000 00000000 00000100 02000000 43100100 00000000",           // without a name
		"24000000 1000 0200 01000000 00000000 00000100 02000000 43100100 00000000 0300 0300", // an attribute of 3 bytes
		"18000000 1400 0200 01000000 00000000 02210000 02000000",                             // of 33 bits
		"18000000 1400 0200 01000000 00000000 0a180000 02000000",                             // of IPv6
		"1c000000 1800 0200 01000000 00000000 02210000 fe030001 00000000",
	} {
		var a Answer
		if err := a.Read(plain(text), 1); err == nil {
			t.Errorf("Read(%s) = %+v", text, a)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(done)
	f.Add(reflect(Address{2, IPv4{10, 0, 2, 15}, 24, 600}.Set(), newAddress))
	f.Add(reflect(Route{IPv4{192, 0, 2, 0}, 24, IPv4{10, 0, 2, 2}, 2, IPv4{10, 0, 2, 15}, 7, Static}.Set(), newRoute))
	f.Fuzz(func(t *testing.T, b []byte) {
		var a, again Answer
		if a.Read(b, 0) != nil {
			return
		}
		// What was read can be set, and reads back as the same.
		for _, one := range a.Addresses {
			if err := again.Read(reflect(one.Set(), newAddress), 0); err != nil {
				t.Errorf("%+v reads back as %v", one, err)
			}
		}
		for _, one := range a.Routes {
			if one.Bits == 0 {
				one.To = IPv4{} // says nothing
			}
			var r Answer
			if err := r.Read(reflect(one.Set(), newRoute), 0); err != nil || r.Routes[0] != one {
				t.Errorf("%+v reads back as %+v, %v", one, r.Routes, err)
			}
		}
		if diff := cmp.Diff(a.Addresses, again.Addresses); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}
