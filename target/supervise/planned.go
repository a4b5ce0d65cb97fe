package supervise

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"cloison/format/bootfacts"
	"cloison/format/efisig"
	"cloison/linux/efivar"
	"cloison/linux/kmsg"
	"cloison/linux/mount"
	"cloison/target/esp"
	"cloison/target/planned"
	"cloison/target/state"
)

// firmware is the variable store, for writing.
type firmware struct{ efivar.Store }

// Contents are nil where there is no such variable.
func (f firmware) Contents(v efisig.Variable) ([]byte, error) {
	got, err := f.Read(v.Name, v.Vendor.String())
	if errors.Is(err, efivar.ErrMissing) {
		return nil, nil
	}
	return got.Data, err
}

func (f firmware) Write(v efisig.Variable, attributes uint32, update []byte) error {
	return f.Store.Write(v.Name, v.Vendor.String(), attributes, update)
}

// change does what was planned, now that the boot is good. Nothing that fails
// here ends the machine: it runs, and starts again as it did.
func (s *supervisor) change() error {
	if s.facts.Core.Passphrase {
		return nil // no TPM has tokens, and nothing was planned
	}
	if err := s.forget(); err != nil {
		return s.warn("cannot remove tokens of the state volume: %v", err)
	}
	for _, c := range s.facts.Changes {
		done, err := s.changeOne(c)
		if err != nil {
			return s.warn("planned change of %s: %v", c.Name, err)
		}
		if done {
			s.changed = append(s.changed, c.Name)
		}
	}
	if len(s.changed) > 0 {
		s.say("planned change of %s is in the firmware: restart the machine", strings.Join(s.changed, ", "))
	}
	return nil
}

func (s *supervisor) warn(format string, args ...any) error {
	return s.log.Printf(kmsg.Critical, "cloison: %s", fmt.Sprintf(format, args...))
}

// forget removes the tokens of the past: this boot is good with the PCR 7 that
// it has.
func (s *supervisor) forget() error {
	now, err := s.state.seal.PCR7()
	if err != nil {
		return err
	}
	keep := [][32]byte{now}
	for _, c := range s.facts.Changes {
		keep = append(keep, c.PCR7)
	}
	removed, err := state.Forget(s.facts.State, s.facts.StateUUID, keep...)
	if removed > 0 {
		s.say("state volume opens with PCR 7 %x and no longer with another: tokens removed: %d", now, removed)
	}
	return err
}

// changeOne hands one change to the firmware. One that is in force already was
// cut off before its file was gone.
func (s *supervisor) changeOne(c bootfacts.Change) (done bool, err error) {
	text, err := os.ReadFile(filepath.Join(bootfacts.Planned, c.Name+".auth"))
	if err != nil {
		return false, err
	}
	before, err := s.before(c)
	if err != nil {
		return false, err
	}
	off := planned.Done // the ESP
	if done = before != c.PCR7; !done {
		s.say("planned change of %s is in force", c.Name)
	} else if err = s.write(c, text); errors.Is(err, efivar.ErrRefused) {
		off = planned.Refused
	} else if err != nil {
		return false, err
	}
	return done && err == nil, errors.Join(err, esp.With(s.facts.ESP, func(dir string) error { return off(dir, c.Name) }))
}

// before is what PCR 7 was, or would have become, without the change.
func (s *supervisor) before(c bootfacts.Change) (value [32]byte, err error) {
	value, err = s.state.seal.PCR7()
	for _, earlier := range s.facts.Changes {
		if earlier.Name == c.Name {
			break
		}
		value = earlier.PCR7
	}
	return value, err
}

// write opens the firmware's variables for as long as it takes.
func (s *supervisor) write(c bootfacts.Change, text []byte) (err error) {
	const options = "remount,nosuid,nodev,noexec"
	if err := mount.Mount("efivarfs", efivar.Dir, "efivarfs", options); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mount.Mount("efivarfs", efivar.Dir, "efivarfs", options+",ro")) }()
	return planned.Apply(firmware{s.vars}, c, text)
}

// changesRow is what the console shows of planned changes.
func (s *supervisor) changesRow() string {
	switch {
	case s.facts.ChangesRefused:
		return "refused, as the console said at the start"
	case len(s.changed) > 0:
		return strings.Join(s.changed, ", ") + " changed in the firmware: restart the machine"
	}
	return "none"
}
