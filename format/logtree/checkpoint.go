package logtree

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"cloison/format/logrecord"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Key signs the checkpoints of one log. The log's name is made from it, so that
// two logs are never one.
type Key struct {
	signer note.Signer
	text   string
	public string
}

// NewKey makes a key from random bytes.
func NewKey(random io.Reader) (Key, error) {
	public, private, err := ed25519.GenerateKey(random)
	if err != nil {
		return Key{}, fmt.Errorf("cannot make the log's key: %w", err)
	}
	public1, err := note.NewEd25519VerifierKey(nameOf(public), public)
	if err != nil {
		return Key{}, fmt.Errorf("cannot make the log's key: %w", err)
	}
	_, hash, _ := strings.Cut(public1, "+")
	hash, _, _ = strings.Cut(hash, "+")
	const ed25519Algorithm = 1
	seed := base64.StdEncoding.EncodeToString(append([]byte{ed25519Algorithm}, private.Seed()...))
	return ParseKey("PRIVATE+KEY+" + nameOf(public) + "+" + hash + "+" + seed + "\n")
}

func nameOf(public ed25519.PublicKey) string {
	sum := sha256.Sum256(public)
	return "cloison-log-" + hex.EncodeToString(sum[:8])
}

// ParseKey reads a private key as String prints it.
func ParseKey(text string) (Key, error) {
	line, ended := strings.CutSuffix(text, "\n")
	signer, err := note.NewSigner(line)
	if err != nil || !ended {
		return Key{}, errors.Join(errors.New("cannot parse the log's key"), err)
	}
	// PRIVATE+KEY+NAME+HASH+KEY, of which the last can have the sign, too.
	parts := strings.SplitN(line, "+", 5)
	encoded := parts[len(parts)-1]
	b, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(b) != 1+ed25519.SeedSize || base64.StdEncoding.EncodeToString(b) != encoded {
		return Key{}, errors.New("cannot parse the log's key: it is not Ed25519")
	}
	public, ok := ed25519.NewKeyFromSeed(b[1:]).Public().(ed25519.PublicKey)
	if !ok || signer.Name() != nameOf(public) {
		return Key{}, errors.New("cannot parse the log's key: its name is that of another")
	}
	verifier, err := note.NewEd25519VerifierKey(signer.Name(), public)
	if err != nil {
		return Key{}, fmt.Errorf("cannot parse the log's key: %w", err)
	}
	k := Key{signer, fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s\n", signer.Name(), signer.KeyHash(), encoded), verifier}
	if k.text != text {
		return Key{}, errors.New("cannot parse the log's key: it would not be printed like that")
	}
	return k, nil
}

// Text is the private key, one line.
func (k Key) Text() string { return k.text }

// Name is the name of the log.
func (k Key) Name() string { return k.signer.Name() }

// Public is what verifies: NAME+HASH+KEY, as in golang.org/x/mod/sumdb/note.
func (k Key) Public() string { return k.public }

// Public verifies the checkpoints of one log.
type Public struct{ verifier note.Verifier }

// ParsePublic reads a public key.
func ParsePublic(text string) (Public, error) {
	v, err := note.NewVerifier(text)
	if err != nil {
		return Public{}, fmt.Errorf("cannot parse the log's public key: %w", err)
	}
	// The name is a digest of the key: a key cannot speak for another log.
	parts := strings.SplitN(text, "+", 3)
	b, err := base64.StdEncoding.DecodeString(parts[len(parts)-1])
	if err != nil || len(b) != 1+ed25519.PublicKeySize || v.Name() != nameOf(b[1:]) {
		return Public{}, errors.New("cannot parse the log's public key: its name is that of another")
	}
	return Public{v}, nil
}

// Name is the name of the log.
func (p Public) Name() string { return p.verifier.Name() }

// Checkpoint is what a machine signs: how long its log is, and the root of the
// tree over it. Its text is that of C2SP tlog-checkpoint, with two more lines.
type Checkpoint struct {
	Log  string
	Size uint64 // records
	Root Hash
	Time time.Time // to the microsecond
	Boot string
}

func (c Checkpoint) body() string {
	return fmt.Sprintf("%s\n%d\n%s\ntime %s\nboot %s\n", c.Log, c.Size, c.Root, c.Time.UTC().Format(logrecord.Stamp), c.Boot)
}

// Sign returns the signed text.
func (c Checkpoint) Sign(k Key) (string, error) {
	if c.Log != k.Name() {
		return "", fmt.Errorf("internal error: the log %s is not signed by the key of %s", c.Log, k.Name())
	}
	b, err := note.Sign(&note.Note{Text: c.body()}, k.signer)
	if err != nil {
		return "", fmt.Errorf("cannot sign a checkpoint: %w", err)
	}
	return string(b), nil
}

// maxCheckpoint bounds the text of a checkpoint, in bytes.
const maxCheckpoint = 1024

// OpenCheckpoint reads a signed text and verifies its signature.
func OpenCheckpoint(text string, p Public) (Checkpoint, error) {
	if len(text) > maxCheckpoint {
		return Checkpoint{}, errors.New("cannot read a checkpoint: it is too long")
	}
	n, err := note.Open([]byte(text), note.VerifierList(p.verifier))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("cannot verify a checkpoint: %w", err)
	}
	if len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0 {
		return Checkpoint{}, errors.New("cannot verify a checkpoint: it has another signature, too")
	}
	c, err := parseCheckpoint(n.Text)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("cannot read a checkpoint: %w", err)
	}
	if c.Log != p.Name() {
		return Checkpoint{}, fmt.Errorf("cannot read a checkpoint: it is of %s, signed by %s", c.Log, p.Name())
	}
	return c, nil
}

func parseCheckpoint(body string) (c Checkpoint, err error) {
	lines := strings.Split(body, "\n")
	if len(lines) != 6 {
		return c, errors.New("it has not its five lines")
	}
	c.Log = lines[0]
	if c.Size, err = strconv.ParseUint(lines[1], 10, 53); err != nil {
		return c, errors.New("its size is none")
	}
	if c.Root, err = tlog.ParseHash(lines[2]); err != nil {
		return c, errors.New("its root is none")
	}
	if c.Time, err = time.Parse("time "+logrecord.Stamp, lines[3]); err != nil {
		return c, errors.New("its time is none")
	}
	c.Boot = strings.TrimPrefix(lines[4], "boot ")
	if c.body() != body {
		return c, errors.New("it would not be printed like that")
	}
	return c, nil
}
