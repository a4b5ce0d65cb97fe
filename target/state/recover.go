package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"cloison/format/bootfacts"
	"cloison/format/luks2"
	"cloison/format/passphrase"
	"cloison/format/sealtoken"
	"cloison/target/seal"
)

// Console is the person before the machine. What is asked and typed there is in
// no log.
type Console interface {
	Tell(text string) error
	Ask(prompt string) (string, error)
	// AskSecret does not show what is typed.
	AskSecret(prompt string) (string, error)
}

// A passphrase has 128 random bits, so that these bound patience and not
// guessing.
const (
	wrongTries   = 3
	mistypedMost = 10
	tryDelay     = 2 * time.Second
	unclearMost  = 5
)

// recoverable reports whether the recovery passphrase helps where the volume was
// refused.
func recoverable(err error) bool {
	for _, reason := range []error{errUnprovisioned, errNoToken, seal.ErrOtherTPM, seal.ErrPolicyKey, seal.ErrPCR7, seal.ErrToken} {
		if errors.Is(err, reason) && !errors.Is(err, seal.ErrOtherVolume) {
			return true
		}
	}
	return false
}

// Recover opens the volume by its recovery passphrase, and seals it to this
// machine's TPM if whoever types it wants that. It makes no volume, and takes
// none but the one of the TPM's mark where there is a mark.
func (m Machine) Recover() (Volume, error) {
	v, err := m.recover()
	if err != nil {
		return Volume{}, fmt.Errorf("recovery of the state volume on %s: %w", m.Device, err)
	}
	return v, nil
}

func (m Machine) recover() (Volume, error) {
	// 1. An older release than the TPM accepts gets no secret here either.
	if err := m.Seal.Accepts(); err != nil {
		return Volume{}, err
	}
	head, err := readHead(m.Device, luks2.HeaderSize)
	if err != nil {
		return Volume{}, err
	}
	provisioned, err := m.Seal.Provisioned()
	if err != nil {
		return Volume{}, err
	}
	if err := lost(head, provisioned); err != nil {
		return Volume{}, err
	}
	h, err := luks2.Parse(head, luks2.Sealed)
	if err != nil {
		return Volume{}, err
	}
	token, err := recoveryOf(h)
	if err != nil {
		return Volume{}, err
	}
	v := Volume{UUID: h.UUID, Identity: Identity(h), Recovery: true, Unlock: bootfacts.Recovered}

	// 2. Why it takes a recovery.
	why, err := m.refusal(h, &v)
	if err != nil {
		return Volume{}, err
	}

	// 3. The secret, for this volume alone: a volume, a token and a passphrase
	// that fit together can be anybody's.
	secret, err := m.askPassphrase(v.UUID, why, token)
	if err != nil {
		return Volume{}, err
	}
	belongs, err := m.Seal.Belongs(secret, v.Identity)
	if errors.Is(err, seal.ErrOtherVolume) {
		err = fmt.Errorf("%w: if this disk is meant for this machine, clear the TPM in the firmware's menu first", err)
	}
	if err != nil {
		return Volume{}, err
	}

	// 4. The volume.
	if _, err := layOut(h, head); err != nil {
		return Volume{}, err
	}
	err = openVolume(m.Device, keySlot, secret.Key[:])
	if err = errors.Join(err, os.Remove(headerFile)); err != nil {
		return Volume{}, err
	}

	// 5. The TPM. What is in the header then, and in the TPM, is what a first boot
	// leaves there.
	anew := false
	if why != nil {
		if anew, err = m.askReseal(belongs); err != nil {
			return Volume{}, err
		}
	}
	if anew {
		if err := m.reseal(h, &v, secret); err != nil {
			return Volume{}, fmt.Errorf("cannot seal it: %w", err)
		}
		m.Say("state volume %s: sealed to the TPM, the next boot opens it by itself", v.UUID)
	} else {
		m.Say("state volume %s: the recovery passphrase opens it, for this boot alone", v.UUID)
	}
	if err := m.Measure(v.UUID, v.Identity); err != nil {
		return Volume{}, err
	}
	return v, m.mount()
}

// lost tells whether there is nothing that could be recovered.
func lost(head []byte, provisioned bool) error {
	switch {
	case len(bytes.Trim(head, "\x00")) == 0:
		return errors.New("it is empty: there is nothing to recover")
	case bytes.Equal(head[:blockSize], unfinished) && !provisioned:
		return errors.New("its first boot did not come to its end: start the machine without recovery, which makes it")
	}
	return nil
}

// recoveryOf returns the token that the passphrase opens.
func recoveryOf(h luks2.Header) (sealtoken.Recovery, error) {
	for _, n := range slices.Sorted(maps.Keys(h.Tokens)) {
		if luks2.Type(h.Tokens[n]) == sealtoken.RecoveryType {
			return sealtoken.ParseRecovery(h.Tokens[n])
		}
	}
	return sealtoken.Recovery{}, errors.New("it has no token for a recovery passphrase")
}

// refusal returns why a boot that is no recovery does not get the secret, or nil.
// This one must not get it either: its PCR 11 was not signed.
func (m Machine) refusal(h luks2.Header, v *Volume) (why, err error) {
	for _, n := range slices.Sorted(maps.Keys(h.Tokens)) {
		if luks2.Type(h.Tokens[n]) != sealtoken.Type {
			continue
		}
		v.Tokens++
		token, err := sealtoken.Parse(h.Tokens[n])
		if err == nil {
			err = m.Seal.Why(token)
		}
		if err == nil {
			if _, err = m.Seal.Unseal(token, v.Identity); err == nil {
				return nil, errors.New("internal error: the TPM gives its secret to a recovery boot")
			}
		}
		switch {
		case errors.Is(err, seal.ErrPCR11):
			return nil, nil
		case errors.Is(err, seal.ErrTPM):
			return nil, err
		}
		if why != nil {
			err = fmt.Errorf("%w; token %d: %w", why, n, err) // all the reasons, in one line
		} else {
			err = fmt.Errorf("token %d: %w", n, err)
		}
		why = err
	}
	if v.Tokens == 0 {
		why = errNoToken
	}
	return why, nil
}

// askPassphrase asks until the recovery passphrase opens the token.
func (m Machine) askPassphrase(uuid string, why error, token sealtoken.Recovery) (secret seal.Secret, err error) {
	refused := "The TPM has its key, and keeps it from a recovery boot: nothing is wrong that can be seen."
	if why != nil {
		refused = fmt.Sprintf("Without recovery it is refused: %v.", why)
	}
	err = m.askRecovery(uuid, refused, func(text string) (wrong bool, err error) {
		secret, err = seal.Recover(text, token)
		return true, err
	})
	return secret, err
}

// askRecovery asks until the recovery passphrase opens the volume. All that it
// says goes to the console: the kernel's log reaches it when it pleases, and then
// stands behind the question.
func (m Machine) askRecovery(uuid, refused string, try func(text string) (wrong bool, err error)) error {
	err := m.Console.Tell("\nRECOVERY of state volume " + uuid + "\n" + refused + "\n" +
		"Type its recovery passphrase: 28 letters and digits, in groups of four. Upper or\n" +
		"lower case, with or without hyphens. It is not shown. The integrator has it: cloison recover.\n")
	if err != nil {
		return err
	}
	return m.ask("recovery passphrase", passphrase.Parse, try)
}

// ask asks until what is typed opens the volume. read returns what was meant, or
// that it can be no such passphrase: then it is not tried.
func (m Machine) ask(what string, read func(string) (string, error), try func(text string) (wrong bool, err error)) error {
	for wrong, mistyped := 0, 0; ; {
		typed, err := m.Console.AskSecret(what + ": ")
		if err != nil {
			return err
		}
		text, err := read(typed)
		if err != nil {
			if mistyped++; mistyped == mistypedMost {
				return fmt.Errorf("%d times something was typed that is no %s", mistyped, what)
			}
			if err := m.Console.Tell(fmt.Sprintf("Mistyped: %v.\n", err)); err != nil {
				return err
			}
			continue
		}
		isWrong, err := try(text)
		if err == nil || !isWrong {
			return err
		}
		wrong++
		time.Sleep(tryDelay)
		if wrong == wrongTries {
			return fmt.Errorf("%d wrong %ss: %w", wrong, what, err)
		}
		if err := m.Console.Tell(fmt.Sprintf("Wrong: it is not the one of this volume. %d more can be tried.\n", wrongTries-wrong)); err != nil {
			return err
		}
	}
}

// askReseal asks whether to seal.
func (m Machine) askReseal(belongs bool) (bool, error) {
	where := "This machine's TPM belongs to this volume already, but refuses it as it is."
	if !belongs {
		where = "This machine's TPM belongs to no volume: it is another machine, or the TPM was cleared."
	}
	err := m.Console.Tell("\nThe passphrase opens the volume. " + where + "\n" +
		"Shall the volume be sealed to it? Then the machine starts by itself from now on, and\n" +
		"a TPM that it was sealed to before opens it no more. Say no if you do not know why\n" +
		"the machine refused.\n")
	if err != nil {
		return false, err
	}
	return m.askYes("seal it to this machine")
}

// askYes asks for yes or no. No clear answer is no.
func (m Machine) askYes(question string) (bool, error) {
	for range unclearMost {
		answer, err := m.Console.Ask(question + "? yes or no: ")
		if err != nil {
			return false, err
		}
		switch answer {
		case "yes":
			return true, nil
		case "no":
			return false, nil
		}
	}
	return false, nil
}

// reseal puts the secret under this TPM. Power may fail anywhere: until all is
// done the next boot is refused, and a recovery can be made again.
func (m Machine) reseal(h luks2.Header, v *Volume, secret seal.Secret) error {
	token, err := m.Seal.Reseal(secret)
	if err != nil {
		return err
	}
	token.Keyslot = keySlot
	h.Tokens = withToken(h.Tokens, token)
	if _, err := writeHeader(m.Device, h); err != nil {
		return err
	}
	if err := m.Seal.Commit(secret, v.Identity); err != nil {
		return err
	}
	v.Tokens, v.Unlock = 1, bootfacts.Resealed
	return nil
}

// withToken replaces the tokens of a TPM by one.
func withToken(tokens map[int]json.RawMessage, token sealtoken.Token) map[int]json.RawMessage {
	all := maps.Clone(tokens)
	maps.DeleteFunc(all, func(_ int, t json.RawMessage) bool { return luks2.Type(t) == sealtoken.Type })
	n := sealToken
	for all[n] != nil {
		n++
	}
	all[n] = token.Print()
	return all
}
