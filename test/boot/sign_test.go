package boot

import (
	"bytes"
	"debug/pe"
	"os"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"cloison/format/efisig"
	"cloison/host/keys"
)

// new-keys DIR: a stranger's keys.
func (s *stage) newKeys(ts *testscript.TestScript, args []string) {
	want(ts, args, "DIR")
	must(ts, keys.Init(path(ts, args[0]), false, time.Now()))
}

// unsign FILE: removes the signature of an EFI program.
func (s *stage) unsign(ts *testscript.TestScript, args []string) {
	want(ts, args, "FILE")
	s.tool(ts, "sbattach", "--remove", path(ts, args[0]))
}

// sign-with KEYDIR FILE: signs an EFI program.
func (s *stage) signWith(ts *testscript.TestScript, args []string) {
	want(ts, args, "KEYDIR FILE")
	store, err := keys.OpenDir(path(ts, args[0]))
	must(ts, err)
	program, err := os.ReadFile(path(ts, args[1]))
	must(ts, err)
	signed, err := keys.SignPE(store, program)
	must(ts, err)
	must(ts, os.WriteFile(path(ts, args[1]), signed, 0o600))
}

// revoke FILE AUTH: writes the update of dbx that forbids an EFI program.
func (s *stage) revoke(ts *testscript.TestScript, args []string) {
	want(ts, args, "FILE AUTH")
	store, err := keys.OpenDir(s.keys)
	must(ts, err)
	program, err := os.ReadFile(path(ts, args[0]))
	must(ts, err)
	auth, err := keys.Revoke(store, keys.Revocation{Images: [][]byte{program}}, efisig.Replace, time.Now())
	must(ts, err)
	must(ts, os.WriteFile(path(ts, args[1]), auth, 0o600))
}

// flip FILE SECTION: inverts one bit in the middle of a section of an EFI
// program.
func (s *stage) flip(ts *testscript.TestScript, args []string) {
	want(ts, args, "FILE SECTION")
	program, err := os.ReadFile(path(ts, args[0]))
	must(ts, err)
	image, err := pe.NewFile(bytes.NewReader(program))
	must(ts, err)
	section := image.Section(args[1])
	if section == nil {
		ts.Fatalf("%s has no section %s", args[0], args[1])
	}
	program[int64(section.Offset)+int64(min(section.VirtualSize, section.Size))/2] ^= 1
	must(ts, os.WriteFile(path(ts, args[0]), program, 0o600))
}

// addon CMDLINE FILE: makes an unsigned add-on of systemd-stub that appends to
// the command line.
func (s *stage) addon(ts *testscript.TestScript, args []string) {
	want(ts, args, "CMDLINE FILE")
	s.tool(ts, "ukify", "build", "--stub", "/usr/lib/systemd/boot/efi/addonx64.efi.stub",
		"--cmdline", args[0], "--output", path(ts, args[1]))
}
