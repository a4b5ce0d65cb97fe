package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"cloison/format/escrow"
	"cloison/format/passphrase"
	"cloison/format/sealtoken"
)

// Recovery is the way into a volume without its TPM, made with the volume.
type Recovery struct {
	Passphrase string             // opens a keyslot of the volume, with plain cryptsetup
	Token      sealtoken.Recovery // its keyslot is for the caller to set
	recipient  func(escrow.About) (escrow.Record, error)
}

// NewRecovery makes a recovery passphrase for the secret. recoveryKey is the
// integrator's public key in PEM.
func NewRecovery(secret Secret, recoveryKey []byte) (Recovery, error) {
	r, err := NewPassphrase(recoveryKey)
	if err == nil {
		r.Token, err = wrap(r.Passphrase, secret)
	}
	if err != nil {
		return Recovery{}, err
	}
	return r, nil
}

// NewPassphrase makes a recovery passphrase where no TPM has a secret: there is
// no token.
func NewPassphrase(recoveryKey []byte) (Recovery, error) {
	key, err := escrow.ParsePublic(recoveryKey)
	if err != nil {
		return Recovery{}, err
	}
	var random [16]byte
	rand.Read(random[:]) // never fails: the program ends instead (crypto/rand)
	text := passphrase.Print(random)
	return Recovery{Passphrase: text, recipient: func(about escrow.About) (escrow.Record, error) {
		return escrow.Encrypt(key, about, text)
	}}, nil
}

// Escrow is the passphrase, encrypted to the integrator.
func (r Recovery) Escrow(about escrow.About) (escrow.Record, error) { return r.recipient(about) }

// Recover returns the secret from its recovery token. The passphrase is as
// package passphrase prints it.
func Recover(text string, token sealtoken.Recovery) (Secret, error) {
	box, err := recoveryCipher(text)
	if err != nil {
		return Secret{}, err
	}
	b, err := box.Open(nil, nil, token.Secret, []byte(recoveryUse))
	if err != nil {
		return Secret{}, errors.New("the recovery passphrase is not the one of this volume, or the recovery token was changed")
	}
	var s Secret
	if len(b) != len(s.Key)+len(s.Authority) {
		return Secret{}, fmt.Errorf("the recovery token holds %d bytes", len(b))
	}
	copy(s.Key[:], b)
	copy(s.Authority[:], b[len(s.Key):])
	return s, nil
}

// Why tells, without unsealing, for which reason the TPM refuses a token to a
// boot of this release that is no recovery; nil where none can be seen.
func (s *Sealer) Why(token sealtoken.Token) error {
	if _, _, err := s.mine(token); err != nil {
		return err
	}
	pcr7, err := s.pcr(7)
	if err == nil && pcr7 != token.PCR7 {
		err = ErrPCR7
	}
	return err
}

// Accepts reports whether the TPM would let the release have a secret at all:
// it is ErrFloor where the release is older than the floor.
func (s *Sealer) Accepts() error {
	there, err := s.look(s.release.policies.Floor())
	if err != nil || there != written {
		return err
	}
	floor, err := s.readFloor()
	if err == nil && floor > s.release.signed.SecurityVersion {
		err = s.tooOld()
	}
	return err
}

// Belongs reports whether the TPM was provisioned for the volume with this
// secret. Where it was provisioned for another it is ErrOtherVolume: somebody
// has brought a volume of his own, or the disk of another machine.
func (s *Sealer) Belongs(secret Secret, id Identity) (bool, error) {
	mark, err := s.readMark()
	switch {
	case err != nil || mark == nil:
		return false, err
	case !hmac.Equal(mark, secret.mark(id)):
		return false, ErrOtherVolume
	}
	return true, nil
}

// Reseal prepares the TPM, which may be a cleared or another one, and seals the
// secret for the current PCR 7. Commit must follow, once the token is on the
// disk.
func (s *Sealer) Reseal(secret Secret) (sealtoken.Token, error) {
	if err := s.Prepare(); err != nil {
		return sealtoken.Token{}, err
	}
	pcr7, err := s.pcr(7)
	if err != nil {
		return sealtoken.Token{}, err
	}
	return s.Seal(secret, pcr7)
}

func wrap(text string, s Secret) (sealtoken.Recovery, error) {
	box, err := recoveryCipher(text)
	if err != nil {
		return sealtoken.Recovery{}, err
	}
	return sealtoken.Recovery{Secret: box.Seal(nil, nil, append(s.Key[:], s.Authority[:]...), []byte(recoveryUse))}, nil
}

const recoveryUse = "cloison recovery token 1"

// recoveryCipher is AES-256-GCM with a random nonce in front. The passphrase
// has 128 random bits, so its key needs no slow derivation.
func recoveryCipher(text string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(text), nil, recoveryUse, 32)
	if err != nil {
		return nil, fmt.Errorf("internal error: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("internal error: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}
