// Package pecoff reads the headers of PE32+ images for x86-64, the form of
// every program that UEFI firmware loads. It is strict where a loader and a
// signature checker could otherwise disagree: sections lie in file order,
// inside the file, without gap or overlap. It needs the whole image in memory.
//
// Source: Microsoft, "PE Format", sections "COFF File Header", "Optional
// Header" and "Section Table"; UEFI 2.10, section 2.1.1.
package pecoff

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Sizes and offsets in bytes; offsets of fields are relative to the header
// that holds them.
const (
	offsetOfPE         = 0x3c // in the DOS header: file offset of "PE\0\0"
	fileHeaderSize     = 20
	optionalHeaderSize = 240 // PE32+ with all 16 data directories
	sectionHeaderSize  = 40
	magicPE32Plus      = 0x20b
	machineAMD64       = 0x8664

	// HeaderSize is what one more section takes in the section table, in bytes.
	HeaderSize = sectionHeaderSize
	// MaxSections is the highest number of sections that a loader must accept.
	MaxSections = 96
)

// Section is one row of the section table. All numbers are bytes; addresses
// are relative to the image base, pointers to the start of the file.
type Section struct {
	Name             string // at most 8 bytes, without the padding NULs
	VirtualSize      uint32
	VirtualAddress   uint32
	SizeOfRawData    uint32
	PointerToRawData uint32
	Characteristics  uint32
}

// Image says where the parts of a PE image are.
type Image struct {
	FileHeader       int // file offset of the COFF file header (after "PE\0\0")
	OptionalHeader   int // file offset of the optional header
	SectionTable     int // file offset of the first section header
	SectionAlignment uint32
	FileAlignment    uint32
	SizeOfImage      uint32
	SizeOfHeaders    uint32
	Sections         []Section
	// Certificates is the attribute certificate table: the signatures. Both
	// numbers are zero where the image has none.
	CertificateOffset, CertificateSize uint32
}

// CheckSumOffset is the file offset of the 4-byte CheckSum field.
func (m *Image) CheckSumOffset() int { return m.OptionalHeader + 64 }

// CertificateEntry is the file offset of the 8-byte data directory entry of
// the certificate table.
func (m *Image) CertificateEntry() int { return m.directory(4) }

// DebugEntry is the file offset of the 8-byte data directory entry of the
// debug directory, the only other one that holds file offsets further on.
func (m *Image) DebugEntry() int { return m.directory(6) }

func (m *Image) directory(i int) int { return m.OptionalHeader + 112 + 8*i }

// End is the file offset after the last byte of headers and sections.
func (m *Image) End() int {
	end := m.SizeOfHeaders
	for _, s := range m.Sections {
		if s.SizeOfRawData > 0 {
			end = max(end, s.PointerToRawData+s.SizeOfRawData)
		}
	}
	return int(end)
}

// Data returns the bytes of the section that the file b holds and the loader
// maps: at most VirtualSize. b is the image that s was read from.
func (s Section) Data(b []byte) []byte {
	n := uint64(min(s.VirtualSize, s.SizeOfRawData))
	start := uint64(s.PointerToRawData)
	return b[start : start+n : start+n]
}

// Parse reads the headers of the image b.
func Parse(b []byte) (*Image, error) {
	if len(b) < 64 || b[0] != 'M' || b[1] != 'Z' {
		return nil, errors.New("not a PE image: no MZ header")
	}
	if uint64(len(b)) > 1<<31 {
		return nil, fmt.Errorf("PE image of %d bytes is too large, the limit is 2 GiB", len(b))
	}
	le := binary.LittleEndian
	pe := uint64(le.Uint32(b[offsetOfPE:]))
	if pe < 64 || pe+4+fileHeaderSize+optionalHeaderSize > uint64(len(b)) || !bytes.Equal(b[pe:pe+4], []byte("PE\x00\x00")) {
		return nil, errors.New("not a PE image: no PE header")
	}
	m := &Image{FileHeader: int(pe) + 4}
	m.OptionalHeader = m.FileHeader + fileHeaderSize
	fh, oh := b[m.FileHeader:], b[m.OptionalHeader:]
	if got := le.Uint16(fh); got != machineAMD64 {
		return nil, fmt.Errorf("PE image is for machine %#04x, want %#04x (x86-64)", got, machineAMD64)
	}
	if got := le.Uint16(fh[16:]); got != optionalHeaderSize {
		return nil, fmt.Errorf("PE optional header has %d bytes, want %d", got, optionalHeaderSize)
	}
	if got := le.Uint16(oh); got != magicPE32Plus {
		return nil, fmt.Errorf("PE magic is %#04x, want %#04x (PE32+)", got, magicPE32Plus)
	}
	if got := le.Uint32(oh[108:]); got != 16 {
		return nil, fmt.Errorf("PE image has %d data directories, want 16", got)
	}
	m.SectionAlignment = le.Uint32(oh[32:])
	m.FileAlignment = le.Uint32(oh[36:])
	m.SizeOfImage = le.Uint32(oh[56:])
	m.SizeOfHeaders = le.Uint32(oh[60:])
	if !powerOfTwo(m.FileAlignment) || !powerOfTwo(m.SectionAlignment) || m.SectionAlignment < m.FileAlignment || m.SectionAlignment > 1<<21 {
		return nil, fmt.Errorf("PE alignments %d (file) and %d (section) are not usable", m.FileAlignment, m.SectionAlignment)
	}
	m.SectionTable = m.OptionalHeader + optionalHeaderSize
	count := int(le.Uint16(fh[2:]))
	if count == 0 || count > MaxSections {
		return nil, fmt.Errorf("PE image has %d sections, want 1 to %d", count, MaxSections)
	}
	if end := m.SectionTable + count*sectionHeaderSize; end > int(m.SizeOfHeaders) || int(m.SizeOfHeaders) > len(b) {
		return nil, fmt.Errorf("PE headers of %d bytes do not hold the section table, which ends at %d", m.SizeOfHeaders, end)
	}
	if err := m.sections(b, count); err != nil {
		return nil, err
	}
	return m, m.certificates(b)
}

func (m *Image) sections(b []byte, count int) error {
	le := binary.LittleEndian
	file, memory := uint64(m.SizeOfHeaders), uint64(m.SizeOfHeaders)
	for i := range count {
		h := b[m.SectionTable+i*sectionHeaderSize:][:sectionHeaderSize]
		name := bytes.TrimRight(h[:8], "\x00")
		for _, c := range name {
			if c <= ' ' || c > '~' {
				return fmt.Errorf("section %d of the PE image has the name %q, want printable ASCII", i, name)
			}
		}
		s := Section{
			Name:             string(name),
			VirtualSize:      le.Uint32(h[8:]),
			VirtualAddress:   le.Uint32(h[12:]),
			SizeOfRawData:    le.Uint32(h[16:]),
			PointerToRawData: le.Uint32(h[20:]),
			Characteristics:  le.Uint32(h[36:]),
		}
		if uint64(s.VirtualAddress) < memory || s.VirtualAddress%m.SectionAlignment != 0 {
			return fmt.Errorf("section %s is at address %#x, want an aligned one from %#x on", s.Name, s.VirtualAddress, memory)
		}
		memory = uint64(s.VirtualAddress) + uint64(max(s.VirtualSize, 1))
		if memory > uint64(m.SizeOfImage) {
			return fmt.Errorf("section %s ends at address %#x, outside of the image of %#x bytes", s.Name, memory, m.SizeOfImage)
		}
		if s.SizeOfRawData == 0 {
			s.PointerToRawData = 0
		} else {
			// A gap is hashed by some checkers and not by others.
			if uint64(s.PointerToRawData) != file {
				return fmt.Errorf("data of section %s is at file offset %#x, want %#x: a gap or an overlap", s.Name, s.PointerToRawData, file)
			}
			file += uint64(s.SizeOfRawData)
			if file > uint64(len(b)) {
				return fmt.Errorf("data of section %s ends at file offset %#x, after the end of the file at %#x", s.Name, file, len(b))
			}
		}
		m.Sections = append(m.Sections, s)
	}
	return nil
}

func (m *Image) certificates(b []byte) error {
	le := binary.LittleEndian
	m.CertificateOffset = le.Uint32(b[m.CertificateEntry():])
	m.CertificateSize = le.Uint32(b[m.CertificateEntry()+4:])
	if m.CertificateOffset == 0 && m.CertificateSize == 0 {
		return nil
	}
	end := uint64(m.CertificateOffset) + uint64(m.CertificateSize)
	if m.CertificateSize == 0 || m.CertificateOffset%8 != 0 || int(m.CertificateOffset) < m.End() || end != uint64(len(b)) {
		return fmt.Errorf("certificate table at %#x with %d bytes is not the aligned tail of the file of %#x bytes", m.CertificateOffset, m.CertificateSize, len(b))
	}
	return nil
}

func powerOfTwo(n uint32) bool { return n != 0 && n&(n-1) == 0 }

// AppendHeader appends the 40-byte section header of s to b.
func (s Section) AppendHeader(b []byte) []byte {
	le := binary.LittleEndian
	var h [sectionHeaderSize]byte
	copy(h[:8], s.Name)
	le.PutUint32(h[8:], s.VirtualSize)
	le.PutUint32(h[12:], s.VirtualAddress)
	le.PutUint32(h[16:], s.SizeOfRawData)
	le.PutUint32(h[20:], s.PointerToRawData)
	le.PutUint32(h[36:], s.Characteristics)
	return append(b, h[:]...)
}

// CheckSum computes the CheckSum field of the image b: the 16-bit ones'
// complement sum of all words but the field itself, plus the length.
// Source: "PE Format", CheckSum; the algorithm of IMAGHELP.DLL.
func CheckSum(b []byte, field int) uint32 {
	var sum uint64
	for i := 0; i < len(b); i += 2 {
		if i == field || i == field+2 {
			continue
		}
		w := uint64(b[i])
		if i+1 < len(b) {
			w |= uint64(b[i+1]) << 8
		}
		sum += w
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return uint32(sum) + uint32(len(b))
}
