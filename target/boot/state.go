package boot

import (
	"errors"
	"fmt"
	"os"
	"time"

	"cloison/format/bootfacts"
	"cloison/format/escrow"
	"cloison/format/osrelease"
	"cloison/format/profile"
	"cloison/linux/clock"
	"cloison/linux/terminal"
	"cloison/target/seal"
	"cloison/target/state"
)

// personDeadline is how long one answer at the console may take.
const personDeadline = 10 * time.Minute

// openState opens the state volume, or makes it on the first boot, and notes
// what PID 1 needs to know of it.
func (m *machine) openState(on slot, facts *bootfacts.Facts) error {
	key, err := os.ReadFile(stubKey)
	if err != nil {
		return fmt.Errorf("cannot read the UKI's policy key: %w", err)
	}
	signature, err := os.ReadFile(stubSignature)
	if err != nil {
		return fmt.Errorf("cannot read the UKI's TPM policy: %w", err)
	}
	release, err := seal.ParseRelease(key, signature)
	if err != nil {
		return err
	}
	recovery, err := os.ReadFile("/recovery.pub")
	if err != nil {
		return fmt.Errorf("cannot read the recovery key: %w", err)
	}
	text, err := os.ReadFile("/os-release")
	if err != nil {
		return fmt.Errorf("cannot tell what this image is: %w", err)
	}
	says, err := osrelease.Parse(string(text))
	if err != nil {
		return err
	}
	sealer, err := seal.Open(m.tpm, release)
	if err != nil {
		return err
	}
	volume, err := m.openVolume(state.Machine{
		Device: on.State, At: newRoot + state.Folder, Seal: sealer, Say: m.say,
		Grow: func() error { return grow(on.Disk, m.say) },
		ESP:  on.ESP, RecoveryKey: recovery, About: escrow.About{Product: says.Get("CLOISON_PRODUCT"), Release: says.Get("VERSION_ID")},
		Measure: func(uuid string, id seal.Identity) error {
			return m.tpm.Extend(StatePCR, fmt.Appendf(nil, "cloison-state:%s:%x", uuid, id))
		},
	})
	if err != nil {
		return err
	}
	if m.profile == profile.Main {
		m.planChanges(on.ESP, sealer, &volume, facts)
	}
	facts.State, facts.StateUUID, facts.StateMade = on.State, volume.UUID, volume.First
	facts.StateUnlock = volume.Unlock
	facts.StateToken, facts.StateRecovery = fmt.Sprintf("%d of %d", volume.Token, volume.Tokens), volume.Recovery
	facts.Unsealed = clock.SinceBoot()
	m.say("state volume %s open, mounted at %s", volume.UUID, state.Folder)
	return nil
}

// openVolume asks the TPM or, in a recovery boot, the person at the console.
func (m *machine) openVolume(on state.Machine) (state.Volume, error) {
	if m.profile != profile.Recovery {
		return on.Open()
	}
	prompt, err := terminal.OpenPrompt(personDeadline)
	if err != nil {
		return state.Volume{}, err
	}
	on.Console = prompt
	volume, err := on.Recover()
	return volume, errors.Join(err, prompt.Close())
}
