package boot

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"

	"cloison/host/build"
)

// disk-of VARIANT: a fresh machine with the disk of a variant of the system. Its
// firmware has the keys.
func (s *stage) diskOf(ts *testscript.TestScript, args []string) {
	want(ts, args, "VARIANT")
	made, ok := s.variant[args[0]]
	if !ok {
		ts.Fatalf("no variant %s", args[0])
	}
	dir, err := made()
	must(ts, err)
	s.leave()
	s.folder, err = s.template.Folder(s.sdk, ts.MkAbs("machine"), filepath.Join(dir, build.DiskName))
	must(ts, err)
}

// swap-drop: takes the swap partition out of the table.
func (s *stage) swapDrop(ts *testscript.TestScript, args []string) {
	want(ts, args, "")
	s.tool(ts, "sgdisk", "-d", strconv.Itoa(s.partition(ts, "swap").Number), s.folder.Disk())
}

// swap-page FILE: copies the first page of the swap partition as it lies on the
// disk. It must have been written, and hold no header that can be read there.
func (s *stage) swapPage(ts *testscript.TestScript, args []string) {
	want(ts, args, "FILE")
	p := s.partition(ts, "swap")
	f, err := os.Open(s.folder.Disk())
	must(ts, err)
	defer f.Close()
	page := make([]byte, 4096)
	_, err = f.ReadAt(page, int64(p.Start))
	must(ts, err)
	if len(bytes.Trim(page, "\x00")) == 0 || bytes.Contains(page, []byte("SWAPSPACE2")) {
		ts.Fatalf("the first page of the swap partition is not encrypted: %x", page)
	}
	must(ts, os.WriteFile(path(ts, args[0]), page, 0o600))
}
