package seal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"cloison/format/pcrsig"
	"cloison/format/tpmpolicy"
)

// srkHandle is where the storage root key stays (TCG TPM 2.0 Provisioning
// Guidance 1.0, section 7.8).
const srkHandle = tpm2.TPMHandle(0x81000001)

// nonceSize of sessions, in bytes: 16 at least (Part 1, section 17.6.4).
const nonceSize = 32

// The first parameter of a command, or of its response, is encrypted.
var (
	encryptIn  = tpm2.AESEncryption(128, tpm2.EncryptIn)
	encryptOut = tpm2.AESEncryption(128, tpm2.EncryptOut)
)

// failed adds to an error what was attempted, and which reason it stands for.
func failed(what string, err error) error {
	var code tpm2.TPMRC
	switch {
	case errors.Is(err, tpm2.TPMRCLockout):
		return fmt.Errorf("%s: %w: %w", what, ErrLockout, err)
	case !errors.As(err, &code), errors.Is(err, tpm2.TPMRCFailure):
		return fmt.Errorf("%s: %w: %w", what, ErrTPM, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// refusals are the codes by which a TPM says no to a policy or a blob, and not
// that something is wrong with itself.
var refusals = []tpm2.TPMRC{
	tpm2.TPMRCValue, tpm2.TPMRCPolicy, tpm2.TPMRCPolicyFail, tpm2.TPMRCIntegrity, tpm2.TPMRCTicket, tpm2.TPMRCSignature,
	tpm2.TPMRCSize, tpm2.TPMRCInsufficient, tpm2.TPMRCAttributes, tpm2.TPMRCType, tpm2.TPMRCBinding, tpm2.TPMRCHash,
	tpm2.TPMRCScheme, tpm2.TPMRCSymmetric, tpm2.TPMRCSensitive, tpm2.TPMRCReservedBits, tpm2.TPMRCPCRChanged,
	tpm2.TPMRCSelector, tpm2.TPMRCKDF, tpm2.TPMRCKeySize, tpm2.TPMRCAuthUnavailable, tpm2.TPMRCCurve, tpm2.TPMRCMode,
}

func refused(err error) bool {
	for _, code := range refusals {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// storageRoot is the storage root key, after its check.
type storageRoot struct {
	public tpm2.TPMTPublic
	name   tpmpolicy.Name
}

// auth gives the key its authorisation, which is empty.
func (r storageRoot) auth() tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: srkHandle, Name: tpm2.TPM2BName{Buffer: r.name[:]}, Auth: tpm2.PasswordAuth(nil)}
}

// options make a session that nobody on the bus can read or join: its key
// comes from a salt encrypted to the storage root key (Part 1, section 17.6.3).
func (r storageRoot) options(encryption tpm2.AuthOption) []tpm2.AuthOption {
	return []tpm2.AuthOption{tpm2.Salted(srkHandle, r.public), encryption}
}

// session is such a session for one command.
func (r storageRoot) session(encryption tpm2.AuthOption, more ...tpm2.AuthOption) tpm2.Session {
	return tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, append(r.options(encryption), more...)...)
}

// srk reads the storage root key. One that is missing or not of the template
// is that of another TPM.
func (s *Sealer) srk() (storageRoot, error) {
	r, err := tpm2.ReadPublic{ObjectHandle: srkHandle}.Execute(s.tpm)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return storageRoot{}, fmt.Errorf("%w (it has no storage root key)", ErrOtherTPM)
	}
	if err != nil {
		return storageRoot{}, failed("cannot read the storage root key", err)
	}
	public, err := r.OutPublic.Contents()
	if err != nil {
		return storageRoot{}, failed("cannot read the storage root key", err)
	}
	if !ofTemplate(*public) {
		return storageRoot{}, fmt.Errorf("%w (its storage root key is not made from the TCG's template)", ErrOtherTPM)
	}
	return storageRoot{*public, tpmpolicy.NameOf(tpm2.Marshal(public))}, nil
}

// ofTemplate reports whether a key is what the template makes: all but the
// point itself is the same.
func ofTemplate(public tpm2.TPMTPublic) bool {
	public.Unique = tpm2.ECCSRKTemplate.Unique
	return bytes.Equal(tpm2.Marshal(public), tpm2.Marshal(tpm2.ECCSRKTemplate))
}

// makeSRK makes the storage root key, and keeps it where it is looked for. A
// key that is there must be the same: the template and the TPM's seed give the
// same key each time.
func (s *Sealer) makeSRK() error {
	made, err := tpm2.CreatePrimary{
		PrimaryHandle: s.owner(nil), InPublic: tpm2.New2B(tpm2.ECCSRKTemplate),
	}.Execute(s.tpm)
	if errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCAuthFail) {
		// The owner's authorisation is set: so it was us, or another one.
		if _, err = s.srk(); errors.Is(err, ErrOtherTPM) {
			err = fmt.Errorf("%w (%v)", ErrOwned, err)
		}
		return err
	}
	if err != nil {
		return failed("cannot make the storage root key", err)
	}
	defer s.flush(made.ObjectHandle)
	there, err := tpm2.ReadPublic{ObjectHandle: srkHandle}.Execute(s.tpm)
	switch {
	case errors.Is(err, tpm2.TPMRCHandle):
		_, err := tpm2.EvictControl{
			Auth: s.owner(nil), ObjectHandle: &tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}, PersistentHandle: srkHandle,
		}.Execute(s.tpm)
		if err != nil {
			return failed("cannot keep the storage root key", err)
		}
		return nil
	case err != nil:
		return failed("cannot read the storage root key", err)
	case !bytes.Equal(there.Name.Buffer, made.Name.Buffer):
		return fmt.Errorf("%w (the key at %#x is not its storage root key)", ErrOwned, uint32(srkHandle))
	}
	return nil
}

// sealedTemplate is a sealed object that opens by its policy alone.
func sealedTemplate(policy tpmpolicy.Digest) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
		// There is nothing to guess, so it stands aside from the lockout: nobody
		// can keep the machine from booting by guessing at other things.
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, AdminWithPolicy: true, NoDA: true},
		AuthPolicy:       tpm2.TPM2BDigest{Buffer: policy[:]},
		Parameters:       tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{}),
		Unique:           tpm2.NewTPMUPublicID(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BDigest{}),
	}
}

// owner authorises as the owner: with nothing, or with the secret.
func (s *Sealer) owner(session tpm2.Session) tpm2.AuthHandle {
	if session == nil {
		session = tpm2.PasswordAuth(nil)
	}
	return tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: session}
}

// state is what the TPM holds of an NV index.
type state int

const (
	absent state = iota
	unwritten
	written
)

// look compares an index with what it must be.
func (s *Sealer) look(index tpmpolicy.Index) (state, error) {
	r, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index.Handle)}.Execute(s.tpm)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return absent, nil
	}
	if err != nil {
		return absent, failed(fmt.Sprintf("cannot look at NV index %#x", index.Handle), err)
	}
	switch public := r.NVPublic.Bytes(); {
	case bytes.Equal(public, index.Public()):
		return unwritten, nil
	case bytes.Equal(public, index.Written().Public()):
		return written, nil
	}
	return absent, fmt.Errorf("%w (its NV index %#x is another one)", ErrOwned, index.Handle)
}

// nv names an index, authorised by itself with the empty value.
func nv(index tpmpolicy.Index, session tpm2.Session) tpm2.AuthHandle {
	name := index.Name()
	return tpm2.AuthHandle{Handle: tpm2.TPMHandle(index.Handle), Name: tpm2.TPM2BName{Buffer: name[:]}, Auth: session}
}

// define makes an index, as the owner.
func (s *Sealer) define(index tpmpolicy.Index, session tpm2.Session) error {
	public, err := tpm2.Unmarshal[tpm2.TPMSNVPublic](index.Public())
	if err != nil {
		return fmt.Errorf("internal error: NV index %#x: %w", index.Handle, err)
	}
	_, err = tpm2.NVDefineSpace{AuthHandle: s.owner(session), PublicInfo: tpm2.New2B(*public)}.Execute(s.tpm)
	if err != nil {
		return failedAsOwner(fmt.Sprintf("cannot define NV index %#x", index.Handle), err)
	}
	return nil
}

func failedAsOwner(what string, err error) error {
	if errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCAuthFail) {
		return fmt.Errorf("%s: %w", what, ErrOwned)
	}
	return failed(what, err)
}

// read returns what a written index holds. Where there is a storage root key
// the answer is authenticated by it.
func (s *Sealer) read(index tpmpolicy.Index) ([]byte, error) {
	srk, err := s.srk()
	if err != nil {
		return nil, err
	}
	index = index.Written()
	r, err := tpm2.NVRead{AuthHandle: nv(index, srk.session(encryptOut)), NVIndex: nv(index, nil), Size: index.Size}.Execute(s.tpm)
	if err != nil {
		return nil, failed(fmt.Sprintf("cannot read NV index %#x", index.Handle), err)
	}
	if len(r.Data.Buffer) != int(index.Size) {
		return nil, fmt.Errorf("cannot read NV index %#x: %w: it gives %d bytes", index.Handle, ErrTPM, len(r.Data.Buffer))
	}
	return r.Data.Buffer, nil
}

// readMark returns the mark, or nil.
func (s *Sealer) readMark() ([]byte, error) {
	there, err := s.look(pcrsig.Mark())
	if err != nil || there != written {
		return nil, err
	}
	return s.read(pcrsig.Mark())
}

// writeMark writes the mark where it is missing or another one.
func (s *Sealer) writeMark(secret Secret, mark []byte) error {
	p, err := s.permanent()
	if err != nil {
		return err
	}
	srk, err := s.srk()
	if err != nil {
		return err
	}
	// A new session for each command.
	session := func() tpm2.Session {
		if !p.OwnerAuthSet {
			return tpm2.PasswordAuth(nil)
		}
		return srk.session(encryptIn, tpm2.Auth(secret.authorisation("owner")))
	}
	index := pcrsig.Mark()
	there, err := s.look(index)
	switch {
	case err != nil:
		return err
	case there == absent:
		if err := s.define(index, session()); err != nil {
			return err
		}
	case there == written:
		index = index.Written()
		old, err := s.read(index)
		if err != nil || bytes.Equal(old, mark) {
			return err
		}
	}
	_, err = tpm2.NVWrite{AuthHandle: s.owner(session()), NVIndex: nv(index, nil), Data: tpm2.TPM2BMaxNVBuffer{Buffer: mark}}.Execute(s.tpm)
	if err != nil {
		return failedAsOwner("cannot mark the TPM as provisioned", err)
	}
	return nil
}

// makeFloor makes the floor where it is missing, at zero.
func (s *Sealer) makeFloor() error {
	p := s.release.policies
	there, err := s.look(p.Floor())
	if err != nil {
		return err
	}
	if there == absent {
		if err := s.define(p.Floor(), nil); err != nil {
			return err
		}
	}
	if there == written {
		floor, err := s.readFloor()
		if err == nil && floor > s.release.signed.SecurityVersion {
			err = s.tooOld()
		}
		return err
	}
	srk, err := s.srk()
	if err != nil {
		return err
	}
	return s.writeFloor(srk, p.Floor(), 0, p.Init(), s.release.signed.Init, func(session tpm2.Session) error {
		_, err := tpm2.PolicyNVWritten{PolicySession: session.Handle(), WrittenSet: false}.Execute(s.tpm)
		return err
	})
}

// writeFloor writes a value that the policy key has signed for: shown is what
// the policy asks for before the command itself.
func (s *Sealer) writeFloor(srk storageRoot, index tpmpolicy.Index, value uint64, approved tpmpolicy.Digest, signature []byte, shown func(tpm2.Session) error) error {
	const what = "cannot write the floor"
	// Salted, but not encrypted: the policy holds the command's hash, which
	// would be that of the encrypted command. The value is no secret.
	session, end, err := tpm2.PolicySession(s.tpm, tpm2.TPMAlgSHA256, nonceSize, tpm2.Salted(srkHandle, srk.public))
	if err != nil {
		return failed(what, err)
	}
	defer end() // an open session is lost with the power at the latest
	if err := shown(session); err != nil {
		return failed(what, err)
	}
	hash := pcrsig.WriteHash(index, value)
	if _, err := (tpm2.PolicyCPHash{PolicySession: session.Handle(), CPHashA: tpm2.TPM2BDigest{Buffer: hash[:]}}).Execute(s.tpm); err != nil {
		return failed(what, err)
	}
	if err := s.policyAuthorize(session, approved, pcrsig.FloorRef, signature); err != nil {
		return err
	}
	_, err = tpm2.NVWrite{AuthHandle: nv(index, session), NVIndex: nv(index, nil), Data: tpm2.TPM2BMaxNVBuffer{Buffer: pcrsig.Operand(value)}}.Execute(s.tpm)
	if err != nil {
		return failed(what, err)
	}
	return nil
}

func (s *Sealer) readFloor() (uint64, error) {
	index := s.release.policies.Floor()
	there, err := s.look(index)
	if err != nil {
		return 0, err
	}
	if there != written {
		return 0, fmt.Errorf("%w (it has no floor)", ErrOtherTPM)
	}
	b, err := s.read(index)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(b), nil
}

// tooOld says by how much.
func (s *Sealer) tooOld() error {
	floor, err := s.readFloor()
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: its security version is %d, the TPM's floor %d", ErrFloor, s.release.signed.SecurityVersion, floor)
}

// policyPCR shows the TPM that a PCR has this value.
func (s *Sealer) policyPCR(session tpm2.Session, index int, value tpmpolicy.Digest) error {
	selection, err := tpm2.Unmarshal[tpm2.TPMLPCRSelection](tpmpolicy.Selection(index))
	if err != nil {
		return fmt.Errorf("internal error: PCR %d: %w", index, err)
	}
	digest := tpmpolicy.PCRDigest(map[int]tpmpolicy.Digest{index: value})
	_, err = tpm2.PolicyPCR{PolicySession: session.Handle(), PcrDigest: tpm2.TPM2BDigest{Buffer: digest[:]}, Pcrs: *selection}.Execute(s.tpm)
	return err
}

// policyFloor shows the TPM that its floor is not above the version.
func (s *Sealer) policyFloor(session tpm2.Session, version uint64) error {
	index := s.release.policies.Floor().Written()
	_, err := tpm2.PolicyNV{
		AuthHandle: nv(index, tpm2.PasswordAuth(nil)), NVIndex: nv(index, nil), PolicySession: session.Handle(),
		OperandB: tpm2.TPM2BOperand{Buffer: pcrsig.Operand(version)}, Operation: tpm2.TPMEO(tpmpolicy.UnsignedLE),
	}.Execute(s.tpm)
	switch {
	case errors.Is(err, tpm2.TPMRCPolicy):
		return s.tooOld()
	case errors.Is(err, tpm2.TPMRCHandle), errors.Is(err, tpm2.TPMRCNVUninitialized):
		return fmt.Errorf("%w (it has no floor)", ErrOtherTPM)
	case err != nil:
		return failed("cannot compare the floor", err)
	}
	return nil
}

// policyAuthorize has the TPM check the policy key's signature.
func (s *Sealer) policyAuthorize(session tpm2.Session, approved tpmpolicy.Digest, ref, signature []byte) error {
	const what = "cannot show the signed policy to the TPM"
	area, err := tpmpolicy.RSAKey(s.release.key)
	if err != nil {
		return fmt.Errorf("internal error: %w", err)
	}
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](area)
	if err != nil {
		return fmt.Errorf("internal error: %w", err)
	}
	key, err := tpm2.LoadExternal{InPublic: tpm2.New2B(*public), Hierarchy: tpm2.TPMRHOwner}.Execute(s.tpm)
	if err != nil {
		return failed(what, err)
	}
	defer s.flush(key.ObjectHandle)
	ticket, err := tpm2.VerifySignature{
		KeyHandle: &tpm2.NamedHandle{Handle: key.ObjectHandle, Name: key.Name},
		Digest:    tpm2.TPM2BDigest{Buffer: tpmpolicy.SignedDigest(approved, ref)},
		Signature: tpm2.TPMTSignature{
			SigAlg: tpm2.TPMAlgRSASSA,
			Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgRSASSA, &tpm2.TPMSSignatureRSA{
				Hash: tpm2.TPMAlgSHA256, Sig: tpm2.TPM2BPublicKeyRSA{Buffer: signature},
			}),
		},
	}.Execute(s.tpm)
	if refused(err) {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if err != nil {
		return failed(what, err)
	}
	_, err = tpm2.PolicyAuthorize{
		PolicySession: session.Handle(), ApprovedPolicy: tpm2.TPM2BDigest{Buffer: approved[:]},
		PolicyRef: tpm2.TPM2BDigest{Buffer: ref}, KeySign: key.Name, CheckTicket: ticket.Validation,
	}.Execute(s.tpm)
	if err != nil {
		return failed(what, err)
	}
	return nil
}

// flush frees a loaded object. Where it fails, the resource manager frees it
// when the device is closed.
func (s *Sealer) flush(handle tpm2.TPMHandle) {
	_, _ = tpm2.FlushContext{FlushHandle: handle}.Execute(s.tpm)
}

func (s *Sealer) pcr(index int) (value tpmpolicy.Digest, err error) {
	selection, err := tpm2.Unmarshal[tpm2.TPMLPCRSelection](tpmpolicy.Selection(index))
	if err != nil {
		return value, fmt.Errorf("internal error: PCR %d: %w", index, err)
	}
	r, err := tpm2.PCRRead{PCRSelectionIn: *selection}.Execute(s.tpm)
	if err != nil {
		return value, failed(fmt.Sprintf("cannot read PCR %d", index), err)
	}
	if len(r.PCRValues.Digests) != 1 || len(r.PCRValues.Digests[0].Buffer) != len(value) {
		return value, fmt.Errorf("cannot read PCR %d: %w: it shows no SHA-256 bank", index, ErrTPM)
	}
	copy(value[:], r.PCRValues.Digests[0].Buffer)
	return value, nil
}
