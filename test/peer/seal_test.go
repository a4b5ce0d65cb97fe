package peer_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"cloison/format/escrow"
	"cloison/format/pcr"
	"cloison/format/pcrsig"
	"cloison/format/sealtoken"
	"cloison/target/seal"
)

var identity = seal.Identity(sha256.Sum256([]byte("a volume")))

func policyKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sealRelease is one that was signed for what boot extends.
func sealRelease(t *testing.T, key *rsa.PrivateKey, version, floor uint64) seal.Release {
	t.Helper()
	signed, err := pcrsig.Sign(key, pcr.Phases(pcr.Extend([32]byte{}, []byte("uki")), pcr.EnterInitrd), version, floor)
	if err != nil {
		t.Fatal(err)
	}
	r, err := seal.ParseRelease(publicPEM(t, key), signed.Print())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func publicPEM(t *testing.T, key *rsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// boot is a boot up to the initramfs.
func (s *swtpm) boot(t *testing.T) *swtpm {
	t.Helper()
	s.reboot(t)
	s.extend(t, 7, "secure boot")
	s.extend(t, 11, "uki")
	s.extend(t, 11, pcr.EnterInitrd)
	return s
}

func open(t *testing.T, s *swtpm, r seal.Release) *seal.Sealer {
	t.Helper()
	sealer, err := seal.Open(s, r)
	if err != nil {
		t.Fatal(err)
	}
	return sealer
}

// provision is a whole first boot.
func provision(t *testing.T, s *swtpm, r seal.Release) (seal.Secret, sealtoken.Token) {
	t.Helper()
	sealer := open(t, s.boot(t), r)
	secret, token, err := sealer.Provision()
	if err != nil {
		t.Fatal(err)
	}
	if err := sealer.Commit(secret, identity); err != nil {
		t.Fatal(err)
	}
	return secret, token
}

func check(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// TestSeal: the secret comes back on the next boot, once: after the initramfs
// nobody gets it.
func TestSeal(t *testing.T) {
	s, r := newTPM(t), sealRelease(t, policyKey(t), 1, 0)
	secret, token := provision(t, s, r)
	token, err := sealtoken.Parse(token.Print())
	if err != nil {
		t.Fatal(err)
	}
	sealer := open(t, s.boot(t), r)
	if ok, err := sealer.Provisioned(); err != nil || !ok {
		t.Errorf("Provisioned() = %t, %v, want true", ok, err)
	}
	_, _, err = sealer.Provision()
	check(t, "first boot again", err, seal.ErrProvisioned)
	if got, err := sealer.Unseal(token, identity); err != nil || got != secret {
		t.Fatalf("Unseal = %x, %v, want %x", got, err, secret)
	}
	if got, err := sealer.Status(); err != nil || got != (seal.Status{Provisioned: true, Owned: true, SecurityVersion: 1}) {
		t.Errorf("Status() = %+v, %v", got, err)
	}
	s.extend(t, 11, pcr.LeaveInitrd)
	_, err = sealer.Unseal(token, identity)
	check(t, "after the initramfs", err, seal.ErrPCR11)
	if n := len(handles(t, s, 0x80000000)) + len(handles(t, s, 0x02000000)) + len(handles(t, s, 0x03000000)); n != 0 {
		t.Errorf("%d objects and sessions are left in the TPM", n)
	}
}

// handles lists what the TPM holds of one kind.
func handles(t *testing.T, s *swtpm, first uint32) []tpm2.TPMHandle {
	t.Helper()
	r, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: 64}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
	list, err := r.CapabilityData.Data.Handles()
	if err != nil {
		t.Fatal(err)
	}
	return list.Handle
}

// TestSealRefuses: each condition that does not hold is refused, and named.
func TestSealRefuses(t *testing.T) {
	key := policyKey(t)
	s, r := newTPM(t), sealRelease(t, key, 2, 0)
	_, token := provision(t, s, r)

	s.boot(t)
	s.extend(t, 7, "another db")
	_, err := open(t, s, r).Unseal(token, identity)
	check(t, "PCR 7 changed", err, seal.ErrPCR7)

	s.reboot(t)
	s.extend(t, 7, "secure boot")
	s.extend(t, 11, "another uki")
	s.extend(t, 11, pcr.EnterInitrd)
	_, err = open(t, s, r).Unseal(token, identity)
	check(t, "UKI changed", err, seal.ErrPCR11)

	_, err = open(t, s.boot(t), sealRelease(t, policyKey(t), 2, 0)).Unseal(token, identity)
	check(t, "release of another key", err, seal.ErrPolicyKey)

	_, err = open(t, s.boot(t), r).Unseal(token, seal.Identity{1})
	check(t, "another volume with this token", err, seal.ErrOtherVolume)

	// An attacker who ran on the machine can seal with any policy, but does not
	// know the mark.
	foreign, err := open(t, s, r).Seal(seal.NewSecret(), pcr.Extend([32]byte{}, []byte("secure boot")))
	if err != nil {
		t.Fatal(err)
	}
	_, err = open(t, s, r).Unseal(foreign, identity)
	check(t, "a volume and token of an attacker", err, seal.ErrOtherVolume)

	other := newTPM(t)
	_, err = open(t, other.boot(t), r).Unseal(token, identity)
	check(t, "a TPM never used", err, seal.ErrOtherTPM)
	_, theirs := provision(t, other, r)
	_, err = open(t, other.boot(t), r).Unseal(token, identity)
	check(t, "the TPM of another machine", err, seal.ErrOtherTPM)
	_, err = open(t, s.boot(t), r).Unseal(theirs, identity)
	check(t, "the volume of another machine", err, seal.ErrOtherTPM)
	// Its token says that it is ours: the TPM itself knows better.
	theirs.SRK = token.SRK
	_, err = open(t, s, r).Unseal(theirs, identity)
	check(t, "the volume of another machine, relabelled", err, seal.ErrToken)

	clearTPM(t, s)
	_, err = open(t, s.boot(t), r).Unseal(token, identity)
	check(t, "TPM cleared", err, seal.ErrOtherTPM)
}

// clearTPM does what the firmware's menu does.
func clearTPM(t *testing.T, s *swtpm) {
	t.Helper()
	if _, err := (tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)}}).Execute(s); err != nil {
		t.Fatal(err)
	}
}

// TestSealPower: power may fail after any command of the first boot: the next
// one starts again, or the volume is committed and opens.
func TestSealPower(t *testing.T) {
	r := sealRelease(t, policyKey(t), 1, 0)
	for last := 1; ; last++ {
		s := newTPM(t)
		sealer := open(t, s.boot(t), r)
		commands := 0
		s.dies = func([]byte) bool { commands++; return commands == last }
		secret, token, err := sealer.Provision()
		if err == nil {
			err = sealer.Commit(secret, identity)
		}
		if err == nil {
			t.Logf("%d commands", commands)
			return
		}
		check(t, fmt.Sprintf("TPM killed at command %d", last), err, seal.ErrTPM)
		s.dies = nil
		sealer = open(t, s.boot(t), r)
		provisioned, err := sealer.Provisioned()
		if err != nil {
			t.Fatal(err)
		}
		if !provisioned {
			if secret, token, err = sealer.Provision(); err != nil {
				t.Fatalf("first boot again after command %d: %v", last, err)
			}
			if err := sealer.Commit(secret, identity); err != nil {
				t.Fatalf("first boot again after command %d: %v", last, err)
			}
			sealer = open(t, s.boot(t), r)
		}
		if got, err := sealer.Unseal(token, identity); err != nil || got != secret {
			t.Fatalf("Unseal after a cut at command %d = %v", last, err)
		}
		if st, err := sealer.Status(); err != nil || !st.Owned {
			t.Errorf("Status() after a cut at command %d = %+v, %v, want it owned", last, st, err)
		}
	}
}

// TestSealDies: a TPM that dies at any command of an unseal is an error, soon.
func TestSealDies(t *testing.T) {
	s, r := newTPM(t), sealRelease(t, policyKey(t), 1, 0)
	_, token := provision(t, s, r)
	for last := 1; ; last++ {
		sealer := open(t, s.boot(t), r)
		commands := 0
		s.dies = func([]byte) bool { commands++; return commands == last }
		start := time.Now()
		_, err := sealer.Unseal(token, identity)
		s.dies = nil
		if err == nil {
			if last < 10 {
				t.Errorf("Unseal needs only %d commands", last)
			}
			return
		}
		check(t, fmt.Sprintf("TPM killed at command %d", last), err, seal.ErrTPM)
		if d := time.Since(start); d > 30*time.Second {
			t.Errorf("Unseal took %v to notice", d)
		}
	}
}

// TestSealToken: no bit of what the TPM gets from the volume can be another.
func TestSealToken(t *testing.T) {
	s, r := newTPM(t), sealRelease(t, policyKey(t), 1, 0)
	secret, token := provision(t, s, r)
	sealer := open(t, s.boot(t), r)
	for _, part := range []struct {
		name string
		of   func(*sealtoken.Token) []byte
		want []error
	}{
		{"public", func(t *sealtoken.Token) []byte { return t.Public }, []error{seal.ErrToken}},
		{"private", func(t *sealtoken.Token) []byte { return t.Private }, []error{seal.ErrToken}},
		{"srk", func(t *sealtoken.Token) []byte { return t.SRK[:] }, []error{seal.ErrOtherTPM}},
		{"policy_key", func(t *sealtoken.Token) []byte { return t.Key[:] }, []error{seal.ErrPolicyKey}},
		{"pcr7", func(t *sealtoken.Token) []byte { return t.PCR7[:] }, []error{seal.ErrPCR7}},
	} {
		n := len(part.of(&token))
		for bit := 0; bit < 8*n; bit += 7 {
			changed := token
			changed.Public, changed.Private = bytes.Clone(token.Public), bytes.Clone(token.Private)
			part.of(&changed)[bit/8] ^= 1 << (bit % 8)
			_, err := sealer.Unseal(changed, identity)
			check(t, fmt.Sprintf("bit %d of %s", bit, part.name), err, part.want[0])
		}
	}
	if got, err := sealer.Unseal(token, identity); err != nil || got != secret {
		t.Errorf("Unseal of the token itself = %v", err)
	}
}

// TestSealSignature: a release's file must be of the key beside it, and the
// TPM does not believe us that it was.
func TestSealSignature(t *testing.T) {
	key := policyKey(t)
	signed, err := pcrsig.Sign(key, [32]byte{1}, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		change func(*pcrsig.Signed)
	}{
		{"PCR 11", func(s *pcrsig.Signed) { s.PCR11[0] = 2 }},
		{"security version", func(s *pcrsig.Signed) { s.SecurityVersion = 2 }},
		{"floor", func(s *pcrsig.Signed) { s.SecurityVersion, s.Floor = 2, 2 }},
		{"signatures swapped", func(s *pcrsig.Signed) { s.Init, s.Raise = s.Raise, s.Init }},
	} {
		changed := signed
		test.change(&changed)
		_, err := seal.ParseRelease(publicPEM(t, key), changed.Print())
		check(t, test.name, err, seal.ErrSignature)
	}
	_, err = seal.ParseRelease(publicPEM(t, policyKey(t)), signed.Print())
	check(t, "another key", err, seal.ErrSignature)
}

// TestSealRecovery: with the recovery passphrase the secret is there without
// the TPM, and the same or another TPM takes it again.
func TestSealRecovery(t *testing.T) {
	s, r := newTPM(t), sealRelease(t, policyKey(t), 1, 0)
	secret, token := provision(t, s, r)
	private, public, err := escrow.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	recovery, err := seal.NewRecovery(secret, public)
	if err != nil {
		t.Fatal(err)
	}
	record, err := recovery.Escrow(escrow.About{Product: "gateway", Release: "0.1.0", Volume: "0f0e0d0c-0b0a-4908-8706-050403020100"})
	if err != nil {
		t.Fatal(err)
	}
	key, err := escrow.ParsePrivate(private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := record.Decrypt(key)
	if err != nil || text != recovery.Passphrase {
		t.Fatalf("Decrypt = %q, %v, want %q", text, err, recovery.Passphrase)
	}
	recovered, err := seal.Recover(text, recovery.Token)
	if err != nil || recovered != secret {
		t.Fatalf("Recover = %v", err)
	}
	reseal := func(s *swtpm) sealtoken.Token {
		t.Helper()
		sealer := open(t, s, r)
		token, err := sealer.Reseal(recovered)
		if err == nil {
			err = sealer.Commit(recovered, identity)
		}
		if err != nil {
			t.Fatal(err)
		}
		return token
	}

	// Secure Boot's keys were changed and nobody had sealed for it.
	s.boot(t)
	s.extend(t, 7, "another db")
	again := reseal(s)
	if got, err := open(t, s, r).Unseal(again, identity); err != nil || got != secret {
		t.Errorf("Unseal of the new token = %v", err)
	}
	if got, err := open(t, s.boot(t), r).Unseal(token, identity); err != nil || got != secret {
		t.Errorf("Unseal of the old token in the old state = %v", err)
	}

	// The TPM was cleared.
	clearTPM(t, s)
	again = reseal(s.boot(t))
	if got, err := open(t, s.boot(t), r).Unseal(again, identity); err != nil || got != secret {
		t.Errorf("Unseal after clearing and sealing again = %v", err)
	}
	// The main board was replaced.
	other := newTPM(t).boot(t)
	again = reseal(other)
	if got, err := open(t, other.boot(t), r).Unseal(again, identity); err != nil || got != secret {
		t.Errorf("Unseal on another TPM = %v", err)
	}
	// It belongs to another volume: what is recovered does not take it over.
	third := newTPM(t)
	provision(t, third, r)
	check(t, "Commit of another volume", open(t, third.boot(t), r).Commit(recovered, identity), seal.ErrOwned)
}

// TestSealPlannedChange: a token for the PCR 7 to come opens the volume then,
// and not before.
func TestSealPlannedChange(t *testing.T) {
	s, r := newTPM(t), sealRelease(t, policyKey(t), 1, 0)
	secret, token := provision(t, s, r)
	pcr7, err := open(t, s.boot(t), r).PCR7()
	if err != nil {
		t.Fatal(err)
	}
	next, err := open(t, s, r).Seal(secret, pcr.Extend(pcr7, []byte("new dbx")))
	if err != nil {
		t.Fatal(err)
	}
	_, err = open(t, s, r).Unseal(next, identity)
	check(t, "before the change", err, seal.ErrPCR7)
	s.extend(t, 7, "new dbx")
	if got, err := open(t, s, r).Unseal(next, identity); err != nil || got != secret {
		t.Errorf("Unseal after the change = %v", err)
	}
	_, err = open(t, s, r).Unseal(token, identity)
	check(t, "the old token after the change", err, seal.ErrPCR7)
}

// TestSealLockout: who guesses at other things of the TPM neither opens nor
// closes the volume. A first boot in lockout is refused for what it is.
func TestSealLockout(t *testing.T) {
	s, r := newTPM(t), sealRelease(t, policyKey(t), 1, 0)
	secret, token := provision(t, s, r)
	sealer := open(t, s.boot(t), r)
	if n := guess(t, s); n != 32 {
		t.Errorf("TPM took %d guesses until the lockout, want 32", n)
	}
	guessLockout(t, s)
	if st, err := sealer.Status(); err != nil || !st.Lockout {
		t.Errorf("Status() = %+v, %v, want a lockout", st, err)
	}
	if got, err := sealer.Unseal(token, identity); err != nil || got != secret {
		t.Errorf("Unseal in lockout = %v", err)
	}

	s = newTPM(t).boot(t)
	guessLockout(t, s)
	sealer = open(t, s, r)
	secret, _, err := sealer.Provision()
	if err != nil {
		t.Fatal(err)
	}
	check(t, "first boot in lockout", sealer.Commit(secret, identity), seal.ErrLockout)
}

// guess guesses at the authorisation of an object until the TPM has enough.
func guess(t *testing.T, s *swtpm) int {
	t.Helper()
	made, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHNull, Auth: tpm2.PasswordAuth(nil)},
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			UserAuth: tpm2.TPM2BAuth{Buffer: []byte("right")},
			Data:     tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: []byte("data")}),
		}},
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, UserWithAuth: true},
			Parameters:       tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{}),
		}),
	}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for range 100 {
		_, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{Handle: made.ObjectHandle, Name: made.Name, Auth: tpm2.PasswordAuth([]byte("wrong"))}}.Execute(s)
		if errors.Is(err, tpm2.TPMRCLockout) {
			if _, err := (tpm2.FlushContext{FlushHandle: made.ObjectHandle}).Execute(s); err != nil {
				t.Fatal(err)
			}
			return n
		}
		switch {
		case errors.Is(err, tpm2.TPMRCAuthFail):
			n++
		case !errors.Is(err, tpm2.TPMRCRetry): // it writes its counter first
			t.Fatalf("wrong authorisation: %v", err)
		}
	}
	t.Fatal("TPM takes guesses without end")
	return 0
}

// guessLockout guesses at the lockout hierarchy's authorisation: one try a day.
func guessLockout(t *testing.T, s *swtpm) {
	t.Helper()
	lockout := tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Auth: tpm2.PasswordAuth([]byte("guess"))}
	if _, err := (tpm2.Clear{AuthHandle: lockout}).Execute(s); err == nil {
		t.Fatal("TPM was cleared by a guess")
	}
}
