package peer_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"cloison/format/pcr"
	"cloison/format/pcrsig"
	"cloison/format/tpmpolicy"
	"cloison/target/seal"
)

// TestSealFloor: the floor goes up when the release says so, never down, and
// keeps older releases out.
func TestSealFloor(t *testing.T) {
	key := policyKey(t)
	s, one, two, three := newTPM(t), sealRelease(t, key, 1, 0), sealRelease(t, key, 2, 2), sealRelease(t, key, 3, 0)
	secret, token := provision(t, s, one)
	for _, step := range []struct {
		release    seal.Release
		unseal     error
		floor      uint64
		raised     bool
		name       string
		afterwards string
	}{
		{one, nil, 0, false, "release 1", ""},
		{two, nil, 2, true, "release 2, which raises the floor", ""},
		{one, seal.ErrFloor, 2, false, "release 1 after it", ""},
		{two, nil, 2, false, "release 2 again", ""},
		{three, nil, 2, false, "release 3, which leaves the floor", ""},
	} {
		sealer := open(t, s.boot(t), step.release)
		got, err := sealer.Unseal(token, identity)
		check(t, step.name, err, step.unseal)
		if step.unseal == nil && got != secret {
			t.Errorf("%s: another secret", step.name)
		}
		s.extend(t, 11, pcr.LeaveInitrd) // it is raised from the running system
		if floor, raised, err := sealer.RaiseFloor(); err != nil || floor != step.floor || raised != step.raised {
			t.Errorf("%s: RaiseFloor() = %d, %t, %v, want %d, %t", step.name, floor, raised, err, step.floor, step.raised)
		}
	}

	// What a running system could try with the NV index itself.
	p, err := pcrsig.For(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	name := p.Floor().Written().Name()
	floor := tpm2.AuthHandle{Handle: pcrsig.FloorHandle, Name: tpm2.TPM2BName{Buffer: name[:]}, Auth: tpm2.PasswordAuth(nil)}
	zero := tpm2.TPM2BMaxNVBuffer{Buffer: make([]byte, 8)}
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	for _, attempt := range []struct {
		name string
		err  error
	}{
		{"write by its own authorisation", second(tpm2.NVWrite{AuthHandle: floor, NVIndex: floor, Data: zero}.Execute(s))},
		{"write as the owner", second(tpm2.NVWrite{AuthHandle: owner, NVIndex: floor, Data: zero}.Execute(s))},
		{"undefine as the owner", second(tpm2.NVUndefineSpace{AuthHandle: owner, NVIndex: floor}.Execute(s))},
		{"clear by the lockout authorisation", second(tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Auth: tpm2.PasswordAuth(nil)}}.Execute(s))},
	} {
		if attempt.err == nil {
			t.Errorf("%s was possible", attempt.name)
		}
	}
	// Signatures of older releases, used again.
	if got := replay(t, s, key, 3, p.Raise(3), true); got != nil {
		t.Errorf("raising by hand, as signed: %v", got)
	}
	for _, attempt := range []struct {
		name  string
		err   error
		wants []error
	}{
		{"lower to 2, as was signed", replay(t, s, key, 2, p.Raise(2), true), []error{tpm2.TPMRCPolicy}},
		{"lower to 2, without showing the floor", replay(t, s, key, 2, p.Raise(2), false), []error{tpm2.TPMRCValue}},
		{"first write again", replay(t, s, key, 0, p.Init(), false), []error{tpm2.TPMRCPolicyFail, tpm2.TPMRCValue}},
		{"raise to 9, signed for 3", replay(t, s, key, 9, p.Raise(3), true), []error{tpm2.TPMRCValue}},
	} {
		if !slices.ContainsFunc(attempt.wants, func(want error) bool { return errors.Is(attempt.err, want) }) {
			t.Errorf("%s: %v, want %v", attempt.name, attempt.err, attempt.wants)
		}
	}
	if st, err := open(t, s, one).Status(); err != nil || st.Floor != 3 {
		t.Errorf("Status() = %+v, %v, want floor 3", st, err)
	}
}

// replay writes the floor with nothing but what a release carries: the policy
// that the key has signed.
func replay(t *testing.T, s *swtpm, key *rsa.PrivateKey, value uint64, approved tpmpolicy.Digest, showFloor bool) error {
	t.Helper()
	p, err := pcrsig.For(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := key.Sign(rand.Reader, tpmpolicy.SignedDigest(approved, pcrsig.FloorRef), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	area, err := tpmpolicy.RSAKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](area)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := tpm2.LoadExternal{InPublic: tpm2.New2B(*public), Hierarchy: tpm2.TPMRHOwner}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
	ticket, err := tpm2.VerifySignature{
		KeyHandle: &tpm2.NamedHandle{Handle: loaded.ObjectHandle, Name: loaded.Name},
		Digest:    tpm2.TPM2BDigest{Buffer: tpmpolicy.SignedDigest(approved, pcrsig.FloorRef)},
		Signature: tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgRSASSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgRSASSA, &tpm2.TPMSSignatureRSA{
			Hash: tpm2.TPMAlgSHA256, Sig: tpm2.TPM2BPublicKeyRSA{Buffer: signature},
		})},
	}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
	session, end, err := tpm2.PolicySession(s, tpm2.TPMAlgSHA256, 16)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(end(), second(tpm2.FlushContext{FlushHandle: loaded.ObjectHandle}.Execute(s))); err != nil {
			t.Error(err)
		}
	}()
	index := p.Floor().Written()
	name := index.Name()
	handle := func(auth tpm2.Session) tpm2.AuthHandle {
		return tpm2.AuthHandle{Handle: pcrsig.FloorHandle, Name: tpm2.TPM2BName{Buffer: name[:]}, Auth: auth}
	}
	hash := pcrsig.WriteHash(index, value)
	if approved == p.Init() {
		_, err = tpm2.PolicyNVWritten{PolicySession: session.Handle(), WrittenSet: false}.Execute(s)
		hash = pcrsig.WriteHash(p.Floor(), value)
	} else if showFloor {
		_, err = tpm2.PolicyNV{
			AuthHandle: handle(tpm2.PasswordAuth(nil)), NVIndex: handle(nil), PolicySession: session.Handle(),
			OperandB: tpm2.TPM2BOperand{Buffer: pcrsig.Operand(value)}, Operation: tpm2.TPMEO(tpmpolicy.UnsignedLE),
		}.Execute(s)
	}
	if err != nil {
		return err
	}
	if _, err := (tpm2.PolicyCPHash{PolicySession: session.Handle(), CPHashA: tpm2.TPM2BDigest{Buffer: hash[:]}}).Execute(s); err != nil {
		return err
	}
	_, err = tpm2.PolicyAuthorize{
		PolicySession: session.Handle(), ApprovedPolicy: tpm2.TPM2BDigest{Buffer: approved[:]},
		PolicyRef: tpm2.TPM2BDigest{Buffer: pcrsig.FloorRef}, KeySign: loaded.Name, CheckTicket: ticket.Validation,
	}.Execute(s)
	if err != nil {
		return err
	}
	return second(tpm2.NVWrite{AuthHandle: handle(session), NVIndex: handle(nil), Data: tpm2.TPM2BMaxNVBuffer{Buffer: pcrsig.Operand(value)}}.Execute(s))
}

func second[T any](_ T, err error) error { return err }
