package seal

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"cloison/format/pcrsig"
	"cloison/format/sealtoken"
)

// The reasons for which there is no secret. What is returned says more.
var (
	ErrSignature   = errors.New("the release's TPM policy is not signed by its policy key")
	ErrProvisioned = errors.New("this TPM was provisioned before")
	ErrOwned       = errors.New("this TPM belongs to another installation: clear it in the firmware's menu first")
	ErrOtherTPM    = errors.New("this TPM did not seal the volume: the disk was moved, or the TPM was cleared")
	ErrOtherVolume = errors.New("this is not the volume that the TPM was provisioned for")
	ErrPolicyKey   = errors.New("the volume was sealed for the releases of another policy key")
	ErrPCR7        = errors.New("PCR 7 is not what it was at sealing: Secure Boot or its keys changed without a plan; the recovery passphrase opens the volume")
	ErrPCR11       = errors.New("PCR 11 is not the one that was signed: the boot image was changed, or the initramfs was left already")
	ErrFloor       = errors.New("this release is older than the TPM accepts")
	ErrToken       = errors.New("the volume's token is damaged")
	ErrLockout     = errors.New("the TPM is locked out after wrong authorisations: it opens again by itself with time")
	ErrTPM         = errors.New("the TPM failed")
)

// TPM is what sends a command to a TPM and waits, not for ever, for its
// response: cloison/linux/tpm.
type TPM interface {
	Send(command []byte) ([]byte, error)
}

// Release is what the running release brings for the TPM.
type Release struct {
	key      *rsa.PublicKey
	signed   pcrsig.Signed
	policies pcrsig.Policies
}

// ParseRelease reads the policy key and its signatures, which systemd-stub put
// at /.extra/tpm2-pcr-public-key.pem and /.extra/tpm2-pcr-signature.json.
func ParseRelease(key, signature []byte) (Release, error) {
	public, err := pcrsig.ParseKey(key)
	if err != nil {
		return Release{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	signed, err := pcrsig.Parse(signature)
	if err == nil {
		err = signed.Verify(public)
	}
	if err != nil {
		return Release{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	policies, err := pcrsig.For(public)
	if err != nil {
		return Release{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return Release{public, signed, policies}, nil
}

// SecurityVersion is that of the release.
func (r Release) SecurityVersion() uint64 { return r.signed.SecurityVersion }

// Identity says which volume is meant: a digest of all in its header that an
// attacker could change to make it another one.
type Identity [32]byte

// Secret is what the TPM keeps.
type Secret struct {
	Key       [32]byte // opens a keyslot of the volume
	Authority [32]byte // the TPM's authorisations and the mark are made from it
}

// NewSecret returns a random one.
func NewSecret() Secret {
	var s Secret
	rand.Read(s.Key[:]) // never fails: the program ends instead (crypto/rand)
	rand.Read(s.Authority[:])
	return s
}

// derive returns HMAC-SHA-256 under the authority.
func (s Secret) derive(use string, data []byte) []byte {
	h := hmac.New(sha256.New, s.Authority[:])
	h.Write([]byte("cloison " + use + "\x00"))
	h.Write(data)
	return h.Sum(nil)
}

// mark is what the NV index holds for this volume.
func (s Secret) mark(id Identity) []byte { return s.derive("mark", id[:]) }

// authorisation is the one of a hierarchy: 128 bits in hex. As text it has no
// zero bytes, which TPMs cut off at the end, and go-tpm 0.9.8 anywhere.
func (s Secret) authorisation(hierarchy string) []byte {
	return []byte(hex.EncodeToString(s.derive(hierarchy, nil)[:16]))
}

// Sealer is a TPM seen by a release.
type Sealer struct {
	tpm     TPM
	release Release
}

// Open looks whether the TPM has what the seal needs.
func Open(t TPM, r Release) (*Sealer, error) {
	s := &Sealer{t, r}
	if _, err := s.pcr(7); err != nil {
		return nil, err
	}
	return s, nil
}

// PCR7 is the current value.
func (s *Sealer) PCR7() ([32]byte, error) { return s.pcr(7) }

// Provisioned reports whether the TPM has a mark: it belongs to a volume.
func (s *Sealer) Provisioned() (bool, error) {
	there, err := s.look(pcrsig.Mark())
	return there == written, err
}

// Marked reports whether a TPM belongs to a volume, whatever release asks.
func Marked(t TPM) (bool, error) { return (&Sealer{tpm: t}).Provisioned() }

// Provision prepares the TPM and seals a new secret for the current PCR 7.
// Until Commit it can be done again. The token's keyslot is for the caller to
// set.
func (s *Sealer) Provision() (Secret, sealtoken.Token, error) {
	p, err := s.permanent()
	if err != nil {
		return Secret{}, sealtoken.Token{}, err
	}
	marked, err := s.Provisioned()
	switch {
	case err != nil:
		return Secret{}, sealtoken.Token{}, err
	case marked:
		return Secret{}, sealtoken.Token{}, ErrProvisioned
	case p.OwnerAuthSet || p.LockoutAuthSet:
		return Secret{}, sealtoken.Token{}, ErrOwned
	}
	if err := s.Prepare(); err != nil {
		return Secret{}, sealtoken.Token{}, err
	}
	pcr7, err := s.pcr(7)
	if err != nil {
		return Secret{}, sealtoken.Token{}, err
	}
	secret := NewSecret()
	token, err := s.Seal(secret, pcr7)
	return secret, token, err
}

// Prepare makes what the TPM lacks of storage root key and floor, and checks
// what it has.
func (s *Sealer) Prepare() error {
	if err := s.makeSRK(); err != nil {
		return err
	}
	return s.makeFloor()
}

// Seal returns the secret sealed for a value of PCR 7: the current one, or the
// one that a planned change will lead to.
func (s *Sealer) Seal(secret Secret, pcr7 [32]byte) (sealtoken.Token, error) {
	srk, err := s.srk()
	if err != nil {
		return sealtoken.Token{}, err
	}
	policy := s.release.policies.Sealed(pcr7)
	r, err := tpm2.Create{
		ParentHandle: srk.auth(),
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: append(secret.Key[:], secret.Authority[:]...)}),
		}},
		InPublic: tpm2.New2B(sealedTemplate(policy)),
	}.Execute(s.tpm, srk.session(encryptIn))
	if err != nil {
		return sealtoken.Token{}, failed("cannot seal", err)
	}
	return sealtoken.Token{
		SRK: srk.name, Key: s.release.policies.Key(), PCR7: pcr7,
		Public: r.OutPublic.Bytes(), Private: r.OutPrivate.Buffer,
	}, nil
}

// Commit ties the TPM to the volume: from here on there is no first boot any
// more. It can be done again with the same secret.
//
// The order counts. The mark comes first: while there is none, the owner's
// authorisation is still empty, and first boot can start again after a power
// cut. What is missing after the mark is made good by the next Unseal.
func (s *Sealer) Commit(secret Secret, id Identity) error {
	if err := s.writeMark(secret, secret.mark(id)); err != nil {
		return err
	}
	return s.own(secret)
}

// Unseal returns the secret of the volume, if this is its TPM, this release
// may have it, and the volume is the one that the TPM was provisioned for.
func (s *Sealer) Unseal(token sealtoken.Token, id Identity) (Secret, error) {
	mark, srk, err := s.mine(token)
	if err != nil {
		return Secret{}, err
	}
	data, err := s.unseal(srk, token)
	if err != nil {
		return Secret{}, err
	}
	var secret Secret
	if len(data) != len(secret.Key)+len(secret.Authority) {
		return Secret{}, fmt.Errorf("%w: the secret has %d bytes", ErrToken, len(data))
	}
	copy(secret.Key[:], data)
	copy(secret.Authority[:], data[len(secret.Key):])
	if !hmac.Equal(mark, secret.mark(id)) {
		return Secret{}, ErrOtherVolume
	}
	return secret, s.own(secret)
}

// mine checks that this TPM sealed the token, and for the policy key of the
// release. It returns the mark.
func (s *Sealer) mine(token sealtoken.Token) (mark []byte, srk storageRoot, err error) {
	// The key first: what is read after it is read in sessions that it salts.
	if srk, err = s.srk(); err != nil {
		return nil, srk, err
	}
	if srk.name != token.SRK {
		return nil, srk, fmt.Errorf("%w (its storage root key is %x, the volume's %x)", ErrOtherTPM, srk.name, token.SRK)
	}
	if mark, err = s.readMark(); err != nil {
		return nil, srk, err
	}
	switch {
	case mark == nil:
		return nil, srk, fmt.Errorf("%w (it has no mark)", ErrOtherTPM)
	case token.Key != s.release.policies.Key():
		return nil, srk, ErrPolicyKey
	}
	return mark, srk, nil
}

// unseal has the TPM check the policy, step by step, and hand the data over.
// Each step that fails has one meaning.
func (s *Sealer) unseal(srk storageRoot, token sealtoken.Token) ([]byte, error) {
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](token.Public)
	if err != nil || !bytes.Equal(tpm2.Marshal(public), token.Public) {
		return nil, fmt.Errorf("%w: its public part cannot be read", ErrToken)
	}
	object, err := tpm2.Load{
		ParentHandle: srk.auth(), InPublic: tpm2.New2B(*public), InPrivate: tpm2.TPM2BPrivate{Buffer: token.Private},
	}.Execute(s.tpm)
	if refused(err) {
		return nil, fmt.Errorf("%w: the TPM does not take it: %w", ErrToken, err)
	}
	if err != nil {
		return nil, failed("cannot load the sealed secret", err)
	}
	defer s.flush(object.ObjectHandle)

	session, end, err := tpm2.PolicySession(s.tpm, tpm2.TPMAlgSHA256, nonceSize, srk.options(encryptOut)...)
	if err != nil {
		return nil, failed("cannot start a session", err)
	}
	defer end() // an open session is lost with the power at the latest

	r := s.release
	if err := s.policyPCR(session, 11, r.signed.PCR11); refused(err) {
		return nil, ErrPCR11
	} else if err != nil {
		return nil, failed("cannot show PCR 11 to the TPM", err)
	}
	if err := s.policyFloor(session, r.signed.SecurityVersion); err != nil {
		return nil, err
	}
	approved := r.policies.Unseal(r.signed.PCR11, r.signed.SecurityVersion)
	if err := s.policyAuthorize(session, approved, pcrsig.UnsealRef, r.signed.Unseal); err != nil {
		return nil, err
	}
	if err := s.policyPCR(session, 7, token.PCR7); refused(err) {
		return nil, ErrPCR7
	} else if err != nil {
		return nil, failed("cannot show PCR 7 to the TPM", err)
	}
	out, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{Handle: object.ObjectHandle, Name: object.Name, Auth: session}}.Execute(s.tpm)
	if refused(err) {
		return nil, fmt.Errorf("%w: it was sealed with another policy: %w", ErrToken, err)
	}
	if err != nil {
		return nil, failed("cannot unseal", err)
	}
	return out.OutData.Buffer, nil
}

// RaiseFloor raises the floor to what the release says, if it says so and the
// floor is lower. It needs no secret: it is for a boot that was found good.
func (s *Sealer) RaiseFloor() (floor uint64, raised bool, err error) {
	floor, err = s.readFloor()
	to := s.release.signed.Floor
	if err != nil || to <= floor {
		return floor, false, err
	}
	srk, err := s.srk()
	if err != nil {
		return floor, false, err
	}
	p := s.release.policies
	err = s.writeFloor(srk, p.Floor().Written(), to, p.Raise(to), s.release.signed.Raise, func(session tpm2.Session) error {
		return s.policyFloor(session, to)
	})
	if err != nil {
		return floor, false, err
	}
	return to, true, nil
}

// Status is what one may know of the TPM.
type Status struct {
	Provisioned     bool
	Owned           bool   // both hierarchies have their authorisation
	Lockout         bool   // too many wrong authorisations
	Floor           uint64 // least security version that gets the secret
	SecurityVersion uint64 // of the running release
}

// Status reads it.
func (s *Sealer) Status() (Status, error) {
	p, err := s.permanent()
	if err != nil {
		return Status{}, err
	}
	st := Status{Owned: p.OwnerAuthSet && p.LockoutAuthSet, Lockout: p.InLockout, SecurityVersion: s.release.signed.SecurityVersion}
	if st.Provisioned, err = s.Provisioned(); err != nil || !st.Provisioned {
		return st, err
	}
	st.Floor, err = s.readFloor()
	return st, err
}
