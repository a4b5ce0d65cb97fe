package devicemapper

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// KeySize is the size of a key of AES-256 in XTS mode, in bytes.
const KeySize = 64

// CreateEncrypted makes the device name, which encrypts size bytes (a multiple
// of 4096) of a partition in sectors of 4096 bytes, and returns its node. The
// key is wiped, whatever comes of it: from then on only the kernel's
// device-mapper has it, and shows it to nobody.
func CreateEncrypted(name, uuid, device string, size uint64, key *[KeySize]byte) (node string, err error) {
	// The key goes by the keyring of this thread: a table is kept where it can
	// be read, and copied more often.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	description := "cloison:" + name
	id, err := unix.AddKey("logon", description, key[:], unix.KEY_SPEC_THREAD_KEYRING)
	clear(key[:])
	if err != nil {
		return "", fmt.Errorf("cannot hand over the key of device %s: %w", name, err)
	}
	node, err = create(name, uuid, encrypted(description, device, size), 0)
	// Its payload is wiped at once; device-mapper has a copy.
	if _, revoked := unix.KeyctlInt(unix.KEYCTL_REVOKE, id, 0, 0, 0); revoked != nil {
		if err == nil {
			err = Remove(name)
		}
		return "", errors.Join(fmt.Errorf("cannot revoke the key of device %s: %w", name, revoked), err)
	}
	return node, err
}

func encrypted(key, device string, size uint64) Target {
	return Target{
		Type: "crypt", Length: size,
		Params: fmt.Sprintf("aes-xts-plain64 :%d:logon:%s 0 %s 0 1 sector_size:4096", KeySize, key, device),
	}
}

// Crypt is what an encrypting device does.
//
// Source: Linux, Documentation/admin-guide/device-mapper/dm-crypt.rst and
// dm-integrity.rst.
type Crypt struct {
	Cipher     string // as the kernel names it: capi:authenc(hmac(sha256),xts(aes))-plain64
	Keyring    bool   // the key is in the kernel's keyring, not in the table
	Tag        string // how each sector is authenticated: integrity:32:aead, or ""
	SectorSize string // bytes
}

// ParseCrypt reads the table of a crypt target.
func ParseCrypt(t Target) (Crypt, error) {
	f := strings.Fields(t.Params)
	if t.Type != "crypt" || len(f) < 5 {
		return Crypt{}, fmt.Errorf("cannot parse the table of an encrypted device: it is of type %s", t.Type)
	}
	c := Crypt{Cipher: f[0], Keyring: strings.HasPrefix(f[1], ":"), SectorSize: "512"}
	for _, option := range f[5:] {
		if strings.HasPrefix(option, "integrity:") {
			c.Tag = option
		}
		if size, ok := strings.CutPrefix(option, "sector_size:"); ok {
			c.SectorSize = size
		}
	}
	return c, nil
}

// IntegrityMode reads the table of an integrity target: J for a journal, B for a
// bitmap, D for neither, R for reading only.
func IntegrityMode(t Target) (string, error) {
	f := strings.Fields(t.Params)
	if t.Type != "integrity" || len(f) < 5 || !slices.Contains([]string{"J", "B", "D", "R", "I"}, f[3]) {
		return "", fmt.Errorf("cannot parse the table of an integrity device: it is of type %s", t.Type)
	}
	return f[3], nil
}
