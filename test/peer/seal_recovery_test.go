package peer_test

import (
	"testing"

	"cloison/target/seal"
)

// TestSealWhy: what a recovery boot may know beforehand is what an ordinary boot
// is told.
func TestSealWhy(t *testing.T) {
	key := policyKey(t)
	s, r := newTPM(t), sealRelease(t, key, 3, 3)
	secret, token := provision(t, s, r)

	check(t, "nothing wrong", open(t, s.boot(t), r).Why(token), nil)
	check(t, "another policy key", open(t, s, sealRelease(t, policyKey(t), 3, 0)).Why(token), seal.ErrPolicyKey)
	s.extend(t, 7, "another db")
	check(t, "PCR 7 changed", open(t, s, r).Why(token), seal.ErrPCR7)

	// An older release is refused whole: it gets no secret that is typed either.
	check(t, "the floor's own release", open(t, s.boot(t), r).Accepts(), nil)
	if _, raised, err := open(t, s, r).RaiseFloor(); err != nil || !raised {
		t.Fatalf("RaiseFloor = %t, %v", raised, err)
	}
	older := sealRelease(t, key, 2, 0)
	check(t, "a release below the floor", open(t, s, older).Accepts(), seal.ErrFloor)
	_, err := open(t, s, older).Reseal(secret)
	check(t, "sealing by a release below the floor", err, seal.ErrFloor)
	check(t, "a release above the floor", open(t, s, sealRelease(t, key, 4, 0)).Accepts(), nil)

	belongs := func(what string, s *swtpm, secret seal.Secret, id seal.Identity, want bool, wantErr error) {
		t.Helper()
		got, err := open(t, s, r).Belongs(secret, id)
		check(t, what, err, wantErr)
		if got != want {
			t.Errorf("%s: Belongs = %t, want %t", what, got, want)
		}
	}
	belongs("the volume", s, secret, identity, true, nil)
	belongs("another volume under its secret", s, secret, seal.Identity{1}, false, seal.ErrOtherVolume)
	belongs("an attacker's secret", s, seal.NewSecret(), identity, false, seal.ErrOtherVolume)

	other := newTPM(t).boot(t)
	check(t, "a TPM never used", open(t, other, r).Why(token), seal.ErrOtherTPM)
	check(t, "the floor of a TPM never used", open(t, other, r).Accepts(), nil)
	belongs("a TPM never used", other, secret, identity, false, nil)

	clearTPM(t, s)
	check(t, "a cleared TPM", open(t, s.boot(t), r).Why(token), seal.ErrOtherTPM)
	belongs("a cleared TPM", s, secret, identity, false, nil)

	// Somebody else owns it, without a mark.
	clearTPM(t, s)
	s.tool(t, "tpm2_changeauth", "-c", "owner", "theirs")
	_, err = open(t, s.boot(t), r).Reseal(secret)
	check(t, "a TPM that somebody owns", err, seal.ErrOwned)
}
