package boot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"cloison/host/build"
	"cloison/host/build/buildtest"
	"cloison/host/build/variant"
	"cloison/host/machine"
	declarations "cloison/test/boot/misfit"
	"cloison/test/quota/hog"
)

// variants are systems that our keys sign beside the one under test. Their
// versions are so high that the loader takes them first.
func (b *bench) variants(t *testing.T) map[string]func() (string, error) {
	o, work := buildtest.Options(t), t.TempDir()
	once := map[string]func() (string, error){}
	for _, v := range []variant.Variant{
		// A release of which PID 1 does what an attacker would who took it over.
		{Name: "rogue", Version: "90.0.0", SecurityVersion: b.facts.SecurityVersion, Floor: b.facts.SecurityVersion, Programs: map[string]string{"init": "cloison/test/boot/rogue.Main"}},
		// A product whose state volume a passphrase opens.
		{Name: "passphrase", Version: "92.0.0", SecurityVersion: b.facts.SecurityVersion, Unlock: "passphrase"},
		// A later release, which ends going back.
		{Name: "next", Version: "91.0.0", SecurityVersion: b.facts.SecurityVersion + 1, Floor: b.facts.SecurityVersion + 1},
		// A product with a network.
		{Name: "network", Version: "0.1.0", SecurityVersion: b.facts.SecurityVersion, Change: withNetwork},
		// A release of which a required service never works.
		{Name: "broken", Version: "93.0.0", SecurityVersion: b.facts.SecurityVersion, Floor: b.facts.SecurityVersion, Programs: misfits, Services: misfit(true, "failing")},
		// A product with services that behave badly.
		{Name: "misfits", Programs: misfits, Services: misfit(false, "beat", "failing", "flood", "forks", "greedy", "silent")},
		// A product with a service that keeps all that it can.
		{Name: "hog", Programs: map[string]string{"hog": "cloison/test/quota/hog.Main"}, Services: map[string]string{"hog": hog.Declaration}},
		// A product that is reached over SSH.
		{Name: "remote", Version: "0.1.0", SecurityVersion: b.facts.SecurityVersion, Change: withRemote, Programs: map[string]string{"init": "cloison/test/boot/seeded.Main"}},
		// A product that swaps.
		{Name: "swap", Version: "0.1.0", SecurityVersion: b.facts.SecurityVersion, Swap: 64},
	} {
		once[v.Name] = sync.OnceValues(func() (string, error) {
			return v.Build(t.Context(), o, filepath.Join(work, v.Name))
		})
	}
	return once
}

var misfits = map[string]string{"misfit": "cloison/test/boot/misfit.Main"}

// misfit declares services that behave as they are named.
func misfit(required bool, names ...string) map[string]string {
	all := map[string]string{}
	for _, name := range names {
		all[name] = declarations.Declaration(name, required)
	}
	return all
}

// install VARIANT PARTITION: writes the core of a variant of the system into a
// slot and puts its UKI on the ESP, as an update would.
func (s *stage) install(ts *testscript.TestScript, args []string) {
	want(ts, args, "VARIANT PARTITION")
	made, ok := s.variant[args[0]]
	if !ok {
		ts.Fatalf("no variant %s", args[0])
	}
	dir, err := made()
	must(ts, err)
	p := s.partition(ts, args[1])
	core := filepath.Join(dir, build.CoreName)
	info, err := os.Stat(core)
	must(ts, err)
	if info.Size() > int64(p.Size) {
		ts.Fatalf("a core of %d bytes for a slot of %d", info.Size(), p.Size)
	}
	must(ts, copyRange(s.folder.Disk(), core, int64(p.Start), 0, info.Size()))
	ukis, err := filepath.Glob(filepath.Join(dir, build.UKIName("*")))
	must(ts, err)
	if len(ukis) != 1 {
		ts.Fatalf("the build of %s has the UKIs %q", args[0], ukis)
	}
	// mtools see the script's folder alone.
	uki, err := os.ReadFile(ukis[0])
	must(ts, err)
	name := filepath.Base(ukis[0])
	must(ts, os.WriteFile(ts.MkAbs(name), uki, 0o600))
	s.espPut(ts, []string{name, "EFI/Linux/" + strings.TrimSuffix(name, ".efi") + "+3.efi"})
}

// provision returns what makes a machine, once, that has had its first boot:
// scripts get copies of it, and so cost one boot less.
func (b *bench) provision(t *testing.T) func() (*machine.Folder, error) {
	dir := filepath.Join(t.TempDir(), "provisioned")
	return sync.OnceValues(func() (*machine.Folder, error) {
		folder, err := b.template.Folder(b.sdk, dir, b.image)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { folder.Close() })
		ctx, cancel := within()
		defer cancel()
		m, err := machine.Start(ctx, machine.Config{SDK: b.sdk, Folder: folder, Accelerator: b.accelerator, NoReboot: true})
		if err != nil {
			return nil, err
		}
		go m.Unattended(machine.Patience, os.Stderr)
		defer m.Close()
		if _, err := m.Console.Expect(ctx, prompt); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(m.Console, "poweroff\r"); err != nil {
			return nil, err
		}
		exit, err := m.Wait()
		if err == nil && exit.Reason != "guest-shutdown" {
			err = fmt.Errorf("the first boot ended by %s:\n%s", exit.Reason, m.Console.Text())
		}
		return folder, err
	})
}

// provisionedCopy copies that machine.
func (s *stage) provisionedCopy(dir string) (*machine.Folder, error) {
	from, err := s.provisioned()
	if err != nil {
		return nil, err
	}
	to, err := machine.OpenFolder(dir)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(to.Reset(), copyMachine(to, from)); err != nil {
		return nil, errors.Join(err, to.Close())
	}
	return to, nil
}

func copyMachine(to, from *machine.Folder) error {
	for to, from := range map[string]string{to.Disk(): from.Disk(), to.Vars(): from.Vars()} {
		info, err := os.Stat(from)
		if err != nil {
			return err
		}
		if err := copyRange(to, from, 0, 0, info.Size()); err != nil {
			return err
		}
	}
	return os.CopyFS(to.TPM(), os.DirFS(from.TPM()))
}
