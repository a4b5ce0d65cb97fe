package swap

import (
	"fmt"
	"path/filepath"
	"testing"

	"cloison/test/guest"
	"cloison/test/guest/job"
)

// A group may swap out as much as it may hold in memory, and no more: it ends
// then, and has left the swap to the others.
func TestShare(t *testing.T) {
	root, g := newGuest(t)
	dir := t.TempDir()
	greedy, disk := filepath.Join(dir, "greedy"), filepath.Join(dir, "swap.img")
	if err := guest.Compile(t.Context(), root, "./test/swap/greedy", greedy); err != nil {
		t.Fatal(err)
	}
	makeDisk(t, disk)
	const limit = 16 // MiB
	results, err := g.Run(t.Context(), guest.Job{
		Disks: []guest.Disk{{Name: "swap", Path: disk, Writable: true}}, Programs: map[string]string{"greedy": greedy},
		Commands: []job.Command{{Args: []string{guest.Programs + "/greedy", guest.Disks + "/swap", fmt.Sprint(limit), "24", "48"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var how [2]string
	var killed, peak [2]uint64
	if _, err := fmt.Sscan(string(results[0].Stdout), &how[0], &killed[0], &peak[0], &how[1], &killed[1], &peak[1]); err != nil {
		t.Fatalf("greedy says %q: %v", results[0].Stdout, err)
	}
	t.Logf("%s", results[0].Stdout)
	if how[0] != "done" || killed[0] != 0 || peak[0] < (24-limit)<<20 {
		t.Errorf("24 MiB in a group of %d: %s, %d killed, %d bytes swapped out; want done, by swapping out what is too much", limit, how[0], killed[0], peak[0])
	}
	if how[1] != "signal:-killed" || killed[1] == 0 || peak[1] > limit<<20 {
		t.Errorf("48 MiB in a group of %d: %s, %d killed, %d bytes swapped out; want it killed with %d MiB swapped out at most", limit, how[1], killed[1], peak[1], limit)
	}
}
