package state

import (
	"errors"
	"fmt"
	"os"

	"cloison/format/bootfacts"
	"cloison/format/luks2"
	"cloison/format/passphrase"
	"cloison/linux/block"
	"cloison/target/seal"
)

// chooseMost is how often a passphrase may be chosen that will not do, or that is
// not the same twice.
const chooseMost = 10

// OpenChosen opens the volume of a product that uses no TPM for it, by the
// passphrase that a person chose, or makes it. Seal is not used.
func (m Machine) OpenChosen() (Volume, error) { return m.named("state volume", m.openChosen) }

// RecoverChosen opens it by the recovery passphrase, and has another passphrase
// chosen if whoever types it wants that.
func (m Machine) RecoverChosen() (Volume, error) {
	return m.named("recovery of the state volume", m.recoverChosen)
}

func (m Machine) named(what string, do func(head []byte) (Volume, error)) (Volume, error) {
	head, err := readHead(m.Device, luks2.HeaderSize)
	var v Volume
	if err == nil {
		v, err = do(head)
	}
	if err != nil {
		return Volume{}, fmt.Errorf("%s on %s: %w", what, m.Device, err)
	}
	return v, nil
}

func (m Machine) openChosen(head []byte) (Volume, error) {
	if lost(head, false) != nil {
		return m.provisionChosen()
	}
	h, err := luks2.Parse(head, luks2.Chosen)
	if err != nil {
		return Volume{}, err
	}
	v := m.chosenVolume(h, bootfacts.Passphrase)
	if _, err := layOut(h, head); err != nil {
		return Volume{}, err
	}
	err = m.Console.Tell("\nState volume " + v.UUID + "\nType its passphrase. It is not shown.\n")
	if err == nil {
		err = m.ask("passphrase", sameIfChosen, m.try(chosenSlot(h)))
	}
	if err = errors.Join(err, os.Remove(headerFile)); err != nil {
		return Volume{}, err
	}
	if err := m.Measure(v.UUID, v.Identity); err != nil {
		return Volume{}, err
	}
	return v, m.mount()
}

func (m Machine) chosenVolume(h luks2.Header, by bootfacts.Unlock) Volume {
	return Volume{UUID: h.UUID, Identity: Identity(h), Recovery: true, Unlock: by, device: m.Device, header: h}
}

// chosenSlot returns the keyslot of the passphrase that a person chose.
func chosenSlot(h luks2.Header) int {
	for n := range h.Keyslots {
		if n != luks2.RecoverySlot {
			return n
		}
	}
	return keySlot
}

// try opens a keyslot of the header in headerFile.
func (m Machine) try(slot int) func(text string) (wrong bool, err error) {
	return func(text string) (wrong bool, err error) {
		err = openVolume(m.Device, slot, []byte(text))
		return isWrong(err), err
	}
}

// sameIfChosen returns what was typed, if it can have been chosen.
func sameIfChosen(typed string) (string, error) { return typed, passphrase.CheckChosen(typed) }

// provisionChosen makes the volume. Until its passphrase is chosen, nothing is
// written.
func (m Machine) provisionChosen() (Volume, error) {
	err := m.Console.Tell("\nFIRST BOOT: there is no state volume on " + m.Device + ", it will be made.\n" +
		"If this machine has been in use before, somebody has emptied or replaced its disk:\n" +
		"then switch it off. Without a TPM the machine cannot tell.\n")
	if err != nil {
		return Volume{}, err
	}
	text, err := m.choose()
	if err != nil {
		return Volume{}, err
	}
	if err := m.begin(); err != nil {
		return Volume{}, err
	}
	recovery, err := seal.NewPassphrase(m.RecoveryKey)
	if err != nil {
		return Volume{}, err
	}
	v := Volume{Unlock: bootfacts.Passphrase}
	return m.make(v, recovery, protection{kind: luks2.Chosen, key: []byte(text), recovery: recovery.Passphrase})
}

// choose asks for a new passphrase, twice.
func (m Machine) choose() (string, error) {
	err := m.Console.Tell(fmt.Sprintf("Choose a passphrase, which each start asks for: %d characters or more, at least %d of\n"+
		"them different. Five words drawn by chance are a good one. It is not shown.\n", passphrase.Least, passphrase.Different))
	if err != nil {
		return "", err
	}
	for range chooseMost {
		text, err := m.Console.AskSecret("new passphrase: ")
		if err != nil {
			return "", err
		}
		why := passphrase.CheckChosen(text)
		if why == nil {
			again, err := m.Console.AskSecret("the same again: ")
			if err != nil {
				return "", err
			}
			if again == text {
				return text, nil
			}
			why = errors.New("the two differ")
		}
		if err := m.Console.Tell(fmt.Sprintf("Not taken: %v.\n", why)); err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("%d times no passphrase was chosen", chooseMost)
}

func (m Machine) recoverChosen(head []byte) (Volume, error) {
	if err := lost(head, false); err != nil {
		return Volume{}, err
	}
	h, err := luks2.Parse(head, luks2.Chosen)
	if err != nil {
		return Volume{}, err
	}
	if _, err := layOut(h, head); err != nil {
		return Volume{}, err
	}
	v := m.chosenVolume(h, bootfacts.Recovered)
	var recovery string
	open := m.try(luks2.RecoverySlot)
	err = m.askRecovery(v.UUID, "No TPM keeps its key: without recovery its passphrase opens it.", func(text string) (bool, error) {
		recovery = text
		return open(text)
	})
	if err == nil {
		err = m.askRechoose(&v, recovery)
	}
	if err = errors.Join(err, os.Remove(headerFile)); err != nil {
		return Volume{}, err
	}
	if err := m.Measure(v.UUID, v.Identity); err != nil {
		return Volume{}, err
	}
	return v, m.mount()
}

// askRechoose asks whether another passphrase is wanted, and makes it so.
func (m Machine) askRechoose(v *Volume, recovery string) error {
	err := m.Console.Tell("\nThe recovery passphrase opens the volume. Shall another passphrase be chosen for it?\n" +
		"The one of before opens it no more then.\n")
	if err != nil {
		return err
	}
	anew, err := m.askYes("choose another passphrase")
	if err != nil {
		return err
	}
	if !anew {
		m.Say("state volume %s: the recovery passphrase opens it, for this boot alone", v.UUID)
		return nil
	}
	text, err := m.choose()
	if err != nil {
		return err
	}
	if err := m.rechoose(v, recovery, text); err != nil {
		return fmt.Errorf("cannot change its passphrase: %w", err)
	}
	m.Say("state volume %s: another passphrase was chosen, the one of before opens it no more", v.UUID)
	return nil
}

// rechoose makes text the passphrase of the volume whose header is in
// headerFile. Power may fail anywhere: one of the two passphrases opens it.
func (m Machine) rechoose(v *Volume, recovery, text string) error {
	old := chosenSlot(v.header)
	now := keySlot
	if old == keySlot {
		now = luks2.RecoverySlot + 1
	}
	if err := addKey(luks2.RecoverySlot, []byte(recovery), now, []byte(text), chosen); err != nil {
		return err
	}
	err := run(cryptsetup, [][]byte{[]byte(recovery)}, "luksKillSlot", "--batch-mode", "--key-file", "-", headerFile, fmt.Sprint(old))
	if err != nil {
		return err
	}
	h, head, err := headerOfTool(luks2.Chosen)
	if err != nil {
		return err
	}
	if chosenSlot(h) != now || Identity(h) != v.Identity {
		return errors.New("internal error: cryptsetup has made another header")
	}
	if h, err = replaceKeyslot(m.Device, v.header, h, head); err != nil {
		return err
	}
	v.header, v.Unlock = h, bootfacts.Rechosen
	return nil
}

// replaceKeyslot writes a header with another keyslot: first what the new one
// needs, last what the old one needed, which is random now.
func replaceKeyslot(device string, before, h luks2.Header, head []byte) (luks2.Header, error) {
	area := func(h luks2.Header) error {
		at := h.Keyslots[chosenSlot(h)].Area
		return block.Write(device, head[at:at+luks2.AreaSize], int64(at))
	}
	if before.Keyslots[chosenSlot(before)].Area == h.Keyslots[chosenSlot(h)].Area {
		return h, errors.New("internal error: the new keyslot is where the old one is")
	}
	if err := area(h); err != nil {
		return h, err
	}
	h, err := writeHeader(device, h)
	if err != nil {
		return h, err
	}
	return h, area(before)
}
