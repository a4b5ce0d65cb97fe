// Package sealtoken reads and prints the two tokens that Cloison puts in the
// LUKS2 header of a state volume: the sealed secret, and the same secret
// encrypted with the recovery passphrase. It needs nothing but the standard
// library.
//
// A token is one JSON object with "type" and "keyslots" and whatever its type
// says (LUKS2 On-Disk Format Specification 1.1.1, section 3.3). cryptsetup
// stores it with its own spacing and order, so those are free; all else is not.
package sealtoken

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"

	"cloison/format/tpmpolicy"
)

// Types of token.
const (
	Type         = "cloison-tpm2"
	RecoveryType = "cloison-recovery"
)

// Version of both formats.
const Version = 1

// maxBlob bounds the parts of a sealed object, in bytes. A TPM's own buffers
// are smaller.
const maxBlob = 1024

// Token is a secret sealed by a TPM.
type Token struct {
	Keyslot int              // that the secret's key opens, 0 to 31
	SRK     tpmpolicy.Name   // of the storage root key that it was sealed under
	Key     tpmpolicy.Name   // of the policy key
	PCR7    tpmpolicy.Digest // at sealing, or as predicted
	Public  []byte           // TPMT_PUBLIC
	Private []byte           // the buffer of the TPM2B_PRIVATE
}

// Recovery is a secret encrypted with the recovery passphrase
// (cloison/target/seal has the cipher).
type Recovery struct {
	Keyslot int // that the passphrase opens, 0 to 31
	Secret  []byte
}

type tokenJSON struct {
	Type     string   `json:"type"`
	Keyslots []string `json:"keyslots"`
	Version  int      `json:"version"`
	SRK      string   `json:"srk"`
	Key      string   `json:"policy_key"`
	PCR7     string   `json:"pcr7"`
	Public   string   `json:"public"`
	Private  string   `json:"private"`
}

type recoveryJSON struct {
	Type     string   `json:"type"`
	Keyslots []string `json:"keyslots"`
	Version  int      `json:"version"`
	Secret   string   `json:"secret"`
}

// Print returns the JSON for cryptsetup token import.
func (t Token) Print() []byte {
	return print(tokenJSON{
		Type, keyslots(t.Keyslot), Version, hex.EncodeToString(t.SRK[:]), hex.EncodeToString(t.Key[:]),
		hex.EncodeToString(t.PCR7[:]), hex.EncodeToString(t.Public), hex.EncodeToString(t.Private),
	})
}

// Print returns the JSON for cryptsetup token import.
func (r Recovery) Print() []byte {
	return print(recoveryJSON{RecoveryType, keyslots(r.Keyslot), Version, hex.EncodeToString(r.Secret)})
}

func keyslots(n int) []string { return []string{strconv.Itoa(n)} }

func print(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // numbers and strings have a JSON form
	}
	return text
}

// Parse reads a sealed secret.
func Parse(text []byte) (Token, error) {
	var j tokenJSON
	if err := read(text, Type, &j); err != nil {
		return Token{}, fmt.Errorf("cannot read the token: %w", err)
	}
	var t Token
	var err error
	if t.Keyslot, err = common(j.Type, Type, j.Version, j.Keyslots); err != nil {
		return Token{}, fmt.Errorf("cannot read the token: %w", err)
	}
	for _, field := range []struct {
		name, text string
		to         []byte
	}{{"srk", j.SRK, t.SRK[:]}, {"policy_key", j.Key, t.Key[:]}, {"pcr7", j.PCR7, t.PCR7[:]}} {
		b, err := blob(field.name, field.text, len(field.to), len(field.to))
		if err != nil {
			return Token{}, fmt.Errorf("cannot read the token: %w", err)
		}
		copy(field.to, b)
	}
	if t.Public, err = blob("public", j.Public, 1, maxBlob); err != nil {
		return Token{}, fmt.Errorf("cannot read the token: %w", err)
	}
	if t.Private, err = blob("private", j.Private, 1, maxBlob); err != nil {
		return Token{}, fmt.Errorf("cannot read the token: %w", err)
	}
	return t, nil
}

// ParseRecovery reads a secret under the recovery passphrase.
func ParseRecovery(text []byte) (Recovery, error) {
	var j recoveryJSON
	if err := read(text, RecoveryType, &j); err != nil {
		return Recovery{}, fmt.Errorf("cannot read the recovery token: %w", err)
	}
	var r Recovery
	var err error
	if r.Keyslot, err = common(j.Type, RecoveryType, j.Version, j.Keyslots); err != nil {
		return Recovery{}, fmt.Errorf("cannot read the recovery token: %w", err)
	}
	if r.Secret, err = blob("secret", j.Secret, 1, maxBlob); err != nil {
		return Recovery{}, fmt.Errorf("cannot read the recovery token: %w", err)
	}
	return r, nil
}

// read decodes JSON into v, and refuses what is not said exactly once and
// exactly so: unknown and repeated keys, keys in other case, escapes.
func read(text []byte, kind string, v any) error {
	if len(text) > 4*maxBlob+1024 {
		return fmt.Errorf("it has %d bytes", len(text))
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("it is not a %s token: %w", kind, err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return err
	}
	var got, want any
	canonical := print(reflect.ValueOf(v).Elem().Interface())
	if err := errors.Join(json.Unmarshal(text, &got), json.Unmarshal(canonical, &want)); err != nil {
		return err
	}
	if compact.Len() != len(canonical) || !reflect.DeepEqual(got, want) {
		return fmt.Errorf("it is not in the form of a %s token", kind)
	}
	return nil
}

func common(kind, wantKind string, version int, slots []string) (int, error) {
	switch {
	case kind != wantKind:
		return 0, fmt.Errorf("its type is %q, want %q", kind, wantKind)
	case version != Version:
		return 0, fmt.Errorf("its version is %d, want %d", version, Version)
	case len(slots) != 1:
		return 0, fmt.Errorf("it is for %d keyslots, want 1", len(slots))
	}
	n, err := strconv.Atoi(slots[0])
	if err != nil || n < 0 || n > 31 || strconv.Itoa(n) != slots[0] {
		return 0, fmt.Errorf("its keyslot is %q, want 0 to 31", slots[0])
	}
	return n, nil
}

// blob reads lower-case hex of min to max bytes.
func blob(name, text string, least, most int) ([]byte, error) {
	b, err := hex.DecodeString(text)
	if err != nil || hex.EncodeToString(b) != text {
		return nil, fmt.Errorf("%s is not lower-case hex", name)
	}
	if len(b) < least || len(b) > most {
		return nil, fmt.Errorf("%s has %d bytes", name, len(b))
	}
	return b, nil
}
