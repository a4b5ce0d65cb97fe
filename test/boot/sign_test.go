package boot

import (
	"bytes"
	"crypto/x509"
	"debug/pe"
	"flag"
	"io"
	"os"
	"path/filepath"
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

// enrol KEYDIR: the loader will enrol these keys in firmware in setup mode.
func (s *stage) enrol(ts *testscript.TestScript, args []string) {
	want(ts, args, "KEYDIR")
	store, err := keys.OpenDir(path(ts, args[0]))
	must(ts, err)
	auth, err := keys.AuthFiles(store, time.Now())
	must(ts, err)
	for name, update := range auth.Files() {
		must(ts, os.WriteFile(ts.MkAbs(name), update, 0o600))
		s.espPut(ts, []string{name, "loader/keys/auto/" + name})
	}
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

// update is what revoke and allow are asked for.
type update struct {
	store      keys.Store
	attributes uint32
	at         time.Time
	files      []string
	to         string
}

func (s *stage) update(ts *testscript.TestScript, args []string) (u update) {
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	dir := flags.String("keys", s.keys, "whose KEK signs")
	add := flags.Bool("append", false, "add to the database")
	old := flags.Bool("old", false, "of last year")
	must(ts, flags.Parse(args))
	if flags.NArg() < 2 {
		ts.Fatalf("want FILE... AUTH")
	}
	store, err := keys.OpenDir(path(ts, *dir))
	must(ts, err)
	last := flags.NArg() - 1
	u = update{store: store, attributes: efisig.Replace, at: time.Now(), files: flags.Args()[:last], to: path(ts, flags.Arg(last))}
	if *add {
		u.attributes = efisig.Append
	}
	if *old {
		u.at = u.at.AddDate(-1, 0, 0)
	}
	return u
}

// revoke [-keys DIR] [-append] [-old] FILE... AUTH: writes the update of dbx that
// forbids EFI programs, and what certificates (.pem) stand for.
func (s *stage) revoke(ts *testscript.TestScript, args []string) {
	u := s.update(ts, args)
	var r keys.Revocation
	for _, name := range u.files {
		text, err := os.ReadFile(path(ts, name))
		must(ts, err)
		if filepath.Ext(name) != ".pem" {
			r.Images = append(r.Images, text)
			continue
		}
		cert, err := keys.ParseCertificate(name, text)
		must(ts, err)
		r.Certificates = append(r.Certificates, cert)
	}
	auth, err := keys.Revoke(u.store, r, u.attributes, u.at)
	must(ts, err)
	must(ts, os.WriteFile(u.to, auth, 0o600))
}

// allow [-keys DIR] [-append] [-old] CERTIFICATE... AUTH: writes the update of db
// that allows what the certificates stand for.
func (s *stage) allow(ts *testscript.TestScript, args []string) {
	u := s.update(ts, args)
	var certs []*x509.Certificate
	for _, name := range u.files {
		text, err := os.ReadFile(path(ts, name))
		must(ts, err)
		cert, err := keys.ParseCertificate(name, text)
		must(ts, err)
		certs = append(certs, cert)
	}
	auth, err := keys.Allow(u.store, certs, u.attributes, u.at)
	must(ts, err)
	must(ts, os.WriteFile(u.to, auth, 0o600))
}

// cp-vars FILE: keeps a copy of the firmware's variables.
func (s *stage) cpVars(ts *testscript.TestScript, args []string) {
	want(ts, args, "FILE")
	text, err := os.ReadFile(s.folder.Vars())
	must(ts, err)
	must(ts, os.WriteFile(path(ts, args[0]), text, 0o600))
}

// put-vars FILE: somebody has changed the firmware's variables from outside.
func (s *stage) putVars(ts *testscript.TestScript, args []string) {
	want(ts, args, "FILE")
	text, err := os.ReadFile(path(ts, args[0]))
	must(ts, err)
	must(ts, os.WriteFile(s.folder.Vars(), text, 0o600))
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
