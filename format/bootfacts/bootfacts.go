// Package bootfacts is the note that the initramfs leaves for PID 1 in
// /run/cloison/boot: what it started, from where, and when.
//
// The format is Cloison's own: one "key=value" per line, every key once, in the
// order of the fields of Facts, each line ended by a newline. It needs nothing
// but the standard library.
package bootfacts

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"cloison/format/cmdline"
)

// The files that the initramfs leaves for PID 1: the note, and the UKI's
// .pcrpkey and .pcrsig.
const (
	Note            = "/run/cloison/boot"
	PolicyKey       = "/run/cloison/tpm2-pcr-public-key.pem"
	PolicySignature = "/run/cloison/tpm2-pcr-signature.json"
	Planned         = "/run/cloison/planned" // folder of planned changes: NAME.auth
)

// NoSwap stands for a partition where the signed command line wants none.
const NoSwap = "none"

// Unlock is what opened the state volume.
type Unlock string

// What can open it.
const (
	TPM       Unlock = "tpm"
	Recovered Unlock = "recovery" // the recovery passphrase, for once
	Resealed  Unlock = "resealed" // likewise, and it was sealed to the TPM again

	// In a product that uses no TPM for it.
	Passphrase Unlock = "passphrase" // the one that a person chose
	Rechosen   Unlock = "rechosen"   // the recovery passphrase, and another one was chosen
)

// Facts is what the initramfs knows and PID 1 cannot find out again.
type Facts struct {
	Command   string // the signed command line, as cmdline.Parse takes it
	Slot      string // label of the partition: core-a or core-b
	Device    string // node of that partition, e.g. /dev/vda2
	ESP       string // node of the ESP on the same disk, e.g. /dev/vda1
	Verity    string // node of the verity device, e.g. /dev/dm-0
	Mapping   string // its name for device-mapper ioctls
	GPTBackup bool   // the primary partition table was damaged
	Measured  bool   // there is a TPM, and it was told of this boot
	// The state volume, open and mounted.
	State         string // node of its partition, e.g. /dev/vda4
	StateUUID     string // of its header
	StateMade     bool   // it was made by this boot
	StateUnlock   Unlock // what opened it
	StateToken    string // number of the token that opened it, or will, and how many there are: "0 of 1", or "none"
	StateRecovery bool   // the recovery passphrase opens it, too
	// What is planned for the Secure Boot databases, in this order.
	Changes        []Change
	ChangesRefused bool   // something was planned that cannot be done
	Swap           string // node of the partition to swap to, or NoSwap
	// Times since the kernel started (CLOCK_BOOTTIME), to the microsecond.
	Initramfs time.Duration // /init began
	Opened    time.Duration // the core's file system was mounted
	Unsealed  time.Duration // the state volume was mounted
	// Core is parsed from Command by Parse; String ignores it.
	Core cmdline.Core
}

// Change is a planned change of a Secure Boot database: the volume opens before
// it and after it.
type Change struct {
	Name   string   // db or dbx
	Append bool     // adds to the database, else replaces it
	PCR7   [32]byte // after this one and those before it
}

func (f *Facts) rows() []struct {
	key   string
	value any
} {
	return []struct {
		key   string
		value any
	}{
		{"command", &f.Command},
		{"slot", &f.Slot},
		{"device", &f.Device},
		{"esp", &f.ESP},
		{"verity", &f.Verity},
		{"mapping", &f.Mapping},
		{"gpt_backup", &f.GPTBackup},
		{"measured", &f.Measured},
		{"state", &f.State},
		{"state_uuid", &f.StateUUID},
		{"state_made", &f.StateMade},
		{"state_unlock", &f.StateUnlock},
		{"state_token", &f.StateToken},
		{"state_recovery", &f.StateRecovery},
		{"changes", &f.Changes},
		{"changes_refused", &f.ChangesRefused},
		{"swap", &f.Swap},
		{"initramfs_usec", &f.Initramfs},
		{"opened_usec", &f.Opened},
		{"unsealed_usec", &f.Unsealed},
	}
}

// String prints the note.
func (f Facts) String() string {
	var b strings.Builder
	for _, r := range f.rows() {
		switch v := r.value.(type) {
		case *string:
			fmt.Fprintf(&b, "%s=%s\n", r.key, *v)
		case *Unlock:
			fmt.Fprintf(&b, "%s=%s\n", r.key, *v)
		case *bool:
			fmt.Fprintf(&b, "%s=%t\n", r.key, *v)
		case *[]Change:
			fmt.Fprintf(&b, "%s=%s\n", r.key, printChanges(*v))
		case *time.Duration:
			fmt.Fprintf(&b, "%s=%d\n", r.key, v.Microseconds())
		}
	}
	return b.String()
}

// Parse reads a note. It refuses what String would not have printed.
func Parse(text string) (Facts, error) {
	f, err := parse(text)
	if err != nil {
		return Facts{}, fmt.Errorf("cannot parse the note of the initramfs: %w", err)
	}
	return f, nil
}

func parse(text string) (Facts, error) {
	var f Facts
	if len(text) > 1<<16 {
		return f, errors.New("too long")
	}
	for _, r := range f.rows() {
		line, rest, ok := strings.Cut(text, "\n")
		value, found := strings.CutPrefix(line, r.key+"=")
		if !ok || !found {
			return f, fmt.Errorf("line %q where %s=… must stand", line, r.key)
		}
		text = rest
		switch v := r.value.(type) {
		case *string:
			if value == "" {
				return f, fmt.Errorf("%s is empty", r.key)
			}
			*v = value
		case *Unlock:
			if *v = Unlock(value); !slices.Contains([]Unlock{TPM, Recovered, Resealed, Passphrase, Rechosen}, *v) {
				return f, fmt.Errorf("%s: nothing is called %q", r.key, value)
			}
		case *bool:
			*v = value == "true"
			if !*v && value != "false" {
				return f, fmt.Errorf("%s: %q is neither true nor false", r.key, value)
			}
		case *[]Change:
			var err error
			if *v, err = parseChanges(value); err != nil {
				return f, fmt.Errorf("%s: %w", r.key, err)
			}
		case *time.Duration:
			n, err := strconv.ParseInt(value, 10, 48)
			if err != nil || n < 0 || strconv.FormatInt(n, 10) != value {
				return f, fmt.Errorf("%s: %q is not a number of microseconds", r.key, value)
			}
			*v = time.Duration(n) * time.Microsecond
		}
	}
	if text != "" {
		return f, errors.New("more lines than expected")
	}
	core, err := cmdline.Parse(f.Command)
	f.Core = core
	if err == nil && f.Core.Swap == (f.Swap == NoSwap) {
		err = fmt.Errorf("swap: %q is not what the command line wants", f.Swap)
	}
	return f, err
}

const noChanges = "none"

// printChanges writes db:append:HEX,dbx:replace:HEX, or none.
func printChanges(changes []Change) string {
	if len(changes) == 0 {
		return noChanges
	}
	var words []string
	for _, c := range changes {
		how := "replace"
		if c.Append {
			how = "append"
		}
		words = append(words, fmt.Sprintf("%s:%s:%x", c.Name, how, c.PCR7))
	}
	return strings.Join(words, ",")
}

func parseChanges(text string) (changes []Change, err error) {
	if text == noChanges {
		return nil, nil
	}
	for word := range strings.SplitSeq(text, ",") {
		parts := strings.Split(word, ":")
		if len(parts) != 3 || parts[0] != "db" && parts[0] != "dbx" || len(parts[2]) != 64 {
			return nil, fmt.Errorf("%q is no change", word)
		}
		c := Change{Name: parts[0], Append: parts[1] == "append"}
		if _, err := hex.Decode(c.PCR7[:], []byte(parts[2])); err != nil {
			return nil, fmt.Errorf("%q is no change", word)
		}
		changes = append(changes, c)
	}
	if printChanges(changes) != text {
		return nil, fmt.Errorf("%q is not written the usual way", text)
	}
	return changes, nil
}
