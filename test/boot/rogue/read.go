package rogue

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"cloison/target/state"
)

// readFile is one that the first boot wrote: it lies in its place on the disk
// and no more in dm-integrity's journal.
const readFile = "identity/machine-id"

// read reads a file of the state volume from the disk again and again, until
// it was good, an error, and good again. /proc must be mounted.
func (r *rogue) read() error {
	name := filepath.Join(state.Folder, readFile)
	want, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	r.say("read: %d good bytes", len(want))
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for failed := false; ; <-tick.C {
		// What the page cache holds is not read from the disk again
		// (Documentation/admin-guide/sysctl/vm.rst).
		if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("1\n"), 0); err != nil {
			return err
		}
		got, err := os.ReadFile(name)
		switch {
		case !bytes.HasPrefix(want, got) || err == nil && len(got) != len(want):
			r.say("read: WRONG DATA %q", got)
			return nil
		case err == nil && failed:
			r.say("read: %d good bytes again", len(got))
			return nil
		case errors.Is(err, syscall.EIO) && !failed:
			failed = true
			r.say("read: %d bytes, then %v", len(got), err)
		case err != nil && !errors.Is(err, syscall.EIO):
			return err
		}
	}
}
