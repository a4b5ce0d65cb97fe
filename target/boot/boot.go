// Package boot is the initramfs: it finds the core image that the signed command
// line names, opens it under dm-verity, and hands the machine to PID 1 in it.
// Everything it doubts ends the boot (cloison/target/refusal).
//
// It needs a kernel that takes its own command line from nobody, UEFI with
// Secure Boot, a TPM 2.0, and the files /init and /cmdline in the initramfs.
// Phases are measured into PCR 11 with the words of systemd-pcrphase.service(8).
package boot

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"cloison/format/bootfacts"
	"cloison/format/cmdline"
	"cloison/format/profile"
	"cloison/linux/block"
	"cloison/linux/clock"
	"cloison/linux/devicemapper"
	"cloison/linux/efivar"
	"cloison/linux/file"
	"cloison/linux/kmsg"
	"cloison/linux/mount"
	"cloison/linux/process"
	"cloison/linux/sysctl"
	"cloison/linux/tpm"
	"cloison/linux/uevent"
	"cloison/target/refusal"
	"cloison/target/seal"
)

const (
	// Init is PID 1 in the core image.
	Init = "/usr/lib/cloison/init"

	newRoot = "/sysroot"
	mapping = "core"

	// PhasePCR is the PCR of the UKI's measurement and of the phases of the boot
	// (TPM2_PCR_KERNEL_BOOT of systemd).
	PhasePCR = 11
	// StatePCR is the PCR of the state volume's identity (TPM2_PCR_SYSTEM_IDENTITY
	// of systemd).
	StatePCR = 15

	// Where systemd-stub(7) puts the UKI's .pcrpkey and .pcrsig.
	stubKey       = "/.extra/tpm2-pcr-public-key.pem"
	stubSignature = "/.extra/tpm2-pcr-signature.json"
	// Likewise its .profile: what was chosen in the loader's menu.
	stubProfile = "/.extra/profile"

	tpmDeadline  = 10 * time.Second
	diskDeadline = 5 * time.Second
)

// mounts is what the initramfs needs, in this order.
var mounts = []struct{ kind, at, options string }{
	{"devtmpfs", "/dev", "nosuid,noexec,mode=0755"}, // first: the log is here
	{"proc", "/proc", "nosuid,nodev,noexec"},
	{"sysfs", "/sys", "nosuid,nodev,noexec,ro"},
	{"tmpfs", "/run", "nosuid,nodev,noexec,mode=0755,size=16m"},
	{"efivarfs", efivar.Dir, "nosuid,nodev,noexec,ro"},
}

type machine struct {
	log     *kmsg.Log
	verdict refusal.Verdict
	tpm     *tpm.TPM
	events  *uevent.Socket
	profile profile.Profile
	// What the signed command line says: the state volume opens by a passphrase.
	// Then tpm may be nil.
	byPassphrase bool
}

// Main is the initramfs. It does not return.
func Main() {
	start := clock.SinceBoot()
	m := &machine{verdict: refusal.Verdict{Why: "the loader's counter was not read yet"}}
	var reason any
	func() {
		defer func() {
			if p := recover(); p != nil {
				reason = fmt.Sprintf("internal error: %v", p)
			}
		}()
		reason = m.run(start)
	}()
	if m.log == nil {
		fmt.Fprintf(os.Stderr, "cloison: refused: %v\n", reason) // the kernel opened the console for us, where it could
		refusal.Refuse(nil, reason, m.verdict)
	}
	refusal.Refuse(m.log, reason, m.verdict)
}

func (m *machine) say(format string, args ...any) {
	if err := m.log.Printf(kmsg.Warning, "cloison: %.3f s: %s", clock.SinceBoot().Seconds(), fmt.Sprintf(format, args...)); err != nil {
		panic(err) // whoever cannot be heard must not go on
	}
}

// run boots; it returns only with the reason not to.
func (m *machine) run(start time.Duration) error {
	if os.Getpid() != 1 {
		return errors.New("the initramfs's init must be the first process")
	}

	// 1. Look at our own tree, before mounts hide parts of it. The loader's stub
	// appends to it what lies beside it on the ESP, which nobody has signed.
	errTree := checkTree(os.DirFS("/"))

	// 2. Mount, and find our voice. A failure of step 1 is said only now.
	if err := m.mount(); err != nil {
		return err
	}
	if errTree != nil {
		return errTree
	}

	// 3. Read what is signed. All that follows hangs on it.
	core, text, err := readCommandLine()
	if err != nil {
		return err
	}
	m.say("initramfs of %s", core.Version)
	m.byPassphrase = core.Passphrase
	if m.profile, err = readProfile(); err != nil {
		return err
	}
	if m.profile == profile.Recovery {
		m.say("recovery boot: the recovery passphrase opens the state volume, nothing else does")
	}

	// 4. Without Secure Boot nothing above this line means anything.
	vars := efivar.Store{Dir: efivar.Dir}
	if err := checkSecureBoot(vars); err != nil {
		return err
	}

	// 5. Hear of devices before looking for them.
	if m.events, err = uevent.Open(); err != nil {
		return err
	}
	defer m.events.Close() // only read from

	// 6. Measure that the initramfs runs, before acting on anything from the
	// disk: secrets sealed to this phase are out of reach of what comes later.
	if err := m.openTPM(); err != nil {
		return err
	}
	if m.tpm != nil {
		defer m.tpm.Close() // each command is answered before the next
	}
	if err := m.extend(PhasePCR, []byte("enter-initrd")); err != nil {
		return err
	}

	// 7. What reached the kernel or the initramfs besides the UKI was measured.
	if m.tpm != nil {
		if err := checkUnsigned(m.tpm, m.profile); err != nil {
			return err
		}
	}

	// 8. Find the partition that holds the signed root hash.
	slot, err := waitSlot(sysfs{}, m.events, core, diskDeadline)
	if err != nil {
		return err
	}
	m.say("core %s found in slot %s (%s)", core.Version, slot.Label, slot.Device)

	// 9. Let the kernel check every block of it from here on.
	node, err := devicemapper.CreateReadOnly(mapping, "CLOISON-"+mapping, devicemapper.Verity{
		Device: slot.Device, DataBlocks: core.DataBlocks, HashOffset: core.HashOffset,
		FECOffset: core.FECOffset, FECRoots: core.FECRoots, RootHash: core.RootHash, Salt: core.Salt,
	}.Target())
	if err != nil {
		return err
	}
	if err := os.MkdirAll(newRoot, 0o755); err != nil {
		return fmt.Errorf("cannot make the new root's place: %w", err)
	}
	if err := mount.Mount(node, newRoot, "erofs", "ro,nodev,nosuid"); err != nil {
		return err
	}
	opened := clock.SinceBoot()
	if err := prefetch(newRoot + filepath.Dir(Init)); err != nil {
		return fmt.Errorf("cannot start the core: %w", err)
	}
	m.say("core open under dm-verity (%s), root hash %x", node, core.RootHash)

	// 10. Open the state volume: the TPM gives its key to the phase that we
	// are in, and to no other. On the first boot, make it. In a recovery boot the
	// recovery passphrase opens it. Some products ask for a passphrase instead.
	if err := showTools(); err != nil {
		return err
	}
	facts := bootfacts.Facts{
		Command: text, Slot: slot.Label, Device: slot.Device, ESP: slot.ESP,
		Verity: node, Mapping: mapping, GPTBackup: slot.GPTBackup, Measured: m.tpm != nil, Swap: cmp.Or(slot.Swap, bootfacts.NoSwap), Initramfs: start, Opened: opened,
	}
	if err := m.openState(slot, &facts); err != nil {
		return err
	}

	if err := hideTools(); err != nil {
		return err
	}

	// 11. Close the initramfs's phase. From here on nothing can be unsealed that
	// only the initramfs may have.
	if err := m.extend(PhasePCR, []byte("leave-initrd")); err != nil {
		return err
	}

	// 12. Leave PID 1 a note: it cannot find these out again.
	if err := m.writeNote(facts); err != nil {
		return err
	}

	// 13. Become PID 1 of the core.
	if err := enter(); err != nil {
		return err
	}
	return process.Exec(Init, nil)
}

// prefetch has PID 1, the launcher and the services come into memory, verified,
// while we wait for the TPM.
func prefetch(programs string) error {
	return filepath.WalkDir(programs, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		return file.Prefetch(path)
	})
}

func (m *machine) mount() error {
	for i, t := range mounts {
		// efivarfs has its place in sysfs, where there is UEFI.
		if t.kind != "efivarfs" {
			if err := os.MkdirAll(t.at, 0o755); err != nil {
				return fmt.Errorf("cannot make %s: %w", t.at, err)
			}
		}
		err := mount.Mount(t.kind, t.at, t.kind, t.options)
		if err != nil && t.kind == "efivarfs" {
			return fmt.Errorf("this machine was not started by UEFI: %w", err)
		}
		if err != nil {
			return err
		}
		if i == 0 {
			if m.log, err = kmsg.Open(); err != nil {
				return err
			}
		}
		if t.kind == "proc" {
			// The kernel would drop all but ten of our lines in five seconds,
			// and print none but errors.
			err1 := sysctl.Set("/proc/sys", "kernel.printk_devkmsg", "on")
			err2 := sysctl.Set("/proc/sys", "kernel.printk", kmsg.ConsoleLevels)
			if err := errors.Join(err1, err2); err != nil {
				return err
			}
		}
	}
	m.verdict = refusal.Judge(efivar.Store{Dir: efivar.Dir})
	return nil
}

func readCommandLine() (cmdline.Core, string, error) {
	b, err := os.ReadFile("/cmdline")
	if err != nil {
		return cmdline.Core{}, "", fmt.Errorf("cannot read the signed command line: %w", err)
	}
	core, err := cmdline.Parse(string(b))
	return core, string(b), err
}

// readProfile tells which profile of the UKI was chosen. It is as signed as the
// rest, and in PCR 11: a recovery boot cannot pass for another.
func readProfile() (profile.Profile, error) {
	b, err := os.ReadFile(stubProfile)
	if err != nil {
		return profile.Recovery, fmt.Errorf("cannot tell the profile of the UKI: %w", err)
	}
	return profile.Parse(b)
}

// openTPM opens the TPM. Without one no boot goes on, but that of a product
// whose state volume a passphrase opens: that one is then not measured, and with
// a TPM it is measured and nothing else.
func (m *machine) openTPM() (err error) {
	if !m.byPassphrase {
		m.tpm, err = waitTPM(m.events)
		return err
	}
	named, err := tpm.Named()
	if err != nil {
		return err
	}
	if !named {
		m.say("no TPM: this boot is not measured; nothing binds the state volume to this machine or stops an older release")
		return nil
	}
	if m.tpm, err = waitTPM(m.events); err != nil {
		return err
	}
	m.say("the TPM measures this boot and keeps nothing of the state volume: nothing binds it to this machine or stops an older release")
	// A machine whose TPM has a volume's key runs no product that makes do
	// without it, or who holds the machine could choose that it does.
	marked, err := seal.Marked(m.tpm)
	if err == nil && marked {
		err = errors.New("this TPM keeps the key of a state volume, and this product asks for a passphrase: to use it here, clear the TPM in the firmware's menu first")
	}
	return err
}

// extend measures, where there is a TPM.
func (m *machine) extend(index int, data []byte) error {
	if m.tpm == nil {
		return nil
	}
	return m.tpm.Extend(index, data)
}

func waitTPM(events announcements) (*tpm.TPM, error) {
	end := time.Now().Add(tpmDeadline)
	for {
		t, err := tpm.Open(tpm.Node)
		if !errors.Is(err, os.ErrNotExist) {
			return t, err
		}
		if err := events.Wait(time.Until(end)); err != nil {
			return nil, fmt.Errorf("cannot find a TPM 2.0, without which the system does not start: it may be off in the firmware's menu: %w", err)
		}
	}
}

// sysfs is the machine's disks.
type sysfs struct{}

func (sysfs) Disks() ([]block.Disk, error)                      { return block.Disks() }
func (sysfs) Partitions(disk string) ([]block.Partition, error) { return block.Partitions(disk) }
func (sysfs) Open(node string) (block.Device, error)            { return block.Open(node) }

func (m *machine) writeNote(f bootfacts.Facts) error {
	err := os.MkdirAll(filepath.Dir(bootfacts.Note), 0o755)
	if err == nil {
		err = os.WriteFile(bootfacts.Note, []byte(f.String()), 0o400)
	}
	// What the stub took from the UKI for the TPM goes along: PID 1 raises the
	// TPM's floor with it.
	files := map[string]string{stubKey: bootfacts.PolicyKey, stubSignature: bootfacts.PolicySignature}
	if m.byPassphrase {
		files = nil // nothing is signed for a TPM
	}
	for from, to := range files {
		var b []byte
		if err == nil {
			b, err = os.ReadFile(from)
		}
		if err == nil {
			err = os.WriteFile(to, b, 0o400)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot leave a note for PID 1: %w", err)
	}
	return nil
}

// enter makes the core the root. PID 1 sets its own options on what goes along,
// and mounts the rest. The EFI variables go along with /sys: who mounts them
// reads each from the firmware, in System Management Mode.
func enter() error {
	if err := mount.Unmount("/proc"); err != nil {
		return err
	}
	for _, at := range []string{"/dev", "/run", "/sys"} {
		if err := mount.Move(at, newRoot+at); err != nil {
			return err
		}
	}
	if err := emptyRoot(); err != nil {
		return err
	}
	return mount.SwitchRoot(newRoot)
}

// emptyRoot deletes the initramfs, to give its memory back. It stops where
// another file system begins, and does nothing unless the root is in memory.
func emptyRoot() error {
	inMemory, err := mount.Temporary("/")
	if err != nil || !inMemory {
		return errors.Join(errors.New("cannot empty the initramfs: the root is not in memory"), err)
	}
	root, err := mount.Device("/")
	if err != nil {
		return err
	}
	entries, err := os.ReadDir("/")
	if err != nil {
		return fmt.Errorf("cannot empty the initramfs: %w", err)
	}
	for _, e := range entries {
		path := "/" + e.Name()
		on, err := mount.Device(path)
		if err != nil {
			return err
		}
		if on != root {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("cannot empty the initramfs: %w", err)
		}
	}
	return nil
}
