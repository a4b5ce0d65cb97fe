package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"cloison/format/bootfacts"
	"cloison/format/eventlog"
	"cloison/linux/mount"
	"cloison/linux/tpm"
	"cloison/target/esp"
	"cloison/target/planned"
	"cloison/target/state"
)

const securityFS = "/sys/kernel/security"

// planChanges prepares what is planned for the Secure Boot databases: the
// secret is at hand now, and never again before the next boot. A plan that is
// wrong in anything is told and not done; the boot goes on.
func (m *machine) planChanges(espNode string, by state.Sealer, volume *state.Volume, facts *bootfacts.Facts) {
	changes, err := m.plan(espNode, by, volume)
	if err != nil {
		facts.ChangesRefused = true
		m.say("planned changes refused: %v", err)
		return
	}
	facts.Changes = changes
}

func (m *machine) plan(espNode string, by state.Sealer, volume *state.Volume) ([]bootfacts.Change, error) {
	var updates map[string][]byte
	err := esp.Look(espNode, func(dir string) (err error) {
		updates, err = planned.Read(dir)
		return err
	})
	if err != nil || len(updates) == 0 {
		return nil, err
	}
	if m.byPassphrase {
		return nil, errors.New("this product makes none, for no TPM keeps its state volume: change the databases in the firmware's menu")
	}
	values := map[uint32][32]byte{}
	for _, index := range eventlog.PCRs {
		if values[index], err = m.tpm.PCR(int(index)); err != nil {
			return nil, err
		}
	}
	log, err := readEventLog()
	if err != nil {
		return nil, err
	}
	firmware, err := log.Boot(values)
	if err != nil {
		return nil, err
	}
	changes, err := planned.Plan(firmware, updates)
	if err != nil {
		return nil, err
	}
	// Tokens come first: what they are for happens only when they are on the disk.
	// A change that changes nothing is in force already.
	var after [][32]byte
	var names []string
	last := values[7]
	for _, c := range changes {
		if c.PCR7 != last {
			after, names, last = append(after, c.PCR7), append(names, c.Name), c.PCR7
		}
	}
	if err := volume.Allow(by, after...); err != nil {
		return nil, err
	}
	if err := hand(updates); err != nil {
		return nil, err
	}
	if len(names) > 0 {
		m.say("planned change of %s: state volume opens with PCR 7 %x, too", strings.Join(names, ", "), last)
	}
	return changes, nil
}

func readEventLog() (eventlog.Log, error) {
	if err := mount.Mount("securityfs", securityFS, "securityfs", "ro,nosuid,nodev,noexec"); err != nil {
		return eventlog.Log{}, err
	}
	b, err := tpm.EventLog()
	if err = errors.Join(err, mount.Unmount(securityFS)); err != nil {
		return eventlog.Log{}, err
	}
	return eventlog.Parse(b)
}

// hand leaves PID 1 what was checked. What lies on the ESP may be another thing
// by then.
func hand(updates map[string][]byte) error {
	err := os.MkdirAll(filepath.Dir(bootfacts.Note), 0o755)
	if err == nil {
		err = os.Mkdir(bootfacts.Planned, 0o700)
	}
	for name, text := range updates {
		if err == nil {
			err = os.WriteFile(filepath.Join(bootfacts.Planned, name+".auth"), text, 0o400)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot hand planned changes to PID 1: %w", err)
	}
	return nil
}
