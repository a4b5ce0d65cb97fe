package state

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"cloison/linux/file"
)

// Files of the machine's identity, below the volume's root.
const (
	identityFolder = "identity"
	machineID      = identityFolder + "/machine-id"
	hostKey        = identityFolder + "/host-key.pem"
)

// pkcs8 is what stands before the 32 bytes of an Ed25519 key in DER
// (RFC 8410, section 7): an OneAsymmetricKey of version 0.
var pkcs8 = []byte{0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20}

// makeIdentity gives a new volume, mounted at root, the machine's identity:
// machine-id (machine-id(5)) and the key by which others know the machine.
func makeIdentity(root string) error {
	err := os.Mkdir(filepath.Join(root, identityFolder), 0o755)
	if err == nil {
		var id [16]byte
		_, _ = rand.Read(id[:])                         // never fails: the program ends instead (crypto/rand)
		id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // a UUID of version 4, as machine-id(5) recommends
		err = file.WriteAtomic(filepath.Join(root, machineID), []byte(hex.EncodeToString(id[:])+"\n"), 0o444)
	}
	if err == nil {
		var key ed25519.PrivateKey
		if _, key, err = ed25519.GenerateKey(rand.Reader); err == nil {
			text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: append(pkcs8[:len(pkcs8):len(pkcs8)], key.Seed()...)})
			err = file.WriteAtomic(filepath.Join(root, hostKey), text, 0o600)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot make the machine's identity: %w", err)
	}
	return nil
}

// MachineID reads the machine's name for itself, 32 lower-case hexadecimal
// digits, from the volume mounted at root.
func MachineID(root string) (string, error) {
	b, err := os.ReadFile(filepath.Join(root, machineID))
	if err == nil && (len(b) != 33 || b[32] != '\n') {
		err = errors.New("malformed")
	}
	if err == nil {
		_, err = hex.DecodeString(string(b[:32]))
	}
	if err != nil {
		return "", fmt.Errorf("cannot read the machine's identity: %w", err)
	}
	return string(b[:32]), nil
}
