package pecoff_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"cloison/format/pecoff"
	"cloison/format/pecoff/pecofftest"
)

func image() []byte {
	return pecofftest.Image(0x400, pecofftest.Section{Name: ".text", Data: []byte("code")}, pecofftest.Section{Name: ".data", Data: make([]byte, 0x1001)})
}

// Offsets of the image that pecofftest makes.
const (
	fileHeader     = 0x44
	optionalHeader = fileHeader + 20
	sectionTable   = optionalHeader + 240
)

func TestParse(t *testing.T) {
	b := image()
	m, err := pecoff.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	want := []pecoff.Section{
		{".text", 4, 0x1000, 0x200, 0x400, 0x40000040},
		{".data", 0x1001, 0x2000, 0x1200, 0x600, 0x40000040},
	}
	for i, s := range m.Sections {
		if s != want[i] {
			t.Errorf("section %d = %+v, want %+v", i, s, want[i])
		}
	}
	if m.SectionTable != sectionTable || m.End() != len(b) || m.CheckSumOffset() != optionalHeader+64 || m.CertificateEntry() != optionalHeader+144 {
		t.Errorf("Parse() = %+v, End() = %#x of %#x", m, m.End(), len(b))
	}
	if got := m.Sections[0].Data(b); string(got) != "code" {
		t.Errorf("Data() = %q, want %q", got, "code")
	}
}

func TestParseRefuses(t *testing.T) {
	le := binary.LittleEndian
	put16 := func(at int, v uint16) func([]byte) []byte {
		return func(b []byte) []byte { le.PutUint16(b[at:], v); return b }
	}
	put32 := func(at int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { le.PutUint32(b[at:], v); return b }
	}
	second := sectionTable + pecoff.HeaderSize
	tests := []struct {
		name  string
		spoil func([]byte) []byte
		want  string
	}{
		{"empty", func([]byte) []byte { return nil }, "no MZ header"},
		{"ELF", func(b []byte) []byte { copy(b, "\x7fELF"); return b }, "no MZ header"},
		{"PE offset outside", put32(0x3c, 0xfffffff0), "no PE header"},
		{"no PE magic", put32(0x40, 0), "no PE header"},
		{"other machine", put16(fileHeader, 0xaa64), "machine 0xaa64"},
		{"optional header", put16(fileHeader+16, 224), "224 bytes"},
		{"PE32", put16(optionalHeader, 0x10b), "magic is 0x010b"},
		{"directories", put32(optionalHeader+108, 15), "15 data directories"},
		{"file alignment", put32(optionalHeader+36, 3), "not usable"},
		{"section alignment", put32(optionalHeader+32, 0x100), "not usable"},
		{"no sections", put16(fileHeader+2, 0), "0 sections"},
		{"too many sections", put16(fileHeader+2, 97), "97 sections"},
		{"table outside of the headers", put16(fileHeader+2, 18), "do not hold the section table"},
		{"headers outside of the file", put32(optionalHeader+60, 1<<30), "do not hold the section table"},
		{"name", put32(sectionTable+4, 0x01000000), "printable ASCII"},
		{"address overlap", put32(second+12, 0x1000), "at address 0x1000"},
		{"address not aligned", put32(second+12, 0x2001), "at address 0x2001"},
		{"outside of the image", put32(second+8, 1<<31), "outside of the image"},
		{"file gap", put32(second+20, 0x800), "a gap or an overlap"},
		{"file overlap", put32(second+20, 0x400), "a gap or an overlap"},
		{"data cut", func(b []byte) []byte { return b[:len(b)-1] }, "after the end of the file"},
		{"certificates outside", func(b []byte) []byte {
			le.PutUint32(b[optionalHeader+144:], uint32(len(b)))
			le.PutUint32(b[optionalHeader+148:], 8)
			return b
		}, "not the aligned tail"},
		{"certificates over a section", func(b []byte) []byte {
			le.PutUint32(b[optionalHeader+144:], uint32(len(b)-8))
			le.PutUint32(b[optionalHeader+148:], 8)
			return b
		}, "not the aligned tail"},
		{"certificates of no size", put32(optionalHeader+144, 0x1800), "not the aligned tail"},
	}
	for _, test := range tests {
		if _, err := pecoff.Parse(test.spoil(image())); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Parse() = %v, want an error with %q", test.name, err, test.want)
		}
	}
}

func TestCheckSum(t *testing.T) {
	for _, test := range []struct {
		b    []byte
		want uint32
	}{
		{[]byte{1, 2, 3, 4, 9, 9, 9, 9, 5, 6}, 0x0201 + 0x0403 + 0x0605 + 10},
		{[]byte{0xff, 0xff, 2, 0, 9, 9, 9, 9, 5}, 2 + 5 + 9},
	} {
		if got := pecoff.CheckSum(test.b, 4); got != test.want {
			t.Errorf("CheckSum(%x) = %#x, want %#x", test.b, got, test.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(image())
	f.Add(pecofftest.Image(0x200, pecofftest.Section{Name: ".text"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := pecoff.Parse(b)
		if err != nil {
			return
		}
		for i, s := range m.Sections {
			s.Data(b)
			at := m.SectionTable + i*pecoff.HeaderSize
			h := s.AppendHeader(nil)
			// The pointer of a section without data and the COFF relocation
			// fields say nothing, and are not kept.
			if !bytes.Equal(h[:20], b[at:at+20]) || s.SizeOfRawData > 0 && !bytes.Equal(h[20:24], b[at+20:at+24]) {
				t.Errorf("header of %s = %x, want %x", s.Name, h, b[at:at+pecoff.HeaderSize])
			}
		}
	})
}
