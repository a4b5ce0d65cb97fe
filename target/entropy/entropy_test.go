package entropy

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestASeedCountsOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seed")
	var counted [][]byte
	credit := func(seed []byte) error {
		// At this moment the seed on the disk is another one already.
		now, err := os.ReadFile(path)
		if err != nil || bytes.Equal(now, seed) || len(now) != Size {
			t.Errorf("a seed is counted while %x lies on the disk, %v", now, err)
		}
		counted = append(counted, bytes.Clone(seed))
		return nil
	}
	for boot, want := range []bool{false, true, true} {
		if got, err := Carry(path, credit); got != want || err != nil {
			t.Errorf("boot %d: Carry() = %v, %v, want %v", boot, got, err, want)
		}
	}
	if len(counted) != 2 || bytes.Equal(counted[0], counted[1]) {
		t.Errorf("counted were %x, want two different seeds", counted)
	}
	before, _ := os.ReadFile(path)
	if err := Save(path); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(path); bytes.Equal(before, after) || len(after) != Size || err != nil {
		t.Errorf("Save leaves %x, %v", after, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the seed is %v, %v, want mode 0600", info.Mode(), err)
	}
}

// A seed that cannot be replaced is not counted: it would be there again.
func TestASeedThatStays(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "seed")
	if err := os.WriteFile(path, make([]byte, Size), 0o600); err != nil {
		t.Fatal(err)
	}
	never := func([]byte) error { t.Error("it was counted"); return nil }
	// The name of the new file is taken by a folder in the old one's place.
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, err := Carry(path, never); err == nil {
		t.Error("Carry() of a folder = nil, want an error")
	}
	if err := errors.Join(os.Remove(path), os.WriteFile(path, make([]byte, Size-1), 0o600)); err != nil {
		t.Fatal(err)
	}
	if got, err := Carry(path, never); got || err != nil {
		t.Errorf("Carry() of a short seed = %v, %v, want false", got, err)
	}
}
