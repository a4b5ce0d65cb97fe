package file

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestWriteAtomic(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, want := range []string{"one", "another"} {
		if err := WriteAtomic(path, []byte(want), 0o640); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Errorf("the file has %q (%v), want %q", got, err, want)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("its mode is %v (%v), want 0640", info.Mode(), err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("the folder has %v, want the file alone", left)
	}
	if err := WriteAtomic(filepath.Join(path, "below"), nil, 0o644); err == nil {
		t.Error("WriteAtomic below a file succeeds")
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := TryLock(path); !errors.Is(err, ErrLocked) {
		t.Errorf("TryLock of a held lock = %v, want ErrLocked", err)
	}
	second := make(chan error)
	go func() {
		unlock, err := Lock(t.Context(), path)
		if err == nil {
			unlock()
		}
		second <- err
	}()
	unlock()
	if err := <-second; err != nil {
		t.Errorf("Lock after unlock = %v", err)
	}
}

func TestReadSparse(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 5<<20 + 17
	want := make([]byte, size)
	for _, at := range []int{0, 2<<20 + 5, size - 3} {
		copy(want[at:], "abc")
		if _, err := f.WriteAt([]byte("abc"), int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(want []byte) {
		t.Helper()
		var got bytes.Buffer
		n, err := Read(&got, f)
		if err != nil || n != int64(len(want)) || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("Read gives %d bytes (%v), want the %d that are there", n, err, len(want))
		}
	}
	check(want)
	if err := f.Truncate(size + 4<<20); err != nil {
		t.Fatal(err)
	}
	check(append(want, make([]byte, 4<<20)...))
}
