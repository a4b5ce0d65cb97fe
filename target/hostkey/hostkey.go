// Package hostkey is the service that has the machine's SSH host key, and the
// other end of it: what speaks SSH asks for signatures and never has the key. So
// one connection that takes over its process takes the key to nobody's home.
//
// It needs a folder that lasts. The key is Ed25519 (RFC 8032, RFC 8709).
package hostkey

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/crypto/ssh"

	"cloison/linux/file"
	"cloison/target/service"
	"cloison/target/varlink"
)

//go:embed cloison.hostkey.varlink
var definition string

const (
	folder = "/state/hostkey"
	// seedName has the 32 bytes that the key is made of.
	seedName = "ed25519"
)

// Caller is the service that may ask.
const Caller = "sshd"

// Bounds of what is signed: the hash of a key exchange, of SHA-256 to SHA-512.
const leastIdentifier, mostIdentifier = 32, 64

// Main is the program.
func Main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "cloison: hostkeyd: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	notify, err := service.Notify()
	if err != nil {
		return err
	}
	key, made, err := open(folder)
	if err != nil {
		return err
	}
	if made {
		fmt.Println("made a new host key")
	}
	fmt.Println(ssh.FingerprintSHA256(key.PublicKey()))
	listener, err := service.Descriptor("sign")
	if err != nil {
		return err
	}
	peers, err := service.Peers()
	if err != nil {
		return err
	}
	server, err := varlink.New(offer(key, peers))
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener, func(err error) { fmt.Fprintf(os.Stderr, "%v\n", err) }) }()
	if err := notify.Ready(); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// open reads the key, or makes it. One that is damaged is not replaced: clients
// that know the machine would be told that it is another.
func open(folder string) (key ssh.Signer, made bool, err error) {
	path := filepath.Join(folder, seedName)
	seed, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		seed = make([]byte, ed25519.SeedSize)
		if _, err = rand.Read(seed); err == nil {
			made, err = true, file.WriteAtomic(path, seed, 0o600)
		}
	}
	if err == nil && len(seed) != ed25519.SeedSize {
		err = fmt.Errorf("it has %d bytes, want %d", len(seed), ed25519.SeedSize)
	}
	if err == nil {
		key, err = ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(seed))
	}
	if err != nil {
		return nil, false, fmt.Errorf("cannot open the host key: %w", err)
	}
	return key, made, nil
}

func offer(key ssh.Signer, peers map[uint32]string) varlink.Service {
	return varlink.Service{
		Product: "Cloison host key", Version: "1", Definitions: []string{definition}, Peers: peers,
		Methods: []varlink.Method{
			{Name: "cloison.HostKey.Public", Who: []string{Caller}, Do: func(string, json.RawMessage) (any, error) {
				return public{encode(key.PublicKey().Marshal())}, nil
			}},
			{Name: "cloison.HostKey.Sign", Who: []string{Caller}, Do: func(_ string, parameters json.RawMessage) (any, error) {
				var in struct {
					Identifier string `json:"identifier"`
				}
				if err := json.Unmarshal(parameters, &in); err != nil {
					return nil, err
				}
				b, err := base64.StdEncoding.Strict().DecodeString(in.Identifier)
				if err != nil || len(b) < leastIdentifier || len(b) > mostIdentifier {
					return nil, &varlink.Error{Name: "cloison.HostKey.NotAnIdentifier", Parameters: struct{}{}}
				}
				s, err := key.Sign(rand.Reader, b)
				if err != nil {
					return nil, err
				}
				return signature{encode(ssh.Marshal(s))}, nil
			}},
		},
	}
}

type public struct {
	Key string `json:"key"`
}

type signature struct {
	Signature string `json:"signature"`
}

func encode(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
