// Package bootimage makes what the firmware starts: the initramfs and the
// unified kernel image around it, signed, and the signed boot loader. It
// needs systemd-stub and systemd-boot from the SDK.
//
// Source: UAPI group, Unified Kernel Image; package uki.
package bootimage

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"cloison/format/osrelease"
	"cloison/format/pcr"
	"cloison/format/pcrsig"
	"cloison/format/profile"
	"cloison/format/uki"
	"cloison/host/keys"
	"cloison/host/sdk"
)

// Image is a signed UKI: one file, which the loader's menu offers once for each
// profile.
type Image struct {
	Data           []byte
	Main, Recovery Measured // by profile
}

// Measured is what a profile leaves in the TPM.
type Measured struct {
	PCR11  [32]byte // once the system is up
	Phases []Phase
}

// Phase is the value of PCR 11 after a path of phases.
type Phase struct {
	Path  string
	PCR11 [32]byte
}

// phases are extended into PCR 11 in this order on the way up.
var phases = []string{pcr.EnterInitrd, pcr.LeaveInitrd, pcr.SysInit, pcr.Ready}

// Parts are what a UKI is made from.
type Parts struct {
	Kernel    string // path of the bzImage
	Release   string // what uname -r will say
	Initramfs []byte
	Cmdline   string
	OSRelease string

	SecurityVersion, Floor uint64 // for the TPM: format/pcrsig
	Passphrase             bool   // a person opens the state volume: nothing is signed for a TPM
}

// Make assembles and signs a UKI, and predicts what it does to PCR 11.
func Make(s *sdk.SDK, store keys.Store, parts Parts) (*Image, error) {
	stub, err := os.ReadFile(s.Path("usr/lib/systemd/boot/efi/linuxx64.efi.stub"))
	if err != nil {
		return nil, err
	}
	kernel, err := os.ReadFile(parts.Kernel)
	if err != nil {
		return nil, err
	}
	sections := []uki.Section{
		{Name: ".osrel", Data: []byte(parts.OSRelease)},
		{Name: ".cmdline", Data: []byte(parts.Cmdline)},
		{Name: ".uname", Data: []byte(parts.Release)},
		{Name: ".initrd", Data: parts.Initramfs},
		{Name: ".linux", Data: kernel},
	}
	if !parts.Passphrase {
		policyKey, err := keys.PublicKeyPEM(store, keys.Policy)
		if err != nil {
			return nil, err
		}
		sections = slices.Insert(sections, 3, uki.Section{Name: ".pcrpkey", Data: policyKey})
	}
	release, err := osrelease.Parse(parts.OSRelease)
	if err != nil {
		return nil, err
	}
	// A profile differs from another in how it is called, and so in PCR 11.
	var profiles []uki.Section
	for _, p := range profile.All {
		profiles = append(profiles, uki.Section{Name: ".profile", Data: []byte(p.String())})
		if own := p.OSRelease(release).String(); own != parts.OSRelease {
			profiles = append(profiles, uki.Section{Name: ".osrel", Data: []byte(own)})
		}
	}
	// Built twice: what is signed for the TPM says what the stub will measure of
	// the finished image, its own sections too, and is itself not measured.
	measured, err := build(stub, slices.Concat(sections, profiles))
	if err != nil {
		return nil, err
	}
	image := &Image{Main: measured.measure(profile.Main), Recovery: measured.measure(profile.Recovery)}
	pe := measured.pe
	if !parts.Passphrase {
		if pe, err = signMeasured(store, parts, stub, sections, profiles, image); err != nil {
			return nil, err
		}
	}
	if image.Data, err = keys.SignPE(store, pe); err != nil {
		return nil, fmt.Errorf("cannot sign the UKI: %w", err)
	}
	return image, nil
}

// signMeasured assembles the UKI again, with what is signed for the TPM.
func signMeasured(store keys.Store, parts Parts, stub []byte, sections, profiles []uki.Section, image *Image) ([]byte, error) {
	signer, err := store.Signer(keys.Policy)
	if err != nil {
		return nil, err
	}
	// Signed is only what the main profile may have. The recovery profile gets
	// the same section: what it needs of it is to make the floor.
	signed, err := pcrsig.Sign(signer, image.Main.Phases[0].PCR11, parts.SecurityVersion, parts.Floor)
	if err != nil {
		return nil, err
	}
	whole, err := build(stub, slices.Concat(sections, []uki.Section{{Name: ".pcrsig", Data: signed.Print()}}, profiles))
	if err != nil {
		return nil, err
	}
	if !reflect.DeepEqual(whole.measure(profile.Main), image.Main) || !reflect.DeepEqual(whole.measure(profile.Recovery), image.Recovery) {
		return nil, errors.New("internal error: the signature for the TPM changes what is signed")
	}
	return whole.pe, nil
}

// assembled is an unsigned UKI and what is in each of its profiles.
type assembled struct {
	pe       []byte
	profiles [][]uki.Section
}

// measure predicts PCR 11.
func (a assembled) measure(p profile.Profile) (m Measured) {
	m.PCR11 = pcr.UKI(a.profiles[slices.Index(profile.All, p)])
	for i, phase := range phases {
		m.PCR11 = pcr.Phases(m.PCR11, phase)
		m.Phases = append(m.Phases, Phase{strings.Join(phases[:i+1], ":"), m.PCR11})
	}
	return m
}

func build(stub []byte, sections []uki.Section) (assembled, error) {
	pe, err := uki.Build(stub, sections)
	if err != nil {
		return assembled{}, fmt.Errorf("cannot assemble the UKI: %w", err)
	}
	all, err := uki.Parse(pe)
	if err != nil {
		return assembled{}, fmt.Errorf("internal error: cannot read back the UKI: %w", err)
	}
	return assembled{pe, uki.Profiles(all)}, nil
}

// Loader returns systemd-boot, signed.
func Loader(s *sdk.SDK, store keys.Store) ([]byte, error) {
	loader, err := os.ReadFile(s.Path("usr/lib/systemd/boot/efi/systemd-bootx64.efi"))
	if err != nil {
		return nil, err
	}
	signed, err := keys.SignPE(store, loader)
	if err != nil {
		return nil, fmt.Errorf("cannot sign the loader: %w", err)
	}
	return signed, nil
}
