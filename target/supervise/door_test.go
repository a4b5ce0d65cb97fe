package supervise

import (
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cloison/format/service"
)

func address(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func TestDoor(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	d := newDoor(service.Accept{Port: 22, Waiting: 4, Each: 2, Minute: 6}, 5)
	a, b, c := address(1), address(2), address(3)
	admit := func(from netip.Addr, want bool) {
		t.Helper()
		if got := d.admit(now, from); got != want {
			t.Fatalf("admit(%v) = %t, want %t", from, got, want)
		}
	}
	admit(a, true)
	admit(a, true)
	admit(a, false) // two of one source wait
	admit(b, true)
	admit(b, true)
	admit(c, false) // four wait
	d.proven(a)
	admit(c, true)
	d.proven(b)
	admit(a, false) // five are inside
	d.left(a, true)
	admit(a, true)
	if n := d.takeRefused(); n != 3 {
		t.Errorf("%d were refused, want 3", n)
	}
	if n := d.takeRefused(); n != 0 {
		t.Errorf("%d were refused after it was told", n)
	}
	// Each connection costs credit, also when it is short.
	d = newDoor(service.Accept{Port: 22, Waiting: 4, Each: 2, Minute: 6}, 5)
	for range 6 {
		admit(a, true)
		d.left(a, false)
	}
	admit(a, false)
	admit(b, true)
	now = now.Add(9 * time.Second)
	admit(a, false)
	now = now.Add(time.Second)
	admit(a, true)
	admit(a, false)
}

// TestDoorRemembers: many sources make it forget nobody who owes it, and take no
// more memory.
func TestDoorRemembers(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	d := newDoor(service.Accept{Port: 22, Waiting: 4, Each: 2, Minute: 6}, 5)
	for n := range uint32(maxSources) {
		if !d.admit(now, address(n)) {
			t.Fatalf("source %d is refused", n)
		}
		d.left(address(n), false)
	}
	if d.admit(now, address(maxSources)) {
		t.Error("a source more is let in without being remembered")
	}
	now = now.Add(10 * time.Second)
	if !d.admit(now, address(maxSources)) || len(d.sources) != 1 {
		t.Errorf("after ten seconds %d sources are remembered, want the new one", len(d.sources))
	}
	// Hosts of one IPv6 network are one source.
	if sourceOf(netip.MustParseAddr("2001:db8::1")) != sourceOf(netip.MustParseAddr("2001:db8::2:3")) {
		t.Error("two addresses of one IPv6 network are two sources")
	}
}

// TestDoorCounts: whatever happens in whatever order, the bounds hold, and nothing
// is left when all have gone.
func TestDoorCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type inside struct {
			from   netip.Addr
			proven bool
		}
		now := time.Unix(1_800_000_000, 0)
		d := newDoor(service.Accept{Port: 22, Waiting: 3, Each: 2, Minute: 100}, 6)
		var all []inside
		for range 60 {
			switch rapid.IntRange(0, 2).Draw(t, "what") {
			case 0:
				from := address(rapid.Uint32Range(1, 4).Draw(t, "from"))
				if d.admit(now, from) {
					all = append(all, inside{from: from})
				}
			case 1:
				if len(all) > 0 {
					if i := rapid.IntRange(0, len(all)-1).Draw(t, "who"); !all[i].proven {
						all[i].proven = true
						d.proven(all[i].from)
					}
				}
			case 2:
				if len(all) > 0 {
					i := rapid.IntRange(0, len(all)-1).Draw(t, "who")
					d.left(all[i].from, all[i].proven)
					all = append(all[:i], all[i+1:]...)
				}
			}
			waiting, each := uint32(0), map[netip.Addr]uint32{}
			for _, one := range all {
				if !one.proven {
					waiting++
					each[one.from]++
				}
			}
			for from, n := range each {
				if n > d.Each || d.sources[from].waiting != n {
					t.Fatalf("%d of %v wait, it counts %d", n, from, d.sources[from].waiting)
				}
			}
			if waiting > d.Waiting || d.waiting != waiting || len(all) > 6 || d.inside != uint32(len(all)) {
				t.Fatalf("%d wait of %d inside, it counts %d of %d", waiting, len(all), d.waiting, d.inside)
			}
		}
	})
}
