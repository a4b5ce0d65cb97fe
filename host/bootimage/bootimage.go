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

	"cloison/format/pcr"
	"cloison/format/pcrsig"
	"cloison/format/uki"
	"cloison/host/keys"
	"cloison/host/sdk"
)

// Image is a signed UKI.
type Image struct {
	Data   []byte
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
	policyKey, err := keys.PublicKeyPEM(store, keys.Policy)
	if err != nil {
		return nil, err
	}
	sections := []uki.Section{
		{Name: ".osrel", Data: []byte(parts.OSRelease)},
		{Name: ".cmdline", Data: []byte(parts.Cmdline)},
		{Name: ".uname", Data: []byte(parts.Release)},
		{Name: ".pcrpkey", Data: policyKey},
		{Name: ".initrd", Data: parts.Initramfs},
		{Name: ".linux", Data: kernel},
	}
	// Built twice: what is signed for the TPM says what the stub will measure of
	// the finished image, its own sections too, and is itself not measured.
	measured, err := build(stub, sections)
	if err != nil {
		return nil, err
	}
	image := &Image{PCR11: pcr.UKI(measured.sections)}
	path := ""
	for _, phase := range phases {
		image.PCR11 = pcr.Phases(image.PCR11, phase)
		if path != "" {
			path += ":"
		}
		path += phase
		image.Phases = append(image.Phases, Phase{path, image.PCR11})
	}
	signer, err := store.Signer(keys.Policy)
	if err != nil {
		return nil, err
	}
	signed, err := pcrsig.Sign(signer, image.Phases[0].PCR11, parts.SecurityVersion, parts.Floor)
	if err != nil {
		return nil, err
	}
	whole, err := build(stub, append(sections, uki.Section{Name: ".pcrsig", Data: signed.Print()}))
	if err != nil {
		return nil, err
	}
	if pcr.UKI(whole.sections) != pcr.UKI(measured.sections) {
		return nil, errors.New("internal error: the signature for the TPM changes what is signed")
	}
	if image.Data, err = keys.SignPE(store, whole.pe); err != nil {
		return nil, fmt.Errorf("cannot sign the UKI: %w", err)
	}
	return image, nil
}

// assembled is an unsigned UKI and what is in it.
type assembled struct {
	pe       []byte
	sections []uki.Section
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
	return assembled{pe, all}, nil
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
