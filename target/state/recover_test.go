package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cloison/format/bootfacts"
	"cloison/format/escrow"
	"cloison/format/luks2"
	"cloison/format/sealtoken"
	"cloison/target/seal"
)

// person types lines, one after the other, and then is gone.
type person struct {
	lines []string
	told  strings.Builder
}

var errGone = errors.New("nobody is there")

func (p *person) Tell(text string) error {
	p.told.WriteString(text)
	return nil
}

func (p *person) Ask(string) (string, error) {
	if len(p.lines) == 0 {
		return "", errGone
	}
	line := p.lines[0]
	p.lines = p.lines[1:]
	return line, nil
}

func (p *person) AskSecret(prompt string) (string, error) { return p.Ask(prompt) }

func newRecovery(t *testing.T) (seal.Secret, seal.Recovery) {
	t.Helper()
	_, public, err := escrow.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	secret := seal.NewSecret()
	r, err := seal.NewRecovery(secret, public)
	if err != nil {
		t.Fatal(err)
	}
	return secret, r
}

func TestAskPassphrase(t *testing.T) {
	secret, right := newRecovery(t)
	_, other := newRecovery(t)
	wrong, typo := other.Passphrase, strings.Repeat("0", 27)
	for _, test := range []struct {
		name  string
		lines []string
		want  string        // error, or none
		took  time.Duration // at least, for what was refused
	}{
		{"right", []string{right.Passphrase}, "", 0},
		{"as a person types", []string{strings.ToUpper(strings.ReplaceAll(right.Passphrase, "-", " "))}, "", 0},
		{"third", []string{wrong, typo, "", wrong, right.Passphrase}, "", 2 * tryDelay},
		{"too late", []string{wrong, wrong, wrong, right.Passphrase}, "3 wrong recovery passphrases", 3 * tryDelay},
		{"mistyped", strings.Split(strings.Repeat(typo+" ", mistypedMost)+right.Passphrase, " "), "10 times", 0},
		{"gone", []string{wrong}, errGone.Error(), tryDelay},
	} {
		synctest.Test(t, func(t *testing.T) {
			p, start := &person{lines: test.lines}, time.Now()
			got, err := Machine{Console: p}.askPassphrase("a UUID", errNoToken, right.Token)
			switch {
			case test.want == "" && (err != nil || got != secret):
				t.Errorf("%s: askPassphrase = %v", test.name, err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || got != seal.Secret{}):
				t.Errorf("%s: askPassphrase = %v, want %q", test.name, err, test.want)
			}
			if took := time.Since(start); took != test.took {
				t.Errorf("%s: askPassphrase took %v, want %v", test.name, took, test.took)
			}
			for _, text := range []string{right.Passphrase, wrong} {
				if strings.Contains(p.told.String(), text) || err != nil && strings.Contains(err.Error(), text) {
					t.Errorf("%s: askPassphrase says %q", test.name, text)
				}
			}
		})
	}
}

func TestAskReseal(t *testing.T) {
	for _, test := range []struct {
		lines []string
		want  bool
		err   error
	}{
		{[]string{"yes"}, true, nil},
		{[]string{"no"}, false, nil},
		{[]string{"", "y", "YES", "yes"}, true, nil},
		{[]string{"y", "y", "y", "y", "y", "yes"}, false, nil},
		{[]string{"y"}, false, errGone},
	} {
		got, err := Machine{Console: &person{lines: test.lines}}.askReseal(false)
		if got != test.want || !errors.Is(err, test.err) {
			t.Errorf("askReseal of %q = %t, %v, want %t, %v", test.lines, got, err, test.want, test.err)
		}
	}
}

// chip is a TPM that refuses for these reasons.
type chip struct {
	Seal
	why, unseal error
}

func (c chip) Why(sealtoken.Token) error { return c.why }

func (c chip) Unseal(sealtoken.Token, seal.Identity) (seal.Secret, error) {
	return seal.Secret{}, c.unseal
}

func TestRefusal(t *testing.T) {
	token := sealtoken.Token{Public: []byte{1}, Private: []byte{1}}.Print()
	_, recovery := newRecovery(t)
	sealed := map[int]json.RawMessage{0: token, 1: recovery.Token.Print(), 2: token}
	for _, test := range []struct {
		name   string
		tokens map[int]json.RawMessage
		chip   chip
		why    error
		err    string
	}{
		{"nothing wrong", sealed, chip{nil, nil, seal.ErrPCR11}, nil, ""},
		{"other TPM", sealed, chip{nil, seal.ErrOtherTPM, nil}, seal.ErrOtherTPM, ""},
		{"damaged", sealed, chip{nil, nil, seal.ErrToken}, seal.ErrToken, ""},
		{"malformed", map[int]json.RawMessage{0: json.RawMessage(`{"type":"cloison-tpm2"}`)}, chip{}, nil, ""},
		{"no token", map[int]json.RawMessage{1: recovery.Token.Print()}, chip{}, errNoToken, ""},
		{"TPM failed", sealed, chip{nil, seal.ErrTPM, nil}, nil, "the TPM failed"},
		{"gives it", sealed, chip{}, nil, "gives its secret to a recovery boot"},
	} {
		v := Volume{}
		why, err := Machine{Seal: test.chip}.refusal(luks2.Header{Tokens: test.tokens}, &v)
		if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: refusal fails with %v, want %q", test.name, err, test.err)
		}
		if test.why != nil && !errors.Is(why, test.why) {
			t.Errorf("%s: refusal = %v, want %v", test.name, why, test.why)
		}
		if test.name == "malformed" && why == nil {
			t.Errorf("%s: refusal = nil, want an error", test.name)
		}
		if test.name == "nothing wrong" && why != nil {
			t.Errorf("%s: refusal = %v, want none", test.name, why)
		}
	}
}

func TestRecoverable(t *testing.T) {
	for _, test := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{errUnprovisioned, true},
		{fmt.Errorf("token 0: %w", seal.ErrPCR7), true},
		{fmt.Errorf("token 0: %w; token 2: %w", seal.ErrOtherTPM, seal.ErrOtherVolume), false},
		{seal.ErrFloor, false},
		{seal.ErrPCR11, false},
		{errors.New("its checksum is wrong"), false},
	} {
		if got := recoverable(test.err); got != test.want {
			t.Errorf("recoverable(%v) = %t, want %t", test.err, got, test.want)
		}
	}
}

func TestWithToken(t *testing.T) {
	token := sealtoken.Token{Public: []byte{1}, Private: []byte{1}}
	_, recovery := newRecovery(t)
	for _, test := range []struct {
		before map[int]json.RawMessage
	}{
		{map[int]json.RawMessage{1: recovery.Token.Print()}},
		{map[int]json.RawMessage{0: token.Print(), 1: recovery.Token.Print(), 7: token.Print()}},
		{map[int]json.RawMessage{0: recovery.Token.Print(), 3: token.Print()}},
	} {
		all := withToken(test.before, token)
		count := 0
		for _, t := range all {
			if luks2.Type(t) == sealtoken.Type {
				count++
			}
		}
		if len(all) != 2 || count != 1 || all[0] == nil || all[1] == nil {
			t.Errorf("withToken(%v) = %v, want the recovery token and one of the TPM, 0 and 1", test.before, all)
		}
	}
}

// vault is a TPM that takes every volume, until it fails.
type vault struct {
	Seal
	reseal, commit error
	committed      bool
}

var newToken = sealtoken.Token{PCR7: [32]byte{7}, Public: []byte{2}, Private: []byte{2}}

func (v *vault) Reseal(seal.Secret) (sealtoken.Token, error) { return newToken, v.reseal }

func (v *vault) Commit(seal.Secret, seal.Identity) error {
	v.committed = v.commit == nil
	return v.commit
}

// TestReseal: the new token is on the disk, in both copies of the header, before
// the TPM is tied to the volume; nothing is on the disk before the TPM has sealed.
func TestReseal(t *testing.T) {
	_, recovery := newRecovery(t)
	recovery.Token.Keyslot = recoverySlot
	h := luks2.Header{
		Kind: luks2.Sealed,
		UUID: "0f0e0d0c-0b0a-4908-8706-050403020100", Sequence: 5, Digest: luks2.Digest{Iterations: 1000},
		Keyslots: map[int]luks2.Keyslot{0: {Area: 32 << 10, Iterations: 1000}, 1: {Area: 32<<10 + 385024, Iterations: 1000}},
		Tokens: map[int]json.RawMessage{
			0: sealtoken.Token{Public: []byte{1}, Private: []byte{1}}.Print(), 1: recovery.Token.Print(),
		},
	}
	before, err := h.Print()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		vault   vault
		written bool
	}{
		{"all is well", vault{}, true},
		{"the TPM does not seal", vault{reseal: errGone}, false},
		{"the TPM takes no mark", vault{commit: errGone}, true},
	} {
		device := filepath.Join(t.TempDir(), "device")
		if err := os.WriteFile(device, before, 0o600); err != nil {
			t.Fatal(err)
		}
		v := Volume{Tokens: 1, Unlock: bootfacts.Recovered}
		err := Machine{Device: device, Seal: &test.vault}.reseal(h, &v, seal.Secret{})
		if ok := test.vault.reseal == nil && test.vault.commit == nil; (err == nil) != ok || test.vault.committed != ok || (v.Unlock == bootfacts.Resealed) != ok {
			t.Errorf("%s: reseal = %v, tied to the volume %t, opened by %s", test.name, err, test.vault.committed, v.Unlock)
		}
		after, err := os.ReadFile(device)
		if err != nil {
			t.Fatal(err)
		}
		if !test.written {
			if !bytes.Equal(before, after) {
				t.Errorf("%s: reseal has written", test.name)
			}
			continue
		}
		// Wherever the power fails while a copy is written, one is whole.
		for _, damaged := range [][2]int{{0, 0}, {0, luks2.MetadataSize}, {luks2.MetadataSize, 2 * luks2.MetadataSize}} {
			b := bytes.Clone(after)
			clear(b[damaged[0]:damaged[1]])
			got, err := luks2.Parse(b, luks2.Sealed)
			if err != nil {
				t.Fatalf("%s: without bytes %v: %v", test.name, damaged, err)
			}
			token, err := sealtoken.Parse(got.Tokens[0])
			if err != nil || token.PCR7 != newToken.PCR7 || token.Keyslot != keySlot || got.Sequence != 6 || len(got.Tokens) != 2 || Identity(got) != Identity(h) {
				t.Errorf("%s: without bytes %v the header is %+v, token %+v, %v", test.name, damaged, got, token, err)
			}
		}
	}
	if h.Sequence != 5 || len(h.Tokens) != 2 {
		t.Errorf("reseal has changed its argument: %+v", h)
	}
}

func TestLost(t *testing.T) {
	head := func(first string) []byte { return append([]byte(first), make([]byte, luks2.HeaderSize-len(first))...) }
	for _, test := range []struct {
		head        []byte
		provisioned bool
		want        string
	}{
		{head(""), false, "nothing to recover"},
		{head(""), true, "nothing to recover"},
		{head(string(unfinished)), false, "start the machine without recovery"},
		{head(string(unfinished)), true, ""},
		{head("LUKS\xba\xbe"), false, ""},
		{head("LUKS\xba\xbe"), true, ""},
	} {
		err := lost(test.head, test.provisioned)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("lost(%.10q, %t) = %v, want %q", test.head, test.provisioned, err, test.want)
		}
	}
}
