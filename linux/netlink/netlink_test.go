package netlink

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"cloison/format/rtnetlink"
	"cloison/linux/namespace"
)

// TestKernel: the kernel does what it is asked in a network namespace of its own,
// and says so.
func TestKernel(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("this test makes network namespaces: run it as root")
	}
	at := filepath.Join(t.TempDir(), "kept")
	var problem error
	err := namespace.KeepNetwork(at, func() error {
		problem = inside(t)
		return nil
	})
	if err != nil || problem != nil {
		t.Fatal(err, problem)
	}
	if err := unix.Unmount(at, 0); err != nil {
		t.Error(err)
	}
	if err := namespace.KeepNetwork(at, func() error { return nil }); err == nil {
		t.Error("KeepNetwork made one where there was a file")
	}
}

func inside(t *testing.T) error {
	s, err := Open()
	if err != nil {
		return err
	}
	defer s.Close()
	a, err := s.Do(rtnetlink.Links())
	if err != nil {
		return err
	}
	if len(a.Links) == 0 || a.Links[0].Name != "lo" || a.Links[0].Up || !a.Links[0].Loopback {
		t.Fatalf("a new network namespace has %+v", a.Links)
	}
	lo := a.Links[0].Index
	address := rtnetlink.Address{Link: lo, IP: rtnetlink.IPv4{192, 0, 2, 1}, Bits: 24, Valid: 600}
	route := rtnetlink.Route{
		To: rtnetlink.IPv4{198, 51, 100, 0}, Bits: 24, Gateway: rtnetlink.IPv4{192, 0, 2, 2}, Link: lo,
		Source: address.IP, Metric: 5, Protocol: rtnetlink.DHCP,
	}
	for _, request := range [][]byte{rtnetlink.SetUp(lo, true), address.Set(), address.Set(), route.Set(), route.Set()} {
		if _, err := s.Do(request); err != nil {
			return err
		}
	}
	if a, err = s.Do(rtnetlink.Addresses()); err != nil {
		return err
	}
	if len(a.Addresses) > 0 && a.Addresses[len(a.Addresses)-1].IP == address.IP {
		a.Addresses[len(a.Addresses)-1].Valid = 600 // a second may have passed
	}
	want := []rtnetlink.Address{{Link: lo, IP: rtnetlink.IPv4{127, 0, 0, 1}, Bits: 8, Valid: rtnetlink.Forever}, address}
	if diff := cmp.Diff(want, a.Addresses); diff != "" {
		t.Errorf("addresses, -want +got:\n%s", diff)
	}
	if a, err = s.Do(rtnetlink.Routes()); err != nil {
		return err
	}
	if len(a.Routes) == 0 || a.Routes[len(a.Routes)-1] != route {
		t.Errorf("routes %+v, want %+v at the end", a.Routes, route)
	}
	// The route goes with the address that it is from.
	if _, err := s.Do(address.Remove()); err != nil {
		return err
	}
	if _, err := s.Do(route.Remove()); err != syscall.ESRCH {
		t.Errorf("the route outlives its address: %v", err)
	}
	if _, err := s.Do(address.Remove()); err != syscall.EADDRNOTAVAIL {
		t.Errorf("an address that is not there was removed: %v", err)
	}
	return nil
}
