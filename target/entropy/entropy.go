// Package entropy carries randomness from one boot to the next: a seed on the
// state volume that the kernel's generator gets at the next boot, once.
//
// PID 1 does this itself. Crediting a seed takes CAP_SYS_ADMIN, which no service
// has; and a seed that a service could choose would count as unknown to anybody
// although that service knows it. It needs a folder that PID 1 alone writes.
//
// The order is that of seedrng: a seed is replaced, for good, before it is
// counted, so that a power cut in between leaves no seed that counts twice.
package entropy

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha512"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"cloison/linux/file"
)

// Size of a seed, in bytes: what the kernel's generator holds.
const Size = 32

// Carry gives the seed at path to credit, after it has replaced it by a new one.
// credited is false where there was none, as on a first boot, or a damaged one.
func Carry(path string, credit func(seed []byte) error) (credited bool, err error) {
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("cannot read the seed: %w", err)
	}
	defer clear(old)
	// The new seed depends on the old one, too: it is no worse where the
	// generator does not know much yet.
	if err := save(path, old); err != nil {
		return false, err
	}
	if len(old) != Size {
		return false, nil
	}
	if err := credit(old); err != nil {
		return false, err
	}
	return true, nil
}

// Save replaces the seed at path by a new one from the kernel's generator.
func Save(path string) error { return save(path, nil) }

func save(path string, old []byte) error {
	secret := make([]byte, Size)
	rand.Read(secret) // it waits until the generator is seeded, and does not fail
	seed, err := hkdf.Key(sha512.New, append(secret, old...), nil, "cloison entropy seed 1", Size)
	if err == nil {
		err = file.WriteAtomic(path, seed, 0o600)
	}
	clear(secret)
	clear(seed)
	if err != nil {
		return fmt.Errorf("cannot save a seed: %w", err)
	}
	return nil
}
