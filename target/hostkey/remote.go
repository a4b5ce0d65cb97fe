package hostkey

import (
	"encoding/base64"
	"fmt"
	"io"
	"time"

	"golang.org/x/crypto/ssh"

	"cloison/target/varlink"
)

// patience is how long a signature may take.
const patience = 10 * time.Second

// remote is the key behind a socket.
type remote struct {
	socket string
	public ssh.PublicKey
}

// Remote returns the host key behind a socket as what signs for it.
func Remote(socket string) (ssh.Signer, error) {
	var reply public
	if err := varlink.Do(socket, "cloison.HostKey.Public", struct{}{}, &reply, patience); err != nil {
		return nil, fmt.Errorf("cannot ask for the host key: %w", err)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(reply.Key)
	if err != nil {
		return nil, fmt.Errorf("cannot read the host key: %w", err)
	}
	key, err := ssh.ParsePublicKey(b)
	if err != nil {
		return nil, fmt.Errorf("cannot read the host key: %w", err)
	}
	return remote{socket, key}, nil
}

func (r remote) PublicKey() ssh.PublicKey { return r.public }

func (r remote) Sign(_ io.Reader, identifier []byte) (*ssh.Signature, error) {
	var reply signature
	if err := varlink.Do(r.socket, "cloison.HostKey.Sign", map[string]string{"identifier": encode(identifier)}, &reply, patience); err != nil {
		return nil, fmt.Errorf("cannot get a signature of the host key: %w", err)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(reply.Signature)
	if err != nil {
		return nil, fmt.Errorf("cannot read the signature of the host key: %w", err)
	}
	var s ssh.Signature
	if err := ssh.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("cannot read the signature of the host key: %w", err)
	}
	return &s, nil
}
