package state

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"cloison/format/luks2"
	"cloison/format/sealtoken"
	"cloison/linux/block"
	"cloison/target/seal"
)

// maxTokens of a LUKS2 header.
const maxTokens = 32

// Sealer is the TPM that seals for another PCR 7: *seal.Sealer.
type Sealer interface {
	Seal(secret seal.Secret, pcr7 [32]byte) (sealtoken.Token, error)
}

// Allow makes the opened volume open at other values of PCR 7, too. When it
// returns without an error each of them has a token on the disk.
func (v *Volume) Allow(by Sealer, values ...[32]byte) error {
	opened, err := sealtoken.Parse(v.header.Tokens[v.Token])
	if err != nil {
		return err
	}
	h := v.header
	h.Tokens = maps.Clone(h.Tokens)
	for _, value := range values {
		if has(h, opened, value) {
			continue
		}
		token, err := by.Seal(v.secret, value)
		if err != nil {
			return err
		}
		token.Keyslot = keySlot
		n := 0
		for _, taken := h.Tokens[n]; taken; _, taken = h.Tokens[n] {
			n++
		}
		if n >= maxTokens {
			return errors.New("the header of the state volume has no room for another token")
		}
		h.Tokens[n] = token.Print()
		v.Tokens++
	}
	if len(h.Tokens) == len(v.header.Tokens) {
		return nil
	}
	v.header, err = writeHeader(v.device, h)
	return err
}

// has tells whether there is a token of the TPM and policy key of this one, for
// a value of PCR 7.
func has(h luks2.Header, like sealtoken.Token, value [32]byte) bool {
	for _, text := range h.Tokens {
		t, err := sealtoken.Parse(text)
		if err == nil && t.SRK == like.SRK && t.Key == like.Key && t.Keyslot == like.Keyslot && t.PCR7 == value {
			return true
		}
	}
	return false
}

// Forget removes the TPM's tokens for other values of PCR 7 than these from the
// header of the volume, and tells how many there were. The first value is the
// current one: while it has no token none is removed.
func Forget(device, uuid string, keep ...[32]byte) (removed int, err error) {
	head, err := readHead(device, 2*luks2.MetadataSize)
	if err != nil {
		return 0, err
	}
	h, err := luks2.Parse(head, luks2.Sealed)
	if err != nil {
		return 0, err
	}
	if h.UUID != uuid {
		return 0, fmt.Errorf("%s has volume %s now", device, h.UUID)
	}
	if removed = prune(h, keep); removed == 0 {
		return 0, nil
	}
	_, err = writeHeader(device, h)
	return removed, err
}

// prune takes the tokens out of h. The current one gets the number that a new
// volume has it at, once that is free.
func prune(h luks2.Header, keep [][32]byte) int {
	current, drop := -1, []int{}
	for n, text := range h.Tokens {
		if luks2.Type(text) != sealtoken.Type {
			continue
		}
		t, err := sealtoken.Parse(text)
		if err == nil && slices.Contains(keep, t.PCR7) {
			if t.PCR7 == keep[0] {
				current = n
			}
			continue
		}
		drop = append(drop, n)
	}
	if current < 0 {
		return 0
	}
	for _, n := range drop {
		delete(h.Tokens, n)
	}
	if _, taken := h.Tokens[sealToken]; !taken && len(drop) > 0 {
		h.Tokens[sealToken] = h.Tokens[current]
		delete(h.Tokens, current)
	}
	return len(drop)
}

// writeHeader writes a changed header, the second copy first: at each moment
// one of them is whole, and of two whole ones the newer counts.
func writeHeader(device string, h luks2.Header) (luks2.Header, error) {
	h.Sequence++
	text, err := h.Print()
	if err != nil {
		return h, err
	}
	for _, at := range []int64{luks2.MetadataSize, 0} {
		if err := block.Write(device, text[at:at+luks2.MetadataSize], at); err != nil {
			return h, err
		}
	}
	return h, nil
}
