package supervise

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"cloison/format/bootfacts"
	"cloison/format/kmsg"
	"cloison/linux/devicemapper"
	random "cloison/linux/entropy"
	"cloison/linux/file"
	log "cloison/linux/kmsg"
	"cloison/linux/mount"
	"cloison/target/entropy"
	"cloison/target/seal"
	"cloison/target/state"
)

// wanted is what the kernel must be doing with the state volume.
var wanted = devicemapper.Crypt{
	Cipher: "capi:authenc(hmac(sha256),xts(aes))-plain64", Keyring: true, Tag: "integrity:32:aead", SectorSize: "4096",
}

// bootsFile counts the boots that were found good.
const bootsFile = "boots"

// sealed is what PID 1 knows of the state volume.
type sealed struct {
	seal    *seal.Sealer // nil where a passphrase opens it
	machine string       // machine-id
	boots   uint64       // good ones, this one included once it is
	floor   uint64       // of the TPM, once the boot is good
	forged  uint64       // blocks that failed their authentication, as told
	shared  bool         // what each service keeps is bounded
}

// openState looks at the state volume, which the initramfs has opened and
// mounted. What it finds must be what was wanted: the header that asked for it
// lay on a disk.
func (s *supervisor) openState() error {
	table, err := devicemapper.Table(state.Mapping)
	if err != nil {
		return err
	}
	crypt, err := devicemapper.ParseCrypt(table)
	if err != nil {
		return err
	}
	if table, err = devicemapper.Table(state.IntegrityMapping); err != nil {
		return err
	}
	mode, err := devicemapper.IntegrityMode(table)
	if err != nil {
		return err
	}
	if crypt != wanted || mode != "J" {
		return fmt.Errorf("the state volume is encrypted as %+v, integrity mode %s: want %+v, mode J", crypt, mode, wanted)
	}
	if s.state.machine, err = state.MachineID(state.Folder); err != nil {
		return fmt.Errorf("state volume on %s: %w", s.facts.State, err)
	}
	if s.state.boots, err = readBoots(state.Folder); err != nil {
		return fmt.Errorf("state volume on %s: %w", s.facts.State, err)
	}
	if s.facts.Core.Passphrase {
		return nil
	}
	key, err := os.ReadFile(bootfacts.PolicyKey)
	if err != nil {
		return fmt.Errorf("cannot read the note of the initramfs: %w", err)
	}
	signature, err := os.ReadFile(bootfacts.PolicySignature)
	if err != nil {
		return fmt.Errorf("cannot read the note of the initramfs: %w", err)
	}
	release, err := seal.ParseRelease(key, signature)
	if err != nil {
		return err
	}
	s.state.seal, err = seal.Open(s.tpm, release)
	return err
}

// readBoots reads the counter of good boots; a new volume has none.
func readBoots(root string) (uint64, error) {
	b, err := os.ReadFile(filepath.Join(root, bootsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	var n uint64
	if err == nil {
		n, err = strconv.ParseUint(strings.TrimSuffix(string(b), "\n"), 10, 63)
	}
	if err != nil {
		return 0, fmt.Errorf("cannot read the number of boots: %w", err)
	}
	return n, nil
}

// goodState keeps in the state volume and in the TPM that this boot was good.
// Once the floor is raised no older release gets the volume's key: so it must
// be known before that this one works.
func (s *supervisor) goodState() error {
	s.state.boots++
	text := strconv.FormatUint(s.state.boots, 10) + "\n"
	if err := file.WriteAtomic(filepath.Join(state.Folder, bootsFile), []byte(text), 0o444); err != nil {
		return fmt.Errorf("state volume on %s: %w", s.facts.State, err)
	}
	if s.facts.Core.Passphrase {
		return nil // nothing could keep a floor
	}
	if s.facts.StateUnlock == bootfacts.Recovered {
		// Somebody chose not to give the volume to this TPM: it may have no floor.
		if provisioned, err := s.state.seal.Provisioned(); err != nil || !provisioned {
			return err
		}
	}
	floor, raised, err := s.state.seal.RaiseFloor()
	if err != nil {
		return err
	}
	s.state.floor = floor
	if raised {
		s.say("releases below security version %d get no key any more", floor)
	}
	return nil
}

// tellForged says that a block of the state volume does not authenticate. Who
// read it got an error and no data.
func (s *supervisor) tellForged(r kmsg.Record) error {
	device, sector, _ := r.Forged()
	b, err := os.ReadFile(filepath.Join("/sys/class/block", device, "dm/name"))
	if err != nil {
		return fmt.Errorf("cannot tell whose block failed its authentication: %w", err)
	}
	name := strings.TrimSpace(string(b))
	if name == state.IntegrityMapping {
		name = state.Mapping // dm-crypt names the device that it has read from
	}
	s.state.forged++
	return s.log.Printf(log.Critical, "cloison: forged: block at sector %d of volume %s fails its authentication: reading it is an error",
		sector, name)
}

// closeState writes everything out and closes the volume: its journals are empty
// then, and its key is in memory no more.
func (s *supervisor) closeState() error {
	if err := mount.Unmount(state.Folder); err != nil {
		return errors.Join(err, mount.ReadOnly(state.Folder))
	}
	if err := devicemapper.Remove(state.Mapping); err != nil {
		return err
	}
	return devicemapper.Remove(state.IntegrityMapping)
}

// stateStatus fills in what the console shows of the volume.
func (s *supervisor) stateStatus(st *Status) error {
	var tpm seal.Status
	if !s.facts.Core.Passphrase {
		var err error
		if tpm, err = s.state.seal.Status(); err != nil {
			return err
		}
	}
	st.State = StateStatus{
		Device: s.facts.State, UUID: s.facts.StateUUID, Made: s.facts.StateMade, Unlock: s.facts.StateUnlock, Token: s.facts.StateToken,
		Recovery: s.facts.StateRecovery, Machine: s.state.machine, Boots: s.state.boots, Forged: s.state.forged, Shared: s.state.shared,
		TPM: tpm, Changes: s.changesRow(), Passphrase: s.facts.Core.Passphrase, Measured: s.facts.Measured,
	}
	return nil
}

// seedFile is the seed for the next boot, in the state volume. PID 1 alone reads
// and writes it.
const seedFile = "seed"

// carrySeed gives the generator the seed that the last boot left. A volume that
// cannot be written is heard of elsewhere: the generator works without.
func (s *supervisor) carrySeed() error {
	defer close(s.carried)
	credited, err := entropy.Carry(filepath.Join(state.Folder, seedFile), random.Credit)
	switch {
	case err != nil:
		s.say("no seed was credited: %v", err)
	case credited:
		return s.log.Printf(log.Info, "cloison: the seed of the last boot was credited, and replaced before")
	}
	return nil
}

// saveSeed leaves a new seed to the next boot.
func (s *supervisor) saveSeed() {
	<-s.carried
	if err := entropy.Save(filepath.Join(state.Folder, seedFile)); err != nil {
		s.say("%v", err)
	}
}
