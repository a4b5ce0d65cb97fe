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
	where := state.Machine{
		Device: on.State, At: newRoot + state.Folder, Say: m.say,
		Grow: func() error { return grow(on.Disk, m.say) },
		ESP:  on.ESP, RecoveryKey: recovery, About: escrow.About{Product: says.Get("CLOISON_PRODUCT"), Release: says.Get("VERSION_ID")},
		Measure: func(uuid string, id seal.Identity) error {
			return m.extend(StatePCR, fmt.Appendf(nil, "cloison-state:%s:%x", uuid, id))
		},
	}
	var sealer *seal.Sealer
	if !m.byPassphrase {
		if sealer, err = m.openSealer(); err != nil {
			return err
		}
		where.Seal = sealer
	}
	volume, err := m.openVolume(where)
	if err != nil {
		return err
	}
	if m.profile == profile.Main {
		m.planChanges(on.ESP, sealer, &volume, facts)
	}
	facts.State, facts.StateUUID, facts.StateMade = on.State, volume.UUID, volume.First
	facts.StateUnlock = volume.Unlock
	facts.StateToken, facts.StateRecovery = "none", volume.Recovery
	if !m.byPassphrase {
		facts.StateToken = fmt.Sprintf("%d of %d", volume.Token, volume.Tokens)
	}
	facts.Unsealed = clock.SinceBoot()
	m.say("state volume %s open, mounted at %s", volume.UUID, state.Folder)
	return nil
}

// openSealer readies the TPM to be asked, by what is signed for it.
func (m *machine) openSealer() (*seal.Sealer, error) {
	key, err := os.ReadFile(stubKey)
	if err != nil {
		return nil, fmt.Errorf("cannot read the UKI's policy key: %w", err)
	}
	signature, err := os.ReadFile(stubSignature)
	if err != nil {
		return nil, fmt.Errorf("cannot read the UKI's TPM policy: %w", err)
	}
	release, err := seal.ParseRelease(key, signature)
	if err != nil {
		return nil, err
	}
	return seal.Open(m.tpm, release)
}

// openVolume asks the TPM or the person at the console.
func (m *machine) openVolume(on state.Machine) (state.Volume, error) {
	var ask func(state.Machine) (state.Volume, error)
	switch recovery := m.profile == profile.Recovery; {
	case recovery && m.byPassphrase:
		ask = state.Machine.RecoverChosen
	case recovery:
		ask = state.Machine.Recover
	case m.byPassphrase:
		ask = state.Machine.OpenChosen
	default:
		return on.Open()
	}
	prompt, err := terminal.OpenPrompt(personDeadline)
	if err != nil {
		return state.Volume{}, err
	}
	on.Console = prompt
	volume, err := ask(on)
	return volume, errors.Join(err, prompt.Close())
}
