package seal

import (
	"encoding/binary"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// The lockout: after so many wrong authorisations the TPM takes no more of
// them, forgives one each time an interval has passed, and does not let the
// lockout hierarchy's own authorisation be tried more than once a day.
const (
	maxTries        = 32
	recoverySeconds = 600
	lockoutSeconds  = 86400
)

// permanent is the part of TPMA_PERMANENT that matters here (Part 2, section
// 8.6).
type permanent struct {
	OwnerAuthSet, LockoutAuthSet, InLockout bool
}

// permanent reads which hierarchies have authorisations, and the lockout
// (TPM_PT_PERMANENT, Part 2, section 6.13).
func (s *Sealer) permanent() (permanent, error) {
	const what = "cannot ask the TPM for its state"
	r, err := tpm2.GetCapability{
		Capability: tpm2.TPMCapTPMProperties, Property: uint32(tpm2.TPMPTPermanent), PropertyCount: 1,
	}.Execute(s.tpm)
	if err != nil {
		return permanent{}, failed(what, err)
	}
	properties, err := r.CapabilityData.Data.TPMProperties()
	if err != nil {
		return permanent{}, failed(what, err)
	}
	if len(properties.TPMProperty) != 1 || properties.TPMProperty[0].Property != tpm2.TPMPTPermanent {
		return permanent{}, fmt.Errorf("%s: %w: it answers something else", what, ErrTPM)
	}
	value := properties.TPMProperty[0].Value
	return permanent{value&(1<<0) != 0, value&(1<<2) != 0, value&(1<<9) != 0}, nil
}

// own sets the authorisations that are still empty. Lockout comes first: it
// sets the lockout's parameters, which takes its empty authorisation.
func (s *Sealer) own(secret Secret) error {
	p, err := s.permanent()
	if err != nil {
		return err
	}
	if !p.LockoutAuthSet {
		if err := s.lockoutParameters(); err != nil {
			return err
		}
		if err := s.changeAuth(tpm2.TPMRHLockout, secret.authorisation("lockout")); err != nil {
			return err
		}
	}
	if !p.OwnerAuthSet {
		return s.changeAuth(tpm2.TPMRHOwner, secret.authorisation("owner"))
	}
	return nil
}

// changeAuth replaces an empty authorisation. The new one is encrypted on the
// bus.
func (s *Sealer) changeAuth(hierarchy tpm2.TPMHandle, to []byte) error {
	srk, err := s.srk()
	if err != nil {
		return err
	}
	_, err = tpm2.HierarchyChangeAuth{
		AuthHandle: tpm2.AuthHandle{Handle: hierarchy, Auth: tpm2.PasswordAuth(nil)},
		NewAuth:    tpm2.TPM2BAuth{Buffer: to},
	}.Execute(s.tpm, srk.session(encryptIn))
	if err != nil {
		return failed(fmt.Sprintf("cannot set the authorisation of hierarchy %#x", uint32(hierarchy)), err)
	}
	return nil
}

// lockoutParameters sets them with the empty authorisation of the lockout
// hierarchy (TPM2_DictionaryAttackParameters, Part 3, section 25.3), for which
// go-tpm has no command.
func (s *Sealer) lockoutParameters() error {
	be := binary.BigEndian
	b := be.AppendUint16(nil, uint16(tpm2.TPMSTSessions))
	b = be.AppendUint32(b, 0) // the size, below
	b = be.AppendUint32(b, uint32(tpm2.TPMCCDictionaryAttackParameters))
	b = be.AppendUint32(b, uint32(tpm2.TPMRHLockout))
	b = be.AppendUint32(b, 9) // bytes of the authorisation: a password, empty
	b = be.AppendUint32(b, uint32(tpm2.TPMRSPW))
	b = append(b, 0, 0, 0, 0, 0)
	for _, v := range []uint32{maxTries, recoverySeconds, lockoutSeconds} {
		b = be.AppendUint32(b, v)
	}
	be.PutUint32(b[2:], uint32(len(b)))
	const what = "cannot set the lockout's parameters"
	r, err := s.tpm.Send(b)
	if err != nil {
		return failed(what, err)
	}
	if len(r) < 10 {
		return fmt.Errorf("%s: %w: its answer is cut", what, ErrTPM)
	}
	if code := tpm2.TPMRC(be.Uint32(r[6:])); code != tpm2.TPMRCSuccess {
		return failed(what, code)
	}
	return nil
}
