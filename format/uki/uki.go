// Package uki assembles and reads Unified Kernel Images: systemd-stub with
// the kernel, the initramfs and the command line as further PE sections. It
// needs the stub's bytes and gives the same image for the same input.
//
// Source: UAPI.5 "Unified Kernel Image"; systemd-stub(7); Microsoft, "PE
// Format".
package uki

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"cloison/format/pecoff"
)

// Section is one part of the image: its name with the leading dot, its bytes.
type Section struct {
	Name string
	Data []byte
}

// Names are the sections that Cloison puts in an image or finds in one.
var Names = []string{
	".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash",
	".uname", ".sbat", ".pcrsig", ".pcrpkey", ".profile",
}

// The stub acts on these as well, but picks among several by the machine's
// hardware: what it would measure cannot be told from the image alone.
var refused = []string{".dtb", ".dtbauto", ".hwids", ".efifw"}

// Sections of the stub program itself.
var ownSections = []string{".text", ".rodata", ".data", ".reloc", ".sdmagic"}

// Characteristics of PE sections.
const (
	cntCode            = 0x00000020
	cntInitializedData = 0x00000040
	memRead            = 0x40000000

	nxCompat = 0x0100 // DllCharacteristics
)

// separator begins a profile: it holds what the profile is called, and the
// sections up to the next one belong to it alone (systemd-stub(7), "Profiles").
const separator = ".profile"

// Build appends the sections to the stub, in the order given, and returns
// the unsigned image. It refuses a signed stub, a name that is not one of
// Names, a name twice in one profile or before the first (also one that the
// stub has already, as .sbat), and an image without .linux before the first.
func Build(stub []byte, sections []Section) ([]byte, error) {
	m, err := pecoff.Parse(stub)
	if err != nil {
		return nil, fmt.Errorf("cannot read the stub: %w", err)
	}
	if m.CertificateSize != 0 {
		return nil, errors.New("cannot extend the stub: it is signed")
	}
	if m.End() != len(stub) || m.End()%int(m.FileAlignment) != 0 {
		return nil, fmt.Errorf("cannot extend the stub: %d bytes follow its last section", len(stub)-m.End())
	}
	if err := checkNames(m, sections); err != nil {
		return nil, err
	}
	out, err := growHeaders(stub, m, len(sections))
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if m, err = pecoff.Parse(out); err != nil {
		return nil, fmt.Errorf("internal error: cannot read the stub with grown headers: %w", err)
	}
	table := m.SectionTable + len(m.Sections)*pecoff.HeaderSize
	last := m.Sections[len(m.Sections)-1]
	address := alignUp(int(last.VirtualAddress)+int(max(last.VirtualSize, 1)), m.SectionAlignment)
	size, memory := len(out), address
	for _, s := range sections {
		size += alignUp(len(s.Data), m.FileAlignment)
		memory += alignUp(len(s.Data), m.SectionAlignment)
	}
	if size > 1<<31 || memory > 1<<31 {
		return nil, fmt.Errorf("image of %d bytes in the file and %d in memory is too large, the limit is 2 GiB", size, memory)
	}

	var code, data uint32
	out = slices.Grow(out, size-len(out))
	for _, s := range sections {
		h := pecoff.Section{
			Name:             s.Name,
			VirtualSize:      uint32(len(s.Data)),
			VirtualAddress:   uint32(address),
			SizeOfRawData:    uint32(alignUp(len(s.Data), m.FileAlignment)),
			PointerToRawData: uint32(len(out)),
			Characteristics:  memRead | cntInitializedData,
		}
		if s.Name == ".linux" {
			h.Characteristics = memRead | cntCode
			code += h.SizeOfRawData
		} else {
			data += h.SizeOfRawData
		}
		copy(out[table:], h.AppendHeader(nil))
		table += pecoff.HeaderSize
		out = append(out, s.Data...)
		out = append(out, make([]byte, int(h.SizeOfRawData)-len(s.Data))...)
		address = alignUp(address+len(s.Data), m.SectionAlignment)
	}

	fh, oh := out[m.FileHeader:], out[m.OptionalHeader:]
	le.PutUint16(fh[2:], uint16(len(m.Sections)+len(sections)))
	le.PutUint32(fh[4:], 0) // TimeDateStamp: the stub's build time says nothing of this image
	le.PutUint32(oh[4:], le.Uint32(oh[4:])+code)
	le.PutUint32(oh[8:], le.Uint32(oh[8:])+data)
	le.PutUint32(oh[56:], uint32(address))
	// Firmware that enforces NX refuses an outer image whose promise the
	// kernel inside does not keep, so the promise is made only with it.
	if kernel := find(sections, ".linux"); !kernelIsNX(kernel) {
		le.PutUint16(oh[70:], le.Uint16(oh[70:])&^nxCompat)
	}
	le.PutUint32(oh[64:], 0)
	le.PutUint32(oh[64:], pecoff.CheckSum(out, m.CheckSumOffset()))
	return out, nil
}

func checkNames(m *pecoff.Image, sections []Section) error {
	seen, linux := map[string]bool{}, false
	for _, s := range m.Sections {
		seen[s.Name] = true
	}
	for _, s := range sections {
		if s.Name == separator {
			linux = linux || seen[".linux"]
			seen = map[string]bool{}
		}
		if !slices.Contains(Names, s.Name) {
			return fmt.Errorf("cannot add section %q: not a section of a unified kernel image", s.Name)
		}
		if seen[s.Name] {
			return fmt.Errorf("cannot add section %s: the image has one already", s.Name)
		}
		if len(s.Data) == 0 {
			return fmt.Errorf("cannot add section %s: it is empty", s.Name)
		}
		seen[s.Name] = true
	}
	if !linux && (!seen[".linux"] || seen[separator]) {
		return errors.New("cannot build an image without a .linux section")
	}
	if n := len(m.Sections) + len(sections); n > pecoff.MaxSections {
		return fmt.Errorf("cannot build an image with %d sections, the limit is %d", n, pecoff.MaxSections)
	}
	return nil
}

// growHeaders returns a copy of the stub whose header space takes n more
// section headers. The sections' data moves up in the file where it must;
// addresses in memory stay, because the stub's code is linked to them.
func growHeaders(stub []byte, m *pecoff.Image, n int) ([]byte, error) {
	le := binary.LittleEndian
	need := alignUp(m.SectionTable+(len(m.Sections)+n)*pecoff.HeaderSize, m.FileAlignment)
	shift := need - int(m.SizeOfHeaders)
	if shift <= 0 {
		out := bytes.Clone(stub)
		end := m.SectionTable + len(m.Sections)*pecoff.HeaderSize
		if len(bytes.Trim(out[end:m.SizeOfHeaders], "\x00")) != 0 {
			return nil, errors.New("cannot extend the stub: its header space is not empty")
		}
		return out, nil
	}
	if uint32(need) > m.Sections[0].VirtualAddress {
		return nil, fmt.Errorf("cannot extend the stub: %d bytes of headers reach into its first section", need)
	}
	if le.Uint32(stub[m.FileHeader+8:]) != 0 || le.Uint64(stub[m.DebugEntry():]) != 0 {
		return nil, errors.New("cannot extend the stub: its symbol table or debug directory would have to move")
	}
	out := make([]byte, 0, len(stub)+shift)
	out = append(out, stub[:m.SizeOfHeaders]...)
	out = append(out, make([]byte, shift)...)
	out = append(out, stub[m.SizeOfHeaders:]...)
	le.PutUint32(out[m.OptionalHeader+60:], uint32(need))
	for i, s := range m.Sections {
		if s.SizeOfRawData > 0 {
			le.PutUint32(out[m.SectionTable+i*pecoff.HeaderSize+20:], s.PointerToRawData+uint32(shift))
		}
	}
	return out, nil
}

// Parse returns the sections of a unified kernel image, signed or not, in
// file order, as the stub finds them in memory: the stub's own .sbat is one
// of them, its code is not. What one profile makes of them is for Profiles.
// Whether the file is signed by the right key is
// for package authenticode to say.
func Parse(pe []byte) ([]Section, error) {
	m, err := pecoff.Parse(pe)
	if err != nil {
		return nil, fmt.Errorf("cannot read the image: %w", err)
	}
	var out []Section
	seen, linux := map[string]bool{}, false
	for _, s := range m.Sections {
		if s.Name == separator {
			linux = linux || seen[".linux"]
			seen = map[string]bool{}
		}
		if seen[s.Name] {
			return nil, fmt.Errorf("cannot read the image: section %s is there twice", s.Name)
		}
		seen[s.Name] = true
		switch {
		case slices.Contains(Names, s.Name):
			if s.VirtualSize > s.SizeOfRawData {
				return nil, fmt.Errorf("cannot read the image: section %s has %d bytes in memory, %d in the file", s.Name, s.VirtualSize, s.SizeOfRawData)
			}
			out = append(out, Section{s.Name, s.Data(pe)})
		case slices.Contains(refused, s.Name):
			return nil, fmt.Errorf("cannot read the image: section %s depends on the machine it boots on", s.Name)
		case !slices.Contains(ownSections, s.Name):
			return nil, fmt.Errorf("cannot read the image: unknown section %q", s.Name)
		}
	}
	if !linux && (!seen[".linux"] || seen[separator]) {
		return nil, errors.New("cannot read the image: no .linux section, so it is not a unified kernel image")
	}
	return out, nil
}

// Profiles returns, of the sections that Parse found, those that the stub takes
// for each profile, the first of which is the one by default: its own, and
// those before the first profile where it has none of the name. An image
// without profiles has one.
func Profiles(sections []Section) [][]Section {
	first := slices.IndexFunc(sections, isSeparator)
	if first < 0 {
		return [][]Section{slices.Clone(sections)}
	}
	var out [][]Section
	for base, rest := sections[:first], sections[first:]; len(rest) > 0; {
		end := len(rest)
		if next := slices.IndexFunc(rest[1:], isSeparator); next >= 0 {
			end = 1 + next
		}
		var profile []Section
		for _, s := range base {
			if find(rest[:end], s.Name) == nil {
				profile = append(profile, s)
			}
		}
		out, rest = append(out, append(profile, rest[:end]...)), rest[end:]
	}
	return out
}

func isSeparator(s Section) bool { return s.Name == separator }

func find(sections []Section, name string) []byte {
	for _, s := range sections {
		if s.Name == name {
			return s.Data
		}
	}
	return nil
}

// kernelIsNX says whether the kernel's own PE header has NX_COMPAT set. A
// bzImage has sections that package pecoff finds too lax, so only the one
// field is read.
func kernelIsNX(kernel []byte) bool {
	le := binary.LittleEndian
	if len(kernel) < 64 {
		return false
	}
	pe := uint64(le.Uint32(kernel[0x3c:]))
	if pe+4+20+72 > uint64(len(kernel)) || !bytes.Equal(kernel[pe:pe+4], []byte("PE\x00\x00")) {
		return false
	}
	return le.Uint16(kernel[pe+4+20+70:])&nxCompat != 0
}

// alignUp rounds n up to a multiple of the power of two a.
func alignUp(n int, a uint32) int { return (n + int(a) - 1) &^ (int(a) - 1) }
