package verify

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"cloison/format/cmdline"
	"cloison/format/cpio"
	"cloison/format/gpt"
	"cloison/format/osrelease"
	"cloison/format/pcr"
	"cloison/format/pcrsig"
	"cloison/format/profile"
	"cloison/format/release"
	"cloison/format/uki"
)

// maxInitramfs bounds the unpacked initramfs, in bytes.
const maxInitramfs = 512 << 20

// ukiSections are those that a UKI of Cloison may have. The first five it must
// have; .sbat is the stub's own.
var ukiSections = []string{".linux", ".initrd", ".cmdline", ".osrel", ".uname", ".sbat", ".pcrpkey", ".pcrsig", ".profile"}

const neededSections = 5 // the ones of the TPM policy have a check of their own

// phases are those of a boot, in order.
var phases = []string{pcr.EnterInitrd, pcr.LeaveInitrd, pcr.SysInit, pcr.Ready}

// boot checks a UKI and the slot that it starts.
func (v *verifier) boot(name string, image []byte, disk io.ReaderAt, partitions map[string]gpt.Partition) {
	sections, err := uki.Parse(image)
	profiles := uki.Profiles(sections)
	content := contents(profiles[0])
	core, errLine := cmdline.Parse(string(content[".cmdline"]))
	if err == nil {
		err = v.ukiSections(name, image, content, core)
	}
	v.record(UKI, name, err, "%d bytes, %s", len(image), strings.TrimSpace(string(content[".uname"])))
	if errLine == nil && v.manifest != nil {
		errLine = v.sameCore(string(content[".cmdline"]), core)
	}
	v.record(CommandLine, name, errLine, "%s", core)
	if core.Development {
		v.note("DEVELOPMENT BUILD: %s is signed with keys that prove nothing", name)
	}
	v.record(Profiles, name, sameButName(profiles), "main, recovery: they differ in nothing but their name")
	registers := pcr.UKI(profiles[0])
	v.record(PCR11, name, v.measured(registers, func(u release.UKI) release.Measured { return u.Measured }), "%x when ready", pcr.Phases(registers, phases...))
	if len(profiles) > 1 {
		recovery := pcr.UKI(profiles[1])
		v.record(PCR11, name+" (recovery)", v.measured(recovery, func(u release.UKI) release.Measured { return u.Recovery }), "%x when ready", pcr.Phases(recovery, phases...))
	}
	v.unlock(name, core, registers, content)
	v.initramfs(name, content[".initrd"], content[".cmdline"])
	if errLine != nil {
		v.record(Slot, name, errNotReached(CommandLine), "")
		return
	}
	v.core(name, core, disk, partitions)
}

// ukiSections checks the parts of a UKI against each other and the manifest.
func (v *verifier) ukiSections(name string, image []byte, content map[string][]byte, core cmdline.Core) error {
	for section := range content {
		if !slices.Contains(ukiSections, section) {
			return fmt.Errorf("an unexpected section %s", section)
		}
	}
	for _, section := range ukiSections[:neededSections] {
		if len(content[section]) == 0 {
			return fmt.Errorf("no section %s", section)
		}
	}
	says, err := osrelease.Parse(string(content[".osrel"]))
	if err != nil {
		return fmt.Errorf(".osrel: %w", err)
	}
	called := ukiPath.FindStringSubmatch(name)[1]
	development := says.Get("VARIANT_ID") == "development"
	switch {
	case says.Get("ID") != "cloison" || says.Get("VERSION_ID") != core.Version || called != core.Version:
		return fmt.Errorf("the file is called %s, .osrel says %s %s, the command line %s", called, says.Get("ID"), says.Get("VERSION_ID"), core.Version)
	case development != core.Development:
		return fmt.Errorf("development build: .osrel says %v, the command line %v", development, core.Development)
	case (says.Get("CLOISON_UNLOCK") == release.Passphrase) != core.Passphrase:
		return fmt.Errorf("a passphrase opens the state volume: .osrel says %q, the command line %v", says.Get("CLOISON_UNLOCK"), core.Passphrase)
	case v.manifest == nil:
		return nil
	case (v.manifest.Unlock == release.Passphrase) != core.Passphrase:
		return fmt.Errorf("a passphrase opens the state volume: the manifest says %q, the command line %v", v.manifest.Unlock, core.Passphrase)
	case !bytes.Equal(image, v.uki):
		return fmt.Errorf("it is not the UKI that stands beside the disk")
	case core.Version != v.manifest.Version || development != v.manifest.Development:
		return fmt.Errorf("version %s, development %v; the manifest has %s, %v", core.Version, development, v.manifest.Version, v.manifest.Development)
	case says.Get("CLOISON_PRODUCT") != v.manifest.Product || says.Get("CLOISON_HARDWARE") != v.manifest.Hardware ||
		says.Get("CLOISON_SECURITY_VERSION") != fmt.Sprint(v.manifest.SecurityVersion):
		return errors.New("product, hardware or security version in .osrel are not those of the manifest")
	}
	return nil
}

// sameButName checks that the profiles are those that /init knows, and that they
// have all in common but how they are called: what is checked of one holds for
// the other.
func sameButName(profiles [][]uki.Section) error {
	if len(profiles) != len(profile.All) {
		return fmt.Errorf("it has %d profiles, want %d", len(profiles), len(profile.All))
	}
	main := contents(profiles[0])
	release, err := osrelease.Parse(string(main[".osrel"]))
	if err != nil {
		return fmt.Errorf(".osrel: %w", err)
	}
	for i, sections := range profiles {
		want := maps.Clone(main)
		want[".profile"], want[".osrel"] = []byte(profile.All[i].String()), []byte(profile.All[i].OSRelease(release).String())
		if !maps.EqualFunc(contents(sections), want, bytes.Equal) {
			return fmt.Errorf("profile %d is not %q, or differs in more than its name", i, profile.All[i])
		}
	}
	return nil
}

func contents(sections []uki.Section) map[string][]byte {
	m := map[string][]byte{}
	for _, s := range sections {
		m[s.Name] = s.Data
	}
	return m
}

// sameCore holds the signed command line against the manifest.
func (v *verifier) sameCore(line string, core cmdline.Core) error {
	m := v.manifest.Core
	switch {
	case line != v.manifest.UKI.Cmdline:
		return fmt.Errorf("it is %q, the manifest has %q", line, v.manifest.UKI.Cmdline)
	case hex.EncodeToString(core.RootHash[:]) != m.RootHash || hex.EncodeToString(core.Salt[:]) != m.Salt ||
		core.DataBlocks != m.DataBlocks || core.HashOffset != m.HashOffset || core.FECOffset != m.FECOffset || core.FECRoots != m.FECRoots:
		return fmt.Errorf("it names another core than the manifest: %s", core)
	}
	return nil
}

// measured holds PCR 11 at each phase against what the manifest has of a profile.
func (v *verifier) measured(start [32]byte, of func(release.UKI) release.Measured) error {
	if v.manifest == nil {
		return nil
	}
	manifest := of(v.manifest.UKI)
	said := manifest.PhasesPCR11
	if len(said) != len(phases) {
		return fmt.Errorf("the manifest has %d phases, want %d", len(said), len(phases))
	}
	for i, phase := range said {
		path := strings.Join(phases[:i+1], ":")
		want := pcr.Phases(start, phases[:i+1]...)
		if phase.Path != path || phase.PCR11 != hex.EncodeToString(want[:]) {
			return fmt.Errorf("after %s it is %x, the manifest has %s after %s", path, want, phase.PCR11, phase.Path)
		}
	}
	if last := said[len(said)-1].PCR11; last != manifest.PCR11 {
		return fmt.Errorf("the manifest has %s, and %s after the last phase", manifest.PCR11, last)
	}
	return nil
}

// unlock checks what machines give the state volume to.
func (v *verifier) unlock(name string, core cmdline.Core, start [32]byte, content map[string][]byte) {
	if !core.Passphrase {
		signed, err := v.tpmPolicy(start, content[".pcrpkey"], content[".pcrsig"])
		v.record(TPMPolicy, name, err, "security version %d, floor %d", signed.SecurityVersion, signed.Floor)
		return
	}
	var err error
	for _, section := range []string{".pcrpkey", ".pcrsig"} {
		if _, ok := content[section]; ok {
			err = fmt.Errorf("a passphrase opens the state volume, and there is a section %s for a TPM", section)
		}
	}
	v.record(TPMPolicy, name, err, "none: a passphrase opens the state volume, no rollback floor, no binding to the machine")
	v.note("NO TPM: %s opens its state volume by a passphrase; no TPM binds it to the machine, and none stops an older release or tells a first boot from an emptied disk", name)
}

// tpmPolicy checks that machines will give the state volume to this UKI, and to
// no other: that the policy key signed what the stub will measure.
func (v *verifier) tpmPolicy(start [32]byte, key, signature []byte) (pcrsig.Signed, error) {
	public, err := pcrsig.ParseKey(key)
	if err != nil {
		return pcrsig.Signed{}, err
	}
	signed, err := pcrsig.Parse(signature)
	if err != nil {
		return signed, err
	}
	if err := signed.Verify(public); err != nil {
		return signed, err
	}
	if v.Policy == nil {
		v.note("who signed the TPM policy is not compared: that needs policy.pem")
	} else if !public.Equal(v.Policy.PublicKey) {
		return signed, errors.New("it is signed by another policy key")
	}
	if want := pcr.Phases(start, pcr.EnterInitrd); signed.PCR11 != want {
		return signed, fmt.Errorf("it is signed for PCR 11 %x, the image gives %x", signed.PCR11, want)
	}
	if v.manifest != nil && signed.SecurityVersion != v.manifest.SecurityVersion {
		return signed, fmt.Errorf("it is signed for security version %d, the manifest has %d", signed.SecurityVersion, v.manifest.SecurityVersion)
	}
	return signed, nil
}

// initramfs checks the archive in a UKI.
func (v *verifier) initramfs(name string, compressed, line []byte) {
	files, err := unpack(compressed)
	if err != nil {
		v.record(Initramfs, name, err, "")
		return
	}
	var init, copied []byte
	for _, f := range files {
		switch f.Name {
		case "init":
			init = f.Data
		case "cmdline":
			copied = f.Data
		}
		if mode := f.Mode; err == nil && mode != cpio.Directory|0o555 && mode != cpio.Regular|0o555 && mode != cpio.Regular|0o444 {
			err = fmt.Errorf("/%s has the mode %#o", f.Name, mode)
		}
	}
	if err == nil && init == nil {
		err = errors.New("there is no /init")
	}
	v.record(Initramfs, name, err, "%d files and folders, none writable or special", len(files))
	if !bytes.Equal(copied, line) {
		err = fmt.Errorf("it is %q, .cmdline is %q", copied, line)
	} else {
		err = nil
	}
	v.record(CommandLine, "initramfs /cmdline", err, "the same as .cmdline")
	t := newTree("initramfs")
	for _, f := range files {
		if f.Mode&^0o7777 == cpio.Regular {
			t.file(f.Name, f.Mode&0o111 != 0, bytes.NewReader(f.Data))
		} else {
			t.name(f.Name)
		}
	}
	t.record(v)
}

// unpack reads a compressed archive.
func unpack(compressed []byte) ([]cpio.File, error) {
	r, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxInitramfs), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	archive, err := r.DecodeAll(compressed, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot decompress it: %w", err)
	}
	files, _, err := cpio.Read(archive)
	return files, err
}
