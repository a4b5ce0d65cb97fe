package core

import (
	"crypto/sha256"
	"fmt"
)

// Identity is what makes two builds of the same files the same image.
type Identity struct {
	Product string
	Version string
	Epoch   int64 // seconds since 1970, of every file
}

// salt is the same for every release of a product: then a file that did not
// change keeps the hashes of its blocks, and an update can tell which blocks
// a machine has already. See docs/decisions/0003-salt.md.
func (id Identity) salt() [32]byte {
	return sha256.Sum256([]byte("cloison verity salt\x00" + id.Product))
}

// UUID names a thing of this release, and differs with each release.
func (id Identity) UUID(what string) (u [16]byte) {
	sum := sha256.Sum256(fmt.Appendf(nil, "cloison uuid\x00%s\x00%s\x00%s", what, id.Product, id.Version))
	copy(u[:], sum[:])
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80 // version 8: derived; RFC 9562, section 5.8
	return u
}
