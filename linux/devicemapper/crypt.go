package devicemapper

import (
	"fmt"
	"slices"
	"strings"
)

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
