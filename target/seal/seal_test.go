package seal

import (
	"errors"
	"strings"
	"testing"

	"cloison/format/escrow"
	"cloison/format/passphrase"
)

// What needs a TPM is held against one in test/peer.

func TestRecover(t *testing.T) {
	_, public, err := escrow.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	secret := NewSecret()
	r, err := NewRecovery(secret, public)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := passphrase.Parse(r.Passphrase); err != nil || text != r.Passphrase {
		t.Errorf("the passphrase %q is none: %v", r.Passphrase, err)
	}
	if got, err := Recover(r.Passphrase, r.Token); err != nil || got != secret {
		t.Errorf("Recover = %v", err)
	}
	if _, err := Recover(strings.ToUpper(r.Passphrase), r.Token); err == nil {
		t.Error("Recover with another passphrase = nil error")
	}
	for i := range r.Token.Secret {
		r.Token.Secret[i] ^= 1
		if _, err := Recover(r.Passphrase, r.Token); err == nil {
			t.Errorf("Recover with byte %d of the token changed = nil error", i)
		}
		r.Token.Secret[i] ^= 1
	}
	if r, err := NewPassphrase(public); err != nil || r.Token.Secret != nil || r.Passphrase == "" {
		t.Errorf("NewPassphrase = %+v, %v, want a passphrase without a token", r, err)
	}
	if _, err := NewPassphrase(nil); err == nil {
		t.Error("NewPassphrase without the integrator's key = nil error")
	}
	if _, err := NewRecovery(secret, nil); err == nil {
		t.Error("NewRecovery without the integrator's key = nil error")
	}
}

func TestSecret(t *testing.T) {
	a, b := NewSecret(), NewSecret()
	if a == b || a.Key == a.Authority {
		t.Error("secrets are not random")
	}
	if x, y := a.authorisation("owner"), a.authorisation("lockout"); string(x) == string(y) || len(x) != 32 {
		t.Errorf("authorisations are %q and %q", x, y)
	}
	if string(a.mark(Identity{1})) == string(a.mark(Identity{2})) || string(a.mark(Identity{1})) == string(b.mark(Identity{1})) {
		t.Error("the mark does not depend on secret and volume")
	}
}

// deaf is a TPM that is gone.
type deaf struct{}

var errGone = errors.New("gone")

func (deaf) Send([]byte) ([]byte, error) { return nil, errGone }

// garbage is a TPM that answers nonsense.
type garbage []byte

func (g garbage) Send([]byte) ([]byte, error) { return g, nil }

func TestOpenDead(t *testing.T) {
	if _, err := Open(deaf{}, Release{}); !errors.Is(err, ErrTPM) || !errors.Is(err, errGone) {
		t.Errorf("Open of a TPM that is gone = %v, want %v", err, ErrTPM)
	}
	for _, answer := range []string{
		"", "\x80", "\x80\x01\x00\x00\x00\x0a\x00\x00\x00\x00", "\x80\x01\x00\x00\x00\x0a\x00\x00\x01\x01",
		"\x80\x01\xff\xff\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff",
	} {
		if _, err := Open(garbage(answer), Release{}); !errors.Is(err, ErrTPM) {
			t.Errorf("Open of a TPM that answers %q = %v, want %v", answer, err, ErrTPM)
		}
	}
}

// FuzzAnswers: no answer of a TPM, or of who sits on its bus, is more than an
// error.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte("\x80\x01\x00\x00\x00\x0a\x00\x00\x00\x00"))
	f.Add([]byte("\x80\x01\x00\x00\x00\x0a\x00\x00\x01\x8b"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		s := &Sealer{tpm: garbage(answer)}
		if _, err := s.srk(); err == nil && len(answer) < 90 {
			t.Fatalf("%q is a storage root key", answer)
		}
		if _, err := s.permanent(); err == nil && len(answer) < 19 {
			t.Fatalf("%q is a state", answer)
		}
		if _, err := s.pcr(7); err == nil && len(answer) < 42 {
			t.Fatalf("%q is a PCR", answer)
		}
	})
}
