// Package state opens the one writable volume of the machine, in the initramfs
// and nowhere else: LUKS2 with authenticated encryption (dm-crypt over
// dm-integrity) and ext4. The TPM keeps its key (cloison/target/seal).
//
// On the first boot it makes the volume. Power may fail at any point of that:
// until the TPM has its mark the volume is made anew, from then on never again.
// What the first block of the partition says, and the mark, decide:
//
//	first block   no mark in the TPM        a mark in the TPM
//	zeros         make the volume           refuse
//	unfinished    make the volume again     open it, write the first block
//	LUKS2         refuse                    open it
//	other         refuse                    refuse
//
// In a product that a passphrase opens there is no mark, and no column on the
// right: a volume that somebody has emptied looks like a first boot. A person is
// asked then, and told so (docs/decisions/0014-no-tpm.md).
//
// It needs cryptsetup and mke2fs, device-mapper with crypt and integrity, and
// ext4. Source: cryptsetup(8), mke2fs(8), LUKS2 On-Disk Format Specification
// 1.1.1; docs/decisions/0007-state-volume.md.
package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"cloison/format/bootfacts"
	"cloison/format/escrow"
	"cloison/format/ext4"
	"cloison/format/luks2"
	"cloison/format/sealtoken"
	"cloison/linux/block"
	"cloison/linux/mount"
	"cloison/linux/power"
	"cloison/target/seal"
)

const (
	// Mapping is the name of the opened volume for device-mapper; IntegrityMapping
	// that of the dm-integrity device below it, as cryptsetup calls it.
	Mapping          = "state"
	IntegrityMapping = "state_dif"
	// Folder is where the system finds it.
	Folder = "/state"

	node    = "/dev/mapper/" + Mapping
	options = "nodev,nosuid,noexec,noatime,errors=remount-ro"
	// headerFile is in memory; the C programs see no other header.
	headerFile = "/run/state.header"

	blockSize     = 4096
	keySlot       = 0 // what the TPM's secret opens
	recoverySlot  = 1 // what the recovery passphrase opens
	sealToken     = 0
	recoveryToken = 1
)

// unfinished is the first block of a volume that is being made.
var unfinished = pad([]byte("cloison state volume, not finished: made again at the next boot\n"))

func pad(b []byte) []byte { return append(b, make([]byte, blockSize-len(b))...) }

// Seal is the TPM: *seal.Sealer.
type Seal interface {
	Provisioned() (bool, error)
	Provision() (seal.Secret, sealtoken.Token, error)
	Commit(seal.Secret, seal.Identity) error
	Unseal(sealtoken.Token, seal.Identity) (seal.Secret, error)

	// For a recovery.
	Accepts() error
	Why(sealtoken.Token) error
	Belongs(seal.Secret, seal.Identity) (bool, error)
	Reseal(seal.Secret) (sealtoken.Token, error)
}

// Machine is what opening needs.
type Machine struct {
	Device string // node of the partition
	At     string // where to mount
	Seal   Seal
	// Grow is called before the volume is made: it makes the partition as large
	// as it can be.
	Grow func() error
	// Where the recovery passphrase goes, encrypted to RecoveryKey (PEM); About
	// is printed beside it, but for the volume.
	ESP         string // node
	RecoveryKey []byte
	About       escrow.About
	// Measure is called once with what the volume is, before anything in it is
	// read.
	Measure func(uuid string, id seal.Identity) error
	Say     func(format string, args ...any)
	// Console is who types a passphrase; Open needs none.
	Console Console
}

// Volume is an opened volume.
type Volume struct {
	UUID     string
	Identity seal.Identity
	First    bool // it was made by this boot
	Token    int  // that opened it
	Tokens   int  // how many the TPM could open it by
	Recovery bool // there is a keyslot for the recovery passphrase
	Unlock   bootfacts.Unlock

	device string
	header luks2.Header
	secret seal.Secret
}

// Identity says which volume a header is of: its UUID, and the digest of the
// volume key. All else in a header has one form only (package luks2), or is
// useless without the key.
func Identity(h luks2.Header) seal.Identity {
	return sha256.Sum256(fmt.Appendf(nil, "cloison state volume\x00%s\x00%x", h.UUID, h.Digest.Value))
}

// Open opens the volume and mounts it, or makes it.
func (m Machine) Open() (Volume, error) {
	v, err := m.open()
	if err != nil {
		return Volume{}, fmt.Errorf("state volume on %s: %w", m.Device, err)
	}
	return v, nil
}

func (m Machine) open() (Volume, error) {
	head, err := readHead(m.Device, luks2.HeaderSize)
	if err != nil {
		return Volume{}, err
	}
	provisioned, err := m.Seal.Provisioned()
	if err != nil {
		return Volume{}, err
	}
	provision, err := decide(head, provisioned)
	if err == nil && provision {
		return m.provision()
	}
	var v Volume
	if err == nil {
		v, err = m.unlock(head)
	}
	if recoverable(err) {
		m.Say("state volume: its recovery passphrase opens it: press a key while the loader shows its menu, and choose recovery")
	}
	return v, err
}

var (
	errUnprovisioned = errors.New("there is a volume, but this TPM was never provisioned: the disk was moved, or the TPM was cleared")
	errNoToken       = errors.New("it has no token of a TPM")
)

// decide tells whether the volume must be made. Nothing else decides this.
func decide(head []byte, provisioned bool) (provision bool, err error) {
	first := head[:blockSize]
	blank := len(bytes.Trim(head, "\x00")) == 0
	started := bytes.Equal(first, unfinished)
	switch {
	case provisioned && blank:
		return false, errors.New("it is empty, but the TPM belongs to a volume: it was replaced or wiped")
	case provisioned:
		return false, nil
	case blank || started:
		return true, nil
	case bytes.HasPrefix(first, []byte("LUKS")):
		return false, errUnprovisioned
	}
	return false, errors.New("it holds something that is no state volume: it is never overwritten")
}

// unlock opens the volume that the TPM was provisioned for.
func (m Machine) unlock(head []byte) (Volume, error) {
	h, err := luks2.Parse(head, luks2.Sealed)
	if err != nil {
		return Volume{}, err
	}
	v := Volume{UUID: h.UUID, Identity: Identity(h), Unlock: bootfacts.TPM, device: m.Device, header: h}
	_, v.Recovery = h.Keyslots[recoverySlot]
	secret, err := m.unseal(h, &v)
	if err != nil {
		return Volume{}, err
	}
	v.secret = secret
	text, err := layOut(h, head)
	if err != nil {
		return Volume{}, err
	}
	err = openVolume(m.Device, keySlot, secret.Key[:])
	if err = errors.Join(err, os.Remove(headerFile)); err != nil {
		return Volume{}, err
	}
	if err := m.Measure(v.UUID, v.Identity); err != nil {
		return Volume{}, err
	}
	if err := m.mount(); err != nil {
		return Volume{}, err
	}
	if bytes.Equal(head[:blockSize], unfinished) {
		m.Say("state volume %s: the first boot was cut off at its very end, finishing it", v.UUID)
		return v, block.Write(m.Device, text[:blockSize], 0)
	}
	return v, nil
}

// layOut gives the C programs what was understood and checked, not what is on
// the disk. It returns the two copies of the header anew.
func layOut(h luks2.Header, head []byte) ([]byte, error) {
	text, err := h.Print()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(headerFile, append(text[:len(text):len(text)], head[len(text):]...), 0o600); err != nil {
		return nil, fmt.Errorf("cannot lay the header out: %w", err)
	}
	return text, nil
}

// unseal asks the TPM by each token: more than one is there while a change of
// the Secure Boot keys is planned.
func (m Machine) unseal(h luks2.Header, v *Volume) (secret seal.Secret, err error) {
	var refused error
	opened := false
	for _, n := range slices.Sorted(maps.Keys(h.Tokens)) {
		if luks2.Type(h.Tokens[n]) != sealtoken.Type {
			continue
		}
		v.Tokens++
		if opened {
			continue // only count
		}
		token, err := sealtoken.Parse(h.Tokens[n])
		if err == nil && token.Keyslot != keySlot {
			err = fmt.Errorf("it is for keyslot %d", token.Keyslot)
		}
		if err == nil {
			secret, err = m.Seal.Unseal(token, v.Identity)
		}
		switch {
		case err == nil:
			v.Token, opened = n, true
		case refused == nil:
			refused = fmt.Errorf("token %d: %w", n, err)
		default:
			refused = fmt.Errorf("%w; token %d: %w", refused, n, err) // all the reasons, in one line
		}
	}
	switch {
	case opened:
		return secret, nil
	case refused == nil:
		refused = errNoToken
	}
	return seal.Secret{}, refused
}

// mount mounts the volume. One that a release without quotas made has no room
// for them, and the kernel would not mount it with them.
func (m Machine) mount() error {
	if err := os.MkdirAll(m.At, 0o755); err != nil {
		return fmt.Errorf("cannot make the mount point: %w", err)
	}
	with := options
	counts := false
	superblock, err := readHead(node, ext4.Start+ext4.Size)
	if err == nil {
		counts, err = ext4.CountsProjects(superblock[ext4.Start:])
	}
	if err != nil {
		return fmt.Errorf("cannot mount ext4 on %s: %w", m.At, err)
	}
	if counts {
		with += ",prjquota"
	}
	return mount.Mount(node, m.At, "ext4", with)
}

// provision makes the volume. The order is such that power may fail anywhere.
func (m Machine) provision() (Volume, error) {
	if err := m.begin(); err != nil {
		return Volume{}, err
	}
	// 2. The keys. What an attempt before this one had sealed is lost with it.
	secret, token, err := m.Seal.Provision()
	if err != nil {
		return Volume{}, err
	}
	recovery, err := seal.NewRecovery(secret, m.RecoveryKey)
	if err != nil {
		return Volume{}, err
	}
	token.Keyslot, recovery.Token.Keyslot = keySlot, recoverySlot
	v := Volume{Token: sealToken, Tokens: 1, Unlock: bootfacts.TPM, secret: secret}
	return m.make(v, recovery, protection{
		kind: luks2.Sealed, key: secret.Key[:], recovery: recovery.Passphrase,
		tokens: map[int]json.RawMessage{sealToken: token.Print(), recoveryToken: recovery.Token.Print()},
	})
}

// begin says on the disk that the volume is being made, before anything else is
// there (1).
func (m Machine) begin() error {
	m.Say("state volume: making it on %s", m.Device)
	if err := m.Grow(); err != nil {
		return err
	}
	return block.Write(m.Device, unfinished, 0)
}

// make does all that follows the keys.
func (m Machine) make(v Volume, recovery seal.Recovery, p protection) (Volume, error) {
	// 3. The header, in memory.
	h, head, err := makeHeader(m.Device, p)
	if err != nil {
		return Volume{}, err
	}
	v.UUID, v.Identity, v.First, v.Recovery = h.UUID, Identity(h), true, true
	v.device, v.header = m.Device, h
	// 4. The volume and its file system.
	err = openVolume(m.Device, keySlot, p.key)
	if err = errors.Join(err, os.Remove(headerFile)); err != nil {
		return Volume{}, err
	}
	if err := m.Measure(v.UUID, v.Identity); err != nil {
		return Volume{}, err
	}
	if err := makeFileSystem(m.Say); err != nil {
		return Volume{}, err
	}
	if err := m.mount(); err != nil {
		return Volume{}, err
	}
	// 5. Who this machine is.
	if err := makeIdentity(m.At); err != nil {
		return Volume{}, err
	}
	power.Sync()
	// 6. All of the header but its first block, which still says unfinished.
	if err := block.Write(m.Device, head[blockSize:], blockSize); err != nil {
		return Volume{}, err
	}
	// 7. The recovery passphrase leaves the machine.
	m.About.Volume = v.UUID
	record, err := recovery.Escrow(m.About)
	if err == nil {
		err = m.deposit(record)
	}
	if err != nil {
		return Volume{}, err
	}
	power.Sync()
	// 8. The mark in the TPM, at once or not at all: from here on this volume is
	// opened and nothing is made. Without a TPM step 9 decides that.
	if p.kind == luks2.Sealed {
		if err := m.Seal.Commit(v.secret, v.Identity); err != nil {
			return Volume{}, err
		}
	}
	// 9. The first block, which makes it a volume for everybody else. Where this
	// is cut off and there is a mark, the next boot does it.
	if err := block.Write(m.Device, head[:blockSize], 0); err != nil {
		return Volume{}, err
	}
	m.Say("state volume %s: made", v.UUID)
	return v, nil
}

// readHead reads size bytes of what lies in front of the data.
func readHead(device string, size int) ([]byte, error) {
	f, err := os.Open(device)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read from
	head := make([]byte, size)
	if n, err := f.ReadAt(head, 0); n != len(head) {
		return nil, fmt.Errorf("cannot read its header: %w", err)
	}
	return head, nil
}
