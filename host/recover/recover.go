// Package recover gives back the recovery passphrase of a volume from its
// escrow record. It needs the integrator's private recovery key, and no
// machine.
package recover

import (
	"errors"
	"fmt"
	"io"
	"os"

	"cloison/format/escrow"
	"cloison/format/hint"
	"cloison/format/passphrase"
)

// maxFile bounds what is read, in bytes.
const maxFile = 64 << 10

// Recovered is a passphrase and what it opens.
type Recovered struct {
	escrow.About
	Passphrase string
}

// Open decrypts the record in one file with the key in another.
func Open(record, key string) (Recovered, error) {
	text, err := readFile(record)
	if err != nil {
		return Recovered{}, err
	}
	r, err := escrow.Parse(text)
	if err != nil {
		return Recovered{}, hint.Wrap(fmt.Errorf("%s: %w", record, err), "the record is on the machine's EFI system partition, and its console shows it")
	}
	if text, err = readFile(key); err != nil {
		return Recovered{}, err
	}
	k, err := escrow.ParsePrivate(text)
	if err != nil {
		return Recovered{}, hint.Wrap(fmt.Errorf("%s: %w", key, err), "name the file recovery.key that cloison keys init made")
	}
	plain, err := r.Decrypt(k)
	if err != nil {
		return Recovered{}, err
	}
	// Whoever has the public key can write records: what they hold is checked
	// before it is shown.
	if canonical, err := passphrase.Parse(plain); err != nil || canonical != plain {
		return Recovered{}, errors.Join(fmt.Errorf("%s holds no recovery passphrase", record), err)
	}
	return Recovered{r.About, plain}, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read from: nothing to lose
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	return b, nil
}
