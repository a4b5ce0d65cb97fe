// Package luks2 reads and prints the header of a state volume: LUKS2 as
// Cloison formats it, and nothing else that LUKS2 could say.
//
// The disk is in the hands of whoever holds the machine, and a LUKS2 header is
// not authenticated: it may name no cipher at all, and then any key opens the
// volume (CVE-2025-59054 and its kin). So a header is read here once, held
// against the one profile that Cloison makes, and printed anew; cryptsetup gets
// to see only what was printed.
//
// Source: LUKS2 On-Disk Format Specification 1.1.1, sections 2 and 3; RFC 9106. Integers
// are big-endian. It needs nothing but the standard library.
package luks2

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Sizes in bytes: of one copy of the metadata, of the copies and the keyslot
// areas together, and of the binary part in front of the JSON text.
const (
	MetadataSize = 16 << 10
	HeaderSize   = 2 << 20
	binarySize   = 4096
	jsonSize     = MetadataSize - binarySize
	keyslotsSize = HeaderSize - 2*MetadataSize
)

// The profile. A volume key is 64 bytes for AES-256-XTS and 32 for the HMAC;
// keyslots are encrypted with AES-256-XTS.
const (
	Cipher     = "aes-xts-plain64"
	Integrity  = "hmac(sha256)"
	SectorSize = 4096
	keySize    = 96
	areaKey    = 64
	hash       = "sha256"
	stripes    = 4000
	// AreaSize holds keySize * stripes bytes, in whole blocks of 4096.
	AreaSize    = 385024
	maxKeyslots = 5
	maxTokens   = 32
	maxWork     = 1 << 24 // iterations: nobody hangs the boot with more

	// Argon2id of a passphrase that a person chose (RFC 9106): its memory is a
	// quarter of the smallest machine's.
	Argon2Time   = 4        // passes, the least that cryptsetup takes
	Argon2Memory = 64 << 10 // KiB
	Argon2Lanes  = 1
)

// Label is what every tool shows of the volume.
const Label = "state"

// Kind is what opens a volume. Each has one form of header, and none is taken
// for the other.
type Kind int

// The kinds. Both have one keyslot for the recovery passphrase, which is as
// random as a key.
const (
	// Sealed has a keyslot for a key that a TPM keeps, and tokens for it.
	Sealed Kind = 1 + iota
	// Chosen has one for a passphrase that a person chose, stretched with
	// Argon2id, and no token.
	Chosen
)

// RecoverySlot is where the recovery passphrase opens a volume of the kind
// Chosen; the chosen one is the other keyslot.
const RecoverySlot = 1

// Header is what is said in a header.
type Header struct {
	Kind     Kind
	UUID     string
	Sequence uint64 // grows with each change
	Keyslots map[int]Keyslot
	Tokens   map[int]json.RawMessage // objects with a type; who knows the type parses them
	// Digest is PBKDF2-HMAC-SHA-256 of the volume key, which it so stands for.
	Digest Digest
}

// Keyslot is where the volume key is, under a key or a passphrase.
type Keyslot struct {
	Area       uint64 // bytes from the start of the volume
	Salt       [32]byte
	Iterations uint32 // of PBKDF2; 0 where it is Argon2id with the costs above
}

// Digest tells the right volume key from a wrong one.
type Digest struct {
	Salt, Value [32]byte
	Iterations  uint32
}

type metadata struct {
	Keyslots map[string]keyslotJSON     `json:"keyslots"`
	Tokens   map[string]json.RawMessage `json:"tokens"`
	Segments map[string]segmentJSON     `json:"segments"`
	Digests  map[string]digestJSON      `json:"digests"`
	Config   configJSON                 `json:"config"`
}

type keyslotJSON struct {
	Type    string `json:"type"`
	KeySize int    `json:"key_size"`
	AF      struct {
		Type    string `json:"type"`
		Stripes int    `json:"stripes"`
		Hash    string `json:"hash"`
	} `json:"af"`
	Area struct {
		Type       string `json:"type"`
		Offset     string `json:"offset"`
		Size       string `json:"size"`
		Encryption string `json:"encryption"`
		KeySize    int    `json:"key_size"`
	} `json:"area"`
	KDF struct {
		Type       string `json:"type"`
		Hash       string `json:"hash,omitempty"`       // PBKDF2
		Iterations uint32 `json:"iterations,omitempty"` // PBKDF2
		Time       uint32 `json:"time,omitempty"`       // Argon2
		Memory     uint32 `json:"memory,omitempty"`     // Argon2, KiB
		Lanes      uint32 `json:"cpus,omitempty"`       // Argon2
		Salt       string `json:"salt"`
	} `json:"kdf"`
}

type segmentJSON struct {
	Type       string `json:"type"`
	Offset     string `json:"offset"`
	Size       string `json:"size"`
	Tweak      string `json:"iv_tweak"`
	Encryption string `json:"encryption"`
	SectorSize int    `json:"sector_size"`
	Integrity  struct {
		Type              string `json:"type"`
		JournalEncryption string `json:"journal_encryption"`
		JournalIntegrity  string `json:"journal_integrity"`
	} `json:"integrity"`
}

type digestJSON struct {
	Type       string   `json:"type"`
	Keyslots   []string `json:"keyslots"`
	Segments   []string `json:"segments"`
	Hash       string   `json:"hash"`
	Iterations uint32   `json:"iterations"`
	Salt       string   `json:"salt"`
	Digest     string   `json:"digest"`
}

type configJSON struct {
	JSONSize     string `json:"json_size"`
	KeyslotsSize string `json:"keyslots_size"`
}

// ErrNone says that there is no LUKS2 header in either place.
var ErrNone = errors.New("no LUKS2 header")

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// Parse reads the newer one of the two copies at the start of a volume, of
// which b has at least the first 32 KiB: a change that was cut off leaves the
// other one. It must be of the kind.
func Parse(b []byte, kind Kind) (Header, error) {
	h, err := parse(b, kind)
	if err != nil {
		return Header{}, fmt.Errorf("cannot read the header of the state volume: %w", err)
	}
	return h, nil
}

func parse(b []byte, kind Kind) (Header, error) {
	if len(b) < 2*MetadataSize {
		return Header{}, errors.New("cut off")
	}
	first, text1, err1 := open(b[:MetadataSize], 0)
	second, text2, err2 := open(b[MetadataSize:2*MetadataSize], MetadataSize)
	switch {
	case err1 != nil && err2 != nil:
		if errors.Is(err1, ErrNone) {
			err1 = err2 // the other may tell more
		}
		return Header{}, err1
	case err1 != nil || err2 == nil && second.Sequence > first.Sequence:
		first, text1 = second, text2
	}
	first.Kind = kind
	return first, first.decode(text1)
}

var magics = map[int]string{0: "LUKS\xba\xbe", MetadataSize: "SKUL\xba\xbe"}

// open checks the binary part of one copy and returns the JSON text.
func open(b []byte, at int) (h Header, text []byte, err error) {
	be := binary.BigEndian
	if string(b[:6]) != magics[at] {
		return h, nil, ErrNone
	}
	sum := sha256.New()
	sum.Write(b[:448])
	sum.Write(make([]byte, 64))
	sum.Write(b[512:])
	algorithm, ok1 := cString(b[72:104])
	label, ok2 := cString(b[24:72])
	h.UUID, _ = cString(b[168:208])
	h.Sequence = be.Uint64(b[16:])
	switch {
	case be.Uint16(b[6:]) != 2:
		return h, nil, fmt.Errorf("version %d", be.Uint16(b[6:]))
	case be.Uint64(b[8:]) != MetadataSize || be.Uint64(b[256:]) != uint64(at):
		return h, nil, errors.New("metadata of another size or at another place")
	case !ok1 || algorithm != hash || !bytes.Equal(append(sum.Sum(nil), make([]byte, 32)...), b[448:512]):
		return h, nil, errors.New("its checksum is wrong")
	case !ok2 || label != Label:
		return h, nil, errors.New("it is not labelled " + Label)
	case !uuidForm.MatchString(h.UUID):
		return h, nil, errors.New("its UUID is malformed")
	case h.Sequence == 0 || h.Sequence > 1<<62:
		return h, nil, errors.New("its sequence number is out of bounds")
	}
	text, rest, ended := bytes.Cut(b[binarySize:], []byte{0})
	if !ended || len(bytes.Trim(rest, "\x00")) > 0 {
		return h, nil, errors.New("something follows its JSON text")
	}
	return h, text, nil
}

// cString reads a field that ends at its first zero, after which only zeros come.
func cString(b []byte) (string, bool) {
	text, rest, _ := bytes.Cut(b, []byte{0})
	return string(text), len(bytes.Trim(rest, "\x00")) == 0
}

func (h *Header) decode(text []byte) error {
	var m metadata
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return err
	}
	if _, err := d.Token(); err == nil {
		return errors.New("something follows its JSON object")
	}
	h.Keyslots, h.Tokens = map[int]Keyslot{}, map[int]json.RawMessage{}
	if len(m.Keyslots) == 0 {
		return errors.New("no keyslot")
	}
	areas := map[uint64]bool{}
	for name, j := range m.Keyslots {
		n, err := index(name, maxKeyslots)
		if err == nil {
			h.Keyslots[n], err = j.keyslot()
		}
		if err == nil && areas[h.Keyslots[n].Area] {
			err = errors.New("its area is another's")
		}
		if err != nil {
			return fmt.Errorf("keyslot %s: %w", name, err)
		}
		areas[h.Keyslots[n].Area] = true
	}
	for name, token := range m.Tokens {
		n, err := index(name, maxTokens)
		if err == nil {
			h.Tokens[n], err = compact(token)
		}
		if err != nil {
			return fmt.Errorf("token %s: %w", name, err)
		}
	}
	if err := h.checkKind(); err != nil {
		return err
	}
	if len(m.Segments) != 1 || m.Segments["0"] != segment() {
		return fmt.Errorf("it is not encrypted with %s and authenticated with %s, all from byte %d on", Cipher, Integrity, HeaderSize)
	}
	if len(m.Digests) != 1 {
		return errors.New("it has not exactly one digest")
	}
	j := m.Digests["0"]
	var err1, err2 error
	h.Digest.Iterations = j.Iterations
	h.Digest.Salt, err1 = decode32(j.Salt)
	h.Digest.Value, err2 = decode32(j.Digest)
	switch {
	case j.Type != "pbkdf2" || j.Hash != hash || j.Iterations == 0 || j.Iterations > maxWork || err1 != nil || err2 != nil:
		return errors.New("its digest is not PBKDF2 with " + hash)
	case len(j.Segments) != 1 || j.Segments[0] != "0" || len(j.Keyslots) != len(h.Keyslots):
		return errors.New("its digest is not for its segment and all its keyslots")
	}
	seen := map[string]bool{}
	for _, name := range j.Keyslots {
		if _, ok := m.Keyslots[name]; !ok || seen[name] {
			return errors.New("its digest is not for its segment and all its keyslots")
		}
		seen[name] = true
	}
	if m.Config != (configJSON{strconv.Itoa(jsonSize), strconv.Itoa(keyslotsSize)}) {
		return errors.New("its areas have other sizes, or it sets flags")
	}
	return nil
}

// checkKind holds the keyslots and tokens against the kind.
func (h *Header) checkKind() error {
	stretched := 0
	for _, k := range h.Keyslots {
		if k.Iterations == 0 {
			stretched++
		}
	}
	switch h.Kind {
	case Sealed:
		if stretched > 0 {
			return errors.New("a passphrase opens it that a person chose, and no TPM: it is of another product")
		}
		return nil
	case Chosen:
		recovery, ok := h.Keyslots[RecoverySlot]
		if len(h.Keyslots) != 2 || stretched != 1 || !ok || recovery.Iterations == 0 || len(h.Tokens) > 0 {
			return errors.New("it has not exactly a chosen passphrase and a recovery passphrase: it is of another product")
		}
		return nil
	}
	return errors.New("internal error: no kind of volume")
}

func index(name string, limit int) (int, error) {
	n, err := strconv.Atoi(name)
	if err != nil || n < 0 || n >= limit || strconv.Itoa(n) != name {
		return 0, fmt.Errorf("it is not one of the first %d", limit)
	}
	return n, nil
}

func (j keyslotJSON) keyslot() (k Keyslot, err error) {
	if k.Salt, err = decode32(j.KDF.Salt); err != nil {
		return k, err
	}
	if k.Area, err = strconv.ParseUint(j.Area.Offset, 10, 32); err != nil {
		return k, errors.New("its area is nowhere")
	}
	k.Iterations = j.KDF.Iterations
	switch {
	case j.KDF.Type == "pbkdf2" && k.Iterations == 0 || k.Iterations > maxWork:
		return k, fmt.Errorf("%d iterations", k.Iterations)
	case k.Area < 2*MetadataSize || (k.Area-2*MetadataSize)%AreaSize != 0 || k.Area+AreaSize > HeaderSize:
		return k, errors.New("its area is out of place")
	case j != k.json():
		return k, errors.New("it is not of Cloison's form: PBKDF2 with " + hash + " or Argon2id, encrypted with " + Cipher)
	}
	return k, nil
}

func (k Keyslot) json() (j keyslotJSON) {
	j.Type, j.KeySize = "luks2", keySize
	j.AF.Type, j.AF.Stripes, j.AF.Hash = "luks1", stripes, hash
	j.Area.Type, j.Area.Encryption, j.Area.KeySize = "raw", Cipher, areaKey
	j.Area.Offset, j.Area.Size = strconv.FormatUint(k.Area, 10), strconv.Itoa(AreaSize)
	if k.Iterations > 0 {
		j.KDF.Type, j.KDF.Hash, j.KDF.Iterations = "pbkdf2", hash, k.Iterations
	} else {
		j.KDF.Type, j.KDF.Time, j.KDF.Memory, j.KDF.Lanes = "argon2id", Argon2Time, Argon2Memory, Argon2Lanes
	}
	j.KDF.Salt = base64.StdEncoding.EncodeToString(k.Salt[:])
	return j
}

func segment() (j segmentJSON) {
	j.Type, j.Offset, j.Size, j.Tweak = "crypt", strconv.Itoa(HeaderSize), "dynamic", "0"
	j.Encryption, j.SectorSize = Cipher, SectorSize
	j.Integrity.Type, j.Integrity.JournalEncryption, j.Integrity.JournalIntegrity = Integrity, "none", "none"
	return j
}

func decode32(text string) (b [32]byte, err error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != len(b) || strings.ContainsAny(text, "\r\n") {
		return b, errors.New("it has a salt or digest that is not 32 bytes")
	}
	return [32]byte(raw), nil
}

// compact returns a token's object without spaces; it must have a type.
func compact(token []byte) (json.RawMessage, error) {
	var j struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(token, &j); err != nil {
		return nil, err
	}
	if j.Type == "" {
		return nil, errors.New("it has no type")
	}
	var b bytes.Buffer
	if err := json.Compact(&b, token); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Print returns both copies of the header, the first 32 KiB of a volume. The
// same header always gives the same bytes.
func (h Header) Print() ([]byte, error) {
	m := metadata{map[string]keyslotJSON{}, h.tokens(), map[string]segmentJSON{"0": segment()}, map[string]digestJSON{}, configJSON{strconv.Itoa(jsonSize), strconv.Itoa(keyslotsSize)}}
	names := []string{}
	for n := range maxKeyslots {
		if k, ok := h.Keyslots[n]; ok {
			m.Keyslots[strconv.Itoa(n)] = k.json()
			names = append(names, strconv.Itoa(n))
		}
	}
	m.Digests["0"] = digestJSON{
		"pbkdf2", names,
		[]string{"0"},
		hash, h.Digest.Iterations,
		base64.StdEncoding.EncodeToString(h.Digest.Salt[:]), base64.StdEncoding.EncodeToString(h.Digest.Value[:]),
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("cannot print the header of the state volume: %w", err)
	}
	if len(text) >= jsonSize {
		return nil, fmt.Errorf("cannot print the header of the state volume: %d bytes of JSON text", len(text))
	}
	b := make([]byte, 2*MetadataSize)
	for _, at := range []int{0, MetadataSize} {
		c := b[at : at+MetadataSize]
		be := binary.BigEndian
		copy(c, magics[at])
		be.PutUint16(c[6:], 2)
		be.PutUint64(c[8:], MetadataSize)
		be.PutUint64(c[16:], h.Sequence)
		copy(c[24:], Label)
		copy(c[72:], hash)
		// The salt of the checksum only makes two copies differ; it is derived
		// so that printing is a function.
		salt := sha256.Sum256(append([]byte(magics[at]), h.UUID...))
		copy(c[104:], salt[:])
		copy(c[168:], h.UUID)
		be.PutUint64(c[256:], uint64(at))
		copy(c[binarySize:], text)
		checksum(c)
	}
	again, err := Parse(b, h.Kind)
	if err != nil {
		return nil, fmt.Errorf("internal error: %w", err)
	}
	if len(again.Keyslots) != len(h.Keyslots) || len(again.Tokens) != len(h.Tokens) {
		return nil, errors.New("internal error: a header with keyslots or tokens out of bounds")
	}
	return b, nil
}

// checksum writes the checksum of one copy, over which it counts as zeros.
func checksum(c []byte) {
	clear(c[448:512])
	sum := sha256.Sum256(c)
	copy(c[448:], sum[:])
}

func (h Header) tokens() map[string]json.RawMessage {
	tokens := map[string]json.RawMessage{}
	for n, token := range h.Tokens {
		tokens[strconv.Itoa(n)] = token
	}
	return tokens
}

// Type returns the type of a token.
func Type(token json.RawMessage) string {
	var j struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(token, &j) != nil {
		return ""
	}
	return j.Type
}
