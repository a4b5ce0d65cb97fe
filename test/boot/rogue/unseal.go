package rogue

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"cloison/format/bootfacts"
	"cloison/format/luks2"
	"cloison/format/pcrsig"
	"cloison/format/sealtoken"
	"cloison/format/tpmpolicy"
	"cloison/linux/tpm"
	"cloison/target/seal"
	"cloison/target/state"
)

// thief has all that PID 1 can find: the TPM, the volume's header, and what the
// integrator has signed for the TPM.
type thief struct {
	tpm    *tpm.TPM
	sealer *seal.Sealer
	token  sealtoken.Token
	id     seal.Identity
	signed pcrsig.Signed
	p      pcrsig.Policies
	area   tpm2.TPMTPublic // the policy key
}

func (r *rogue) thief() (*thief, error) {
	key, err := os.ReadFile(bootfacts.PolicyKey)
	if err != nil {
		return nil, err
	}
	signature, err := os.ReadFile(bootfacts.PolicySignature)
	if err != nil {
		return nil, err
	}
	release, err := seal.ParseRelease(key, signature)
	if err != nil {
		return nil, err
	}
	t := &thief{}
	if t.signed, err = pcrsig.Parse(signature); err != nil {
		return nil, err
	}
	public, err := pcrsig.ParseKey(key)
	if err != nil {
		return nil, err
	}
	if t.p, err = pcrsig.For(public); err != nil {
		return nil, err
	}
	area, err := tpmpolicy.RSAKey(public)
	if err != nil {
		return nil, err
	}
	parsed, err := tpm2.Unmarshal[tpm2.TPMTPublic](area)
	if err != nil {
		return nil, err
	}
	t.area = *parsed
	head := make([]byte, 2*luks2.MetadataSize)
	f, err := os.Open(r.facts.State)
	if err != nil {
		return nil, err
	}
	_, err = f.ReadAt(head, 0)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	header, err := luks2.Parse(head, luks2.Sealed)
	if err != nil {
		return nil, err
	}
	t.id = state.Identity(header)
	for _, n := range slices.Sorted(maps.Keys(header.Tokens)) {
		if luks2.Type(header.Tokens[n]) == sealtoken.Type {
			if t.token, err = sealtoken.Parse(header.Tokens[n]); err != nil {
				return nil, err
			}
		}
	}
	if t.tpm, err = tpm.Open(tpm.Node); err != nil {
		return nil, err
	}
	t.sealer, err = seal.Open(t.tpm, release)
	return t, err
}

// unseal tries everything by which it could come to the secret, or make the
// TPM give it later to whom it should not. It says the answer to each attempt.
func (r *rogue) unseal() error {
	t, err := r.thief()
	if err != nil {
		return err
	}
	succeeded := 0
	attempts := t.attempts()
	for _, a := range attempts {
		if err := a.do(); err != nil {
			r.say("%s: refused: %v", a.what, err)
			continue
		}
		succeeded++
		r.say("%s: SUCCEEDED", a.what)
	}
	r.say("%d attempts, %d succeeded", len(attempts), succeeded)
	return t.tpm.Close()
}

type attempt struct {
	what string
	do   func() error
}

func (t *thief) attempts() []attempt {
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	floor, mark := t.p.Floor().Written(), pcrsig.Mark().Written()
	return []attempt{
		{"unseal as the initramfs does", func() error { _, err := t.sealer.Unseal(t.token, t.id); return err }},
		{"unseal with PCR 11 as it is now", func() error {
			return t.open(t.pcr(11, nil), t.floor(t.signed.SecurityVersion), t.authorizeUnseal, t.pcr(7, &t.token.PCR7))
		}},
		{"unseal without PCR 11", func() error {
			return t.open(t.floor(t.signed.SecurityVersion), t.authorizeUnseal, t.pcr(7, &t.token.PCR7))
		}},
		{"unseal with nothing but the signature", func() error { return t.open(t.authorizeUnseal, t.pcr(7, &t.token.PCR7)) }},
		{"unseal by the signature that makes the floor", func() error { return t.open(t.made, t.authorizeInit, t.pcr(7, &t.token.PCR7)) }},
		{"unseal by the signature that raises the floor", func() error { return t.open(t.raised, t.authorizeRaise, t.pcr(7, &t.token.PCR7)) }},
		{"unseal with an empty policy", func() error { return t.open() }},
		{"unseal with PCR 7 alone", func() error { return t.open(t.pcr(7, &t.token.PCR7)) }},
		{"unseal with the empty authorisation", func() error { return t.take(tpm2.PasswordAuth(nil)) }},
		{"reset PCR 11", func() error {
			_, err := tpm2.PCRReset{PCRHandle: tpm2.AuthHandle{Handle: 11, Auth: tpm2.PasswordAuth(nil)}}.Execute(t.tpm)
			return err
		}},
		{"lower the floor by the empty authorisation", func() error { return t.write(nv(floor, tpm2.PasswordAuth(nil)), floor, pcrsig.Operand(0)) }},
		{"lower the floor as the owner", func() error { return t.write(owner, floor, pcrsig.Operand(0)) }},
		{"lower the floor by the signature that makes it", func() error {
			return t.session(func(s tpm2.Session) error { return t.write(nv(floor, s), floor, pcrsig.Operand(0)) }, t.made, t.authorizeInit)
		}},
		{"lower the floor by the signature that raises it", func() error {
			return t.session(func(s tpm2.Session) error { return t.write(nv(floor, s), floor, pcrsig.Operand(0)) }, t.raised, t.authorizeRaise)
		}},
		{"write the mark", func() error { return t.write(owner, mark, make([]byte, mark.Size)) }},
		{"delete the floor", func() error {
			_, err := tpm2.NVUndefineSpace{AuthHandle: owner, NVIndex: nv(floor, nil)}.Execute(t.tpm)
			return err
		}},
		{"delete the mark", func() error {
			_, err := tpm2.NVUndefineSpace{AuthHandle: owner, NVIndex: nv(mark, nil)}.Execute(t.tpm)
			return err
		}},
		{"delete the storage root key", func() error {
			_, err := tpm2.EvictControl{
				Auth: owner, ObjectHandle: &tpm2.NamedHandle{Handle: 0x81000001, Name: tpm2.TPM2BName{Buffer: t.token.SRK[:]}}, PersistentHandle: 0x81000001,
			}.Execute(t.tpm)
			return err
		}},
		{"clear the TPM", func() error {
			_, err := tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Auth: tpm2.PasswordAuth(nil)}}.Execute(t.tpm)
			return err
		}},
	}
}

// shown is one step of a policy.
type shown func(tpm2.Session) error

// session does something in a session to which the steps were shown.
func (t *thief) session(do func(tpm2.Session) error, steps ...shown) error {
	s, end, err := tpm2.PolicySession(t.tpm, tpm2.TPMAlgSHA256, 32)
	if err != nil {
		return err
	}
	defer end() // the resource manager frees what is left
	for i, step := range steps {
		if err := step(s); err != nil {
			return fmt.Errorf("step %d of the policy: %w", i+1, err)
		}
	}
	return do(s)
}

// open unseals in such a session.
func (t *thief) open(steps ...shown) error { return t.session(t.take, steps...) }

// take unseals by an authorisation.
func (t *thief) take(auth tpm2.Session) error {
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](t.token.Public)
	if err != nil {
		return err
	}
	object, err := tpm2.Load{
		ParentHandle: tpm2.AuthHandle{Handle: 0x81000001, Name: tpm2.TPM2BName{Buffer: t.token.SRK[:]}, Auth: tpm2.PasswordAuth(nil)},
		InPublic:     tpm2.New2B(*public), InPrivate: tpm2.TPM2BPrivate{Buffer: t.token.Private},
	}.Execute(t.tpm)
	if err != nil {
		return fmt.Errorf("cannot load the secret: %w", err)
	}
	defer t.flush(object.ObjectHandle)
	_, err = tpm2.Unseal{ItemHandle: tpm2.AuthHandle{Handle: object.ObjectHandle, Name: object.Name, Auth: auth}}.Execute(t.tpm)
	return err
}

// flush frees a loaded object; where it fails, the resource manager does.
func (t *thief) flush(handle tpm2.TPMHandle) {
	_, _ = tpm2.FlushContext{FlushHandle: handle}.Execute(t.tpm)
}

// pcr shows the value of a PCR, or the current one.
func (t *thief) pcr(index int, value *[32]byte) shown {
	return func(s tpm2.Session) error {
		selection, err := tpm2.Unmarshal[tpm2.TPMLPCRSelection](tpmpolicy.Selection(index))
		if err != nil {
			return err
		}
		command := tpm2.PolicyPCR{PolicySession: s.Handle(), Pcrs: *selection}
		if value != nil {
			digest := tpmpolicy.PCRDigest(map[int]tpmpolicy.Digest{index: *value})
			command.PcrDigest.Buffer = digest[:]
		}
		_, err = command.Execute(t.tpm)
		return err
	}
}

// floor shows that the floor is not above a version.
func (t *thief) floor(version uint64) shown {
	return func(s tpm2.Session) error {
		index := t.p.Floor().Written()
		_, err := tpm2.PolicyNV{
			AuthHandle: nv(index, tpm2.PasswordAuth(nil)), NVIndex: nv(index, nil), PolicySession: s.Handle(),
			OperandB: tpm2.TPM2BOperand{Buffer: pcrsig.Operand(version)}, Operation: tpm2.TPMEO(tpmpolicy.UnsignedLE),
		}.Execute(t.tpm)
		return err
	}
}

// made shows what is signed for making the floor.
func (t *thief) made(s tpm2.Session) error {
	if _, err := (tpm2.PolicyNVWritten{PolicySession: s.Handle(), WrittenSet: false}).Execute(t.tpm); err != nil {
		return err
	}
	return t.command(s, pcrsig.WriteHash(t.p.Floor(), 0))
}

// raised shows what is signed for raising it.
func (t *thief) raised(s tpm2.Session) error {
	if err := t.floor(t.signed.Floor)(s); err != nil {
		return err
	}
	return t.command(s, pcrsig.WriteHash(t.p.Floor().Written(), t.signed.Floor))
}

func (t *thief) command(s tpm2.Session, hash tpmpolicy.Digest) error {
	_, err := tpm2.PolicyCPHash{PolicySession: s.Handle(), CPHashA: tpm2.TPM2BDigest{Buffer: hash[:]}}.Execute(t.tpm)
	return err
}

func (t *thief) authorizeUnseal(s tpm2.Session) error {
	return t.authorize(s, t.p.Unseal(t.signed.PCR11, t.signed.SecurityVersion), pcrsig.UnsealRef, t.signed.Unseal)
}

func (t *thief) authorizeInit(s tpm2.Session) error {
	return t.authorize(s, t.p.Init(), pcrsig.FloorRef, t.signed.Init)
}

func (t *thief) authorizeRaise(s tpm2.Session) error {
	return t.authorize(s, t.p.Raise(t.signed.Floor), pcrsig.FloorRef, t.signed.Raise)
}

// authorize shows the policy key's signature of a policy.
func (t *thief) authorize(s tpm2.Session, approved tpmpolicy.Digest, ref, signature []byte) error {
	key, err := tpm2.LoadExternal{InPublic: tpm2.New2B(t.area), Hierarchy: tpm2.TPMRHOwner}.Execute(t.tpm)
	if err != nil {
		return fmt.Errorf("cannot load the policy key: %w", err)
	}
	defer t.flush(key.ObjectHandle)
	ticket, err := tpm2.VerifySignature{
		KeyHandle: &tpm2.NamedHandle{Handle: key.ObjectHandle, Name: key.Name},
		Digest:    tpm2.TPM2BDigest{Buffer: tpmpolicy.SignedDigest(approved, ref)},
		Signature: tpm2.TPMTSignature{
			SigAlg: tpm2.TPMAlgRSASSA,
			Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgRSASSA, &tpm2.TPMSSignatureRSA{
				Hash: tpm2.TPMAlgSHA256, Sig: tpm2.TPM2BPublicKeyRSA{Buffer: signature},
			}),
		},
	}.Execute(t.tpm)
	if err != nil {
		return fmt.Errorf("cannot have the signature checked: %w", err)
	}
	_, err = tpm2.PolicyAuthorize{
		PolicySession: s.Handle(), ApprovedPolicy: tpm2.TPM2BDigest{Buffer: approved[:]},
		PolicyRef: tpm2.TPM2BDigest{Buffer: ref}, KeySign: key.Name, CheckTicket: ticket.Validation,
	}.Execute(t.tpm)
	return err
}

// nv names an NV index.
func nv(index tpmpolicy.Index, auth tpm2.Session) tpm2.AuthHandle {
	name := index.Name()
	return tpm2.AuthHandle{Handle: tpm2.TPMHandle(index.Handle), Name: tpm2.TPM2BName{Buffer: name[:]}, Auth: auth}
}

// write writes an NV index.
func (t *thief) write(by tpm2.AuthHandle, index tpmpolicy.Index, data []byte) error {
	_, err := tpm2.NVWrite{AuthHandle: by, NVIndex: nv(index, nil), Data: tpm2.TPM2BMaxNVBuffer{Buffer: data}}.Execute(t.tpm)
	return err
}
