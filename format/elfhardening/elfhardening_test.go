package elfhardening

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

// program is a hardened static PIE in the least bytes: headers, one loaded
// segment, its dynamic section. change is applied before it is written.
type program struct {
	header  elf.Header64
	progs   []elf.Prog64
	dynamic []elf.Dyn64
	interp  string
}

func hardened() *program {
	p := &program{
		header: elf.Header64{
			Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1},
			Type:  uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: headerSize, Phentsize: programHeaderSize,
		},
		progs: []elf.Prog64{
			{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Filesz: 0x1000, Memsz: 0x1000},
			{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_W), Off: 0x1000, Vaddr: 0x5000, Filesz: 0x1000, Memsz: 0x2000},
			{Type: uint32(elf.PT_DYNAMIC), Flags: uint32(elf.PF_R | elf.PF_W), Off: 0x1000, Vaddr: 0x5000},
			{Type: uint32(elf.PT_GNU_RELRO), Flags: uint32(elf.PF_R), Off: 0x1000, Vaddr: 0x5000, Filesz: 0x1000, Memsz: 0x1000},
			{Type: uint32(elf.PT_GNU_STACK), Flags: uint32(elf.PF_R | elf.PF_W)},
		},
		dynamic: []elf.Dyn64{
			{Tag: int64(elf.DT_FLAGS), Val: uint64(elf.DF_BIND_NOW)},
			{Tag: int64(elf.DT_FLAGS_1), Val: uint64(elf.DF_1_NOW | elf.DF_1_PIE)},
			{Tag: int64(elf.DT_NULL)},
		},
	}
	return p
}

func (p *program) bytes() []byte {
	p.header.Phnum = uint16(len(p.progs))
	for i := range p.progs {
		switch elf.ProgType(p.progs[i].Type) {
		case elf.PT_DYNAMIC:
			p.progs[i].Filesz = uint64(len(p.dynamic)) * dynamicSize
		case elf.PT_INTERP:
			p.progs[i].Off, p.progs[i].Filesz = 0x800, uint64(len(p.interp))
		}
	}
	b := make([]byte, 0x2000)
	for _, part := range []struct {
		at   int
		data any
	}{{0, p.header}, {headerSize, p.progs}, {0x800, []byte(p.interp)}, {0x1000, p.dynamic}} {
		if _, err := binary.Encode(b[part.at:], binary.LittleEndian, part.data); err != nil {
			panic(err)
		}
	}
	return b
}

func (p *program) flags(kind elf.ProgType, flags elf.ProgFlag) {
	for i := range p.progs {
		if elf.ProgType(p.progs[i].Type) == kind {
			p.progs[i].Flags = uint32(flags)
		}
	}
}

func (p *program) drop(kind elf.ProgType) {
	p.progs = slices.DeleteFunc(p.progs, func(h elf.Prog64) bool { return elf.ProgType(h.Type) == kind })
}

func (p *program) insert(tag elf.DynTag, value uint64) {
	p.dynamic = slices.Insert(p.dynamic, 0, elf.Dyn64{Tag: int64(tag), Val: value})
}

func TestInspect(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*program)
		want   []Weakness
	}{
		{"hardened", func(*program) {}, nil},
		{"ET_EXEC", func(p *program) { p.header.Type = uint16(elf.ET_EXEC) }, []Weakness{NotPIE}},
		{"shared library", func(p *program) { p.dynamic[1].Val = uint64(elf.DF_1_NOW) }, []Weakness{NotPIE}},
		{"no dynamic segment", func(p *program) { p.drop(elf.PT_DYNAMIC) }, []Weakness{NotPIE}},
		{"no RELRO", func(p *program) { p.drop(elf.PT_GNU_RELRO) }, []Weakness{NoRELRO}},
		{"empty RELRO", func(p *program) { p.progs[3].Memsz = 0 }, []Weakness{NoRELRO}},
		{"lazy", func(p *program) { p.dynamic[0].Val, p.dynamic[1].Val = 0, uint64(elf.DF_1_PIE) }, []Weakness{LazyBinding}},
		{"only DT_BIND_NOW", func(p *program) {
			p.dynamic[0], p.dynamic[1].Val = elf.Dyn64{Tag: int64(elf.DT_BIND_NOW)}, uint64(elf.DF_1_PIE)
		}, nil},
		{"executable stack", func(p *program) { p.flags(elf.PT_GNU_STACK, elf.PF_R|elf.PF_W|elf.PF_X) }, []Weakness{ExecutableStack}},
		{"no word on the stack", func(p *program) { p.drop(elf.PT_GNU_STACK) }, []Weakness{ExecutableStack}},
		{"DT_TEXTREL", func(p *program) { p.insert(elf.DT_TEXTREL, 0) }, []Weakness{TextRelocations}},
		{"DF_TEXTREL", func(p *program) { p.dynamic[0].Val |= uint64(elf.DF_TEXTREL) }, []Weakness{TextRelocations}},
		{"writable code", func(p *program) { p.progs[0].Flags |= uint32(elf.PF_W) }, []Weakness{WritableExecutable}},
		{"DT_RPATH", func(p *program) { p.insert(elf.DT_RPATH, 1) }, []Weakness{OwnLibraryPath}},
		{"DT_RUNPATH", func(p *program) { p.insert(elf.DT_RUNPATH, 1) }, []Weakness{OwnLibraryPath}},
		{"all", func(p *program) {
			p.header.Type, p.dynamic = uint16(elf.ET_EXEC), []elf.Dyn64{{Tag: int64(elf.DT_TEXTREL)}, {Tag: int64(elf.DT_RPATH)}, {}}
			p.drop(elf.PT_GNU_RELRO)
			p.drop(elf.PT_GNU_STACK)
			p.progs[0].Flags |= uint32(elf.PF_W)
		}, []Weakness{NotPIE, NoRELRO, LazyBinding, ExecutableStack, TextRelocations, WritableExecutable, OwnLibraryPath}},
	} {
		p := hardened()
		test.change(p)
		got, err := Inspect(bytes.NewReader(p.bytes()))
		if err != nil || !slices.Equal(got.Weaknesses, test.want) || got.Interpreter != "" {
			t.Errorf("%s: Inspect() = %q, %v, want %q", test.name, got, err, test.want)
		}
	}
	p := hardened()
	p.interp = "/lib64/ld-linux-x86-64.so.2\x00"
	p.progs = append(p.progs, elf.Prog64{Type: uint32(elf.PT_INTERP)})
	if got, err := Inspect(bytes.NewReader(p.bytes())); err != nil || got.Interpreter != "/lib64/ld-linux-x86-64.so.2" {
		t.Errorf("Inspect() of a dynamic program = %q, %v", got, err)
	}
}

func TestInspectRefuses(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*program)
		want   string
	}{
		{"32 bits", func(p *program) { p.header.Ident[elf.EI_CLASS] = byte(elf.ELFCLASS32) }, "not a program for x86-64"},
		{"big-endian", func(p *program) { p.header.Ident[elf.EI_DATA] = byte(elf.ELFDATA2MSB) }, "not a program for x86-64"},
		{"another machine", func(p *program) { p.header.Machine = uint16(elf.EM_AARCH64) }, "not a program for x86-64"},
		{"object file", func(p *program) { p.header.Type = uint16(elf.ET_REL) }, "type ET_REL is not a program"},
		{"no program headers", func(p *program) { p.progs = nil }, "0 program headers"},
		{"program headers beyond the end", func(p *program) { p.header.Phoff = 1 << 40 }, "cannot read the program headers"},
		{"program headers beyond any file", func(p *program) { p.header.Phoff = 1<<63 + 1 }, "beyond any file"},
		{"two dynamic segments", func(p *program) { p.progs = append(p.progs, p.progs[2]) }, "two dynamic segments"},
		{"dynamic segment elsewhere in memory", func(p *program) { p.progs[2].Vaddr += 16 }, "not part of a loaded one"},
		{"dynamic segment not loaded", func(p *program) { p.progs[1].Filesz = 8 }, "not part of a loaded one"},
		{"dynamic segment without end", func(p *program) { p.dynamic = p.dynamic[:2] }, "has no end"},
		{"empty dynamic segment", func(p *program) { p.dynamic = nil }, "a dynamic segment of 0 bytes"},
		{"interpreter without end", func(p *program) {
			p.interp, p.progs = "/lib", append(p.progs, elf.Prog64{Type: uint32(elf.PT_INTERP)})
		}, "malformed"},
	} {
		p := hardened()
		test.change(p)
		if got, err := Inspect(bytes.NewReader(p.bytes())); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Inspect() = %q, %v, want an error with %q", test.name, got, err, test.want)
		}
	}
	for _, text := range []string{"", "\x7fEL", "#!/bin/sh\n"} {
		if _, err := Inspect(strings.NewReader(text)); !errors.Is(err, ErrNotELF) {
			t.Errorf("Inspect(%q) = %v, want %v", text, err, ErrNotELF)
		}
	}
	if _, err := Inspect(bytes.NewReader(hardened().bytes()[:headerSize-1])); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Inspect() of half a header = %v, want %v", err, io.ErrUnexpectedEOF)
	}
}

// FuzzInspect: whatever the bytes, no panic; and what is found does not
// depend on anything but the bytes.
func FuzzInspect(f *testing.F) {
	f.Add(hardened().bytes())
	f.Add([]byte(Magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		one, err := Inspect(bytes.NewReader(b))
		two, again := Inspect(io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b))))
		if (err == nil) != (again == nil) || !slices.Equal(one.Weaknesses, two.Weaknesses) || one.Interpreter != two.Interpreter {
			t.Errorf("Inspect() = %v, %v, then %v, %v", one, err, two, again)
		}
	})
}
