package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"time"

	"cloison/format/ext4"
	"cloison/format/luks2"
	"cloison/linux/process"
)

// The C programs. They take keys from descriptors only, and are killed when
// they hang: the TPM and the disk have answered before.
const (
	cryptsetup = "/usr/sbin/cryptsetup"
	mke2fs     = "/usr/sbin/mke2fs"

	toolDeadline   = 60 * time.Second
	mke2fsDeadline = 30 * time.Minute // inode tables are written: 0.4 % of the disk
)

// environment of the C programs: nobody manages device nodes but they
// themselves (there is no udev), and nobody translates.
var environment = []string{"DM_DISABLE_UDEV=1", "LC_ALL=C", "PATH=/nonexistent"}

// iterations of PBKDF2: both keys are random and as long as the cipher's, so
// that stretching them would protect nothing and cost each boot.
const iterations = "1000"

// random stretches a key that is random, chosen a passphrase that is not.
var (
	random = []string{"--hash", "sha256", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", iterations}
	chosen = []string{
		"--hash", "sha256", "--pbkdf", "argon2id", "--pbkdf-force-iterations", strconv.Itoa(luks2.Argon2Time),
		"--pbkdf-memory", strconv.Itoa(luks2.Argon2Memory), "--pbkdf-parallel", strconv.Itoa(luks2.Argon2Lanes),
	}
	stretch = map[luks2.Kind][]string{luks2.Sealed: random, luks2.Chosen: chosen}
)

// protection is what opens a new volume.
type protection struct {
	kind     luks2.Kind
	key      []byte // of keySlot
	recovery string // passphrase of recoverySlot
	tokens   map[int]json.RawMessage
}

func run(path string, inputs [][]byte, args ...string) error {
	_, err := process.Run(process.Command{Path: path, Args: args, Env: environment, Inputs: inputs, Deadline: toolDeadline})
	return err
}

// makeHeader formats the volume, but for the file system, and returns its
// header, as it will stand on the disk. It leaves it in headerFile, too.
func makeHeader(device string, p protection) (luks2.Header, []byte, error) {
	fail := func(err error) (luks2.Header, []byte, error) { return luks2.Header{}, nil, err }
	err := run(cryptsetup, [][]byte{p.key}, slices.Concat([]string{
		"luksFormat", "--batch-mode", "--type", "luks2",
		"--header", headerFile, "--offset", strconv.Itoa(luks2.HeaderSize / 512),
		"--luks2-metadata-size", strconv.Itoa(luks2.MetadataSize), "--luks2-keyslots-size", strconv.Itoa(luks2.HeaderSize - 2*luks2.MetadataSize),
		"--cipher", luks2.Cipher, "--key-size", "512", "--integrity", "hmac-sha256", "--integrity-no-wipe",
		"--sector-size", strconv.Itoa(luks2.SectorSize), "--label", luks2.Label,
		"--key-slot", strconv.Itoa(keySlot), "--key-file", "-",
	}, stretch[p.kind], []string{device})...)
	if err != nil {
		return fail(err)
	}
	if err := addKey(keySlot, p.key, recoverySlot, []byte(p.recovery), random); err != nil {
		return fail(err)
	}
	h, head, err := headerOfTool(p.kind)
	if err != nil {
		return fail(err)
	}
	h.Sequence++
	h.Tokens = p.tokens
	text, err := h.Print()
	if err != nil {
		return fail(err)
	}
	copy(head, text)
	return h, head, os.WriteFile(headerFile, head, 0o600)
}

// addKey has a second key open a keyslot of the header in headerFile.
func addKey(by int, key []byte, slot int, added []byte, stretched []string) error {
	return run(cryptsetup, [][]byte{key, added}, slices.Concat([]string{
		"luksAddKey", "--batch-mode",
		"--key-slot", strconv.Itoa(by), "--new-key-slot", strconv.Itoa(slot), "--key-file", "-",
	}, stretched, []string{headerFile, "/proc/self/fd/3"})...)
}

// headerOfTool reads what cryptsetup has made of headerFile.
func headerOfTool(kind luks2.Kind) (luks2.Header, []byte, error) {
	head, err := os.ReadFile(headerFile)
	if err != nil {
		return luks2.Header{}, nil, err
	}
	if len(head) > luks2.HeaderSize || len(head) < 2*luks2.MetadataSize {
		return luks2.Header{}, nil, fmt.Errorf("cryptsetup made a header of %d bytes", len(head))
	}
	head = append(head, make([]byte, luks2.HeaderSize-len(head))...)
	h, err := luks2.Parse(head, kind)
	return h, head, err
}

// noPermission is how cryptsetup ends when the passphrase is wrong (cryptsetup(8)).
const noPermission = 2

// isWrong reports whether a keyslot does not open with a passphrase.
func isWrong(err error) bool {
	var exit *process.ExitError
	return errors.As(err, &exit) && exit.Code == noPermission
}

// openVolume makes the mapped devices from the header in headerFile.
func openVolume(device string, slot int, key []byte) error {
	return run(cryptsetup, [][]byte{key}, "open", "--batch-mode", "--type", "luks2", "--header", headerFile,
		"--key-slot", strconv.Itoa(slot), "--key-file", "-", device, Mapping)
}

// makeFileSystem makes ext4 on the opened volume.
//
// A block that was never written has no tag, and reading it fails. To write
// them all takes hours on a large disk and protects nothing: so only the few
// are written that mke2fs reads before it writes them in whole, and mke2fs then
// leaves nothing that ext4 would read unwritten (docs/decisions/0007-state-volume.md).
func makeFileSystem(say func(string, ...any)) error {
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		err = zero(f, size)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("cannot prepare the file system: %w", err)
	}
	say("state volume: making a file system of %d MiB", size>>20)
	p := progress{say: say}
	_, err = process.Run(process.Command{
		Path: mke2fs, Env: environment, Deadline: mke2fsDeadline, Progress: p.hear,
		// Few inodes: the tables are written in full, now. The last blocks are
		// kept for root: PID 1 can write whatever others have filled. Each service is
		// a project, whose use is counted from the first file on.
		Args: []string{
			"-t", "ext4", "-F", "-b", strconv.Itoa(blockSize), "-i", strconv.Itoa(ext4.BytesPerFile), "-m", "5", "-L", luks2.Label,
			"-O", "quota,project",
			"-E", "quotatype=prjquota,lazy_itable_init=0,lazy_journal_init=0,nodiscard", node,
		},
	})
	return err
}

// edge is what is zeroed at either end of the volume, where tools look for
// signatures; group is the size of a block group of ext4, in whose first block
// a copy of the superblock may be.
const (
	edge  = 1 << 20
	group = 32768 * blockSize
)

// zero writes the blocks that are read before they are written.
func zero(w io.WriterAt, size int64) error {
	if size < 2*edge || size%blockSize != 0 {
		return fmt.Errorf("a volume of %d bytes", size)
	}
	_, err := w.WriteAt(make([]byte, edge), 0)
	for at := int64(group); err == nil && at <= size-blockSize; at += group {
		_, err = w.WriteAt(make([]byte, blockSize), at)
	}
	if err == nil {
		_, err = w.WriteAt(make([]byte, edge), size-edge)
	}
	return err
}

// progress tells how far mke2fs is with its inode tables, in steps of a tenth.
type progress struct {
	say    func(string, ...any)
	tables bool
	last   int
}

// counter is how mke2fs counts: it goes back over what it has said.
var counter = regexp.MustCompile(`([0-9]+)/([0-9]+)\x08*$`)

func (p *progress) hear(b []byte) {
	p.tables = p.tables || bytes.Contains(b, []byte("Writing inode tables"))
	m := counter.FindSubmatch(b)
	if !p.tables || m == nil {
		return
	}
	n, err1 := strconv.Atoi(string(m[1]))
	of, err2 := strconv.Atoi(string(m[2]))
	if err1 != nil || err2 != nil || of < 10 || n > of {
		return
	}
	if tenth := 10 * n / of; tenth > p.last {
		p.last = tenth
		p.say("state volume: %d %% of the file system's tables written", 10*tenth)
	}
}
