// Package elfhardening says how well an ELF program resists exploitation:
// what its headers ask of the kernel and of the dynamic linker. It needs the
// program as an io.ReaderAt; 64-bit little-endian programs for x86-64 only.
//
// Only the program headers are believed, never the sections: the kernel reads
// no others, and sections can say anything or be cut off.
//
// Source: System V ABI, Edition 4.1, chapters 4 and 5; ELF gABI, "Dynamic
// Section"; AMD64 supplement 1.0; Linux, fs/binfmt_elf.c.
package elfhardening

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Weakness is one way in which a program is not hardened.
type Weakness string

// The weaknesses, in the order in which Inspect tells them.
const (
	NotPIE             Weakness = "not position-independent" // not of type DYN with DF_1_PIE: fixed addresses
	NoRELRO            Weakness = "no RELRO"                 // no PT_GNU_RELRO: relocated pointers stay writable
	LazyBinding        Weakness = "lazy binding"             // no BIND_NOW: the GOT stays writable
	ExecutableStack    Weakness = "executable stack"         // PT_GNU_STACK with X, or none
	TextRelocations    Weakness = "text relocations"         // DT_TEXTREL: code is made writable at start
	WritableExecutable Weakness = "writable and executable segment"
	OwnLibraryPath     Weakness = "library path of its own" // DT_RPATH or DT_RUNPATH
)

// Program is what Inspect found.
type Program struct {
	// Interpreter is the dynamic linker that the kernel would start, from
	// PT_INTERP; "" for a static program.
	Interpreter string
	Weaknesses  []Weakness // none: fully hardened
}

// Magic is how every ELF file begins.
const Magic = elf.ELFMAG

// Bounds on what is read, in entries and bytes: far above any real program,
// and small enough to hold.
const (
	maxProgramHeaders = 128
	maxDynamic        = 4096
	maxInterpreter    = 4096
)

const (
	headerSize        = 64
	programHeaderSize = 56
	dynamicSize       = 16
)

// ErrNotELF says that what was read is no ELF file at all.
var ErrNotELF = errors.New("not an ELF file")

// Inspect reads the headers of the program r.
func Inspect(r io.ReaderAt) (Program, error) {
	p, err := inspect(r)
	if err != nil {
		return Program{}, fmt.Errorf("cannot inspect the program: %w", err)
	}
	return p, nil
}

func inspect(r io.ReaderAt) (Program, error) {
	kind, headers, err := readHeaders(r)
	if err != nil {
		return Program{}, err
	}
	var p Program
	found := map[Weakness]bool{NotPIE: true, NoRELRO: true, ExecutableStack: true}
	var dynamic *elf.Prog64
	for i, h := range headers {
		flags := elf.ProgFlag(h.Flags)
		switch elf.ProgType(h.Type) {
		case elf.PT_LOAD:
			if flags&(elf.PF_W|elf.PF_X) == elf.PF_W|elf.PF_X {
				found[WritableExecutable] = true
			}
		case elf.PT_GNU_STACK:
			found[ExecutableStack] = flags&elf.PF_X != 0
		case elf.PT_GNU_RELRO:
			found[NoRELRO] = h.Memsz == 0
		case elf.PT_DYNAMIC:
			if dynamic != nil {
				return Program{}, errors.New("two dynamic segments")
			}
			dynamic = &headers[i]
		case elf.PT_INTERP:
			if p.Interpreter, err = readInterpreter(r, h); err != nil {
				return Program{}, err
			}
		}
	}
	if dynamic != nil {
		if err := readDynamic(r, *dynamic, headers, kind, found); err != nil {
			return Program{}, err
		}
	}
	for _, w := range []Weakness{NotPIE, NoRELRO, LazyBinding, ExecutableStack, TextRelocations, WritableExecutable, OwnLibraryPath} {
		if found[w] {
			p.Weaknesses = append(p.Weaknesses, w)
		}
	}
	return p, nil
}

// readHeaders reads the ELF header and the program headers.
func readHeaders(r io.ReaderAt) (elf.Type, []elf.Prog64, error) {
	var h elf.Header64
	raw := make([]byte, headerSize)
	n, err := r.ReadAt(raw, 0)
	if n < len(Magic) || string(raw[:len(Magic)]) != Magic {
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, nil, err
		}
		return 0, nil, ErrNotELF
	}
	if n < headerSize {
		return 0, nil, fmt.Errorf("the header is cut off: %w", io.ErrUnexpectedEOF)
	}
	if _, err := binary.Decode(raw, binary.LittleEndian, &h); err != nil {
		return 0, nil, err
	}
	class, data := elf.Class(h.Ident[elf.EI_CLASS]), elf.Data(h.Ident[elf.EI_DATA])
	switch {
	case class != elf.ELFCLASS64 || data != elf.ELFDATA2LSB || elf.Machine(h.Machine) != elf.EM_X86_64:
		return 0, nil, fmt.Errorf("%v %v %v is not a program for x86-64", class, data, elf.Machine(h.Machine))
	case elf.Type(h.Type) != elf.ET_EXEC && elf.Type(h.Type) != elf.ET_DYN:
		return 0, nil, fmt.Errorf("type %v is not a program", elf.Type(h.Type))
	case h.Phentsize != programHeaderSize || h.Phnum == 0 || h.Phnum > maxProgramHeaders:
		return 0, nil, fmt.Errorf("%d program headers of %d bytes", h.Phnum, h.Phentsize)
	}
	raw = make([]byte, int(h.Phnum)*programHeaderSize)
	if err := readFull(r, raw, h.Phoff); err != nil {
		return 0, nil, fmt.Errorf("cannot read the program headers: %w", err)
	}
	headers := make([]elf.Prog64, h.Phnum)
	if _, err := binary.Decode(raw, binary.LittleEndian, headers); err != nil {
		return 0, nil, err
	}
	return elf.Type(h.Type), headers, nil
}

func readFull(r io.ReaderAt, b []byte, offset uint64) error {
	if offset > 1<<62 {
		return fmt.Errorf("offset %#x is beyond any file", offset)
	}
	n, err := r.ReadAt(b, int64(offset))
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func readInterpreter(r io.ReaderAt, h elf.Prog64) (string, error) {
	if h.Filesz < 2 || h.Filesz > maxInterpreter {
		return "", fmt.Errorf("the name of the interpreter has %d bytes", h.Filesz)
	}
	b := make([]byte, h.Filesz)
	if err := readFull(r, b, h.Off); err != nil {
		return "", fmt.Errorf("cannot read the name of the interpreter: %w", err)
	}
	name, rest, ended := strings.Cut(string(b), "\x00")
	if !ended || rest != "" || name == "" {
		return "", fmt.Errorf("the name of the interpreter is malformed: %q", b)
	}
	return name, nil
}

// readDynamic reads the dynamic segment into found.
func readDynamic(r io.ReaderAt, h elf.Prog64, headers []elf.Prog64, kind elf.Type, found map[Weakness]bool) error {
	if h.Filesz == 0 || h.Filesz%dynamicSize != 0 || h.Filesz > maxDynamic*dynamicSize {
		return fmt.Errorf("a dynamic segment of %d bytes", h.Filesz)
	}
	// The dynamic linker finds it by its address, this package by its offset:
	// a loaded segment must make both the same.
	if !slices.ContainsFunc(headers, func(l elf.Prog64) bool {
		return elf.ProgType(l.Type) == elf.PT_LOAD && h.Off >= l.Off && h.Off-l.Off <= l.Filesz && h.Filesz <= l.Filesz-(h.Off-l.Off) && h.Vaddr-l.Vaddr == h.Off-l.Off
	}) {
		return errors.New("the dynamic segment is not part of a loaded one")
	}
	raw := make([]byte, h.Filesz)
	if err := readFull(r, raw, h.Off); err != nil {
		return fmt.Errorf("cannot read the dynamic segment: %w", err)
	}
	found[LazyBinding] = true
	for ; len(raw) > 0; raw = raw[dynamicSize:] {
		tag, value := elf.DynTag(binary.LittleEndian.Uint64(raw)), binary.LittleEndian.Uint64(raw[8:])
		switch tag {
		case elf.DT_NULL:
			return nil
		case elf.DT_TEXTREL:
			found[TextRelocations] = true
		case elf.DT_RPATH, elf.DT_RUNPATH:
			found[OwnLibraryPath] = true
		case elf.DT_BIND_NOW:
			found[LazyBinding] = false
		case elf.DT_FLAGS:
			if elf.DynFlag(value)&elf.DF_TEXTREL != 0 {
				found[TextRelocations] = true
			}
			if elf.DynFlag(value)&elf.DF_BIND_NOW != 0 {
				found[LazyBinding] = false
			}
		case elf.DT_FLAGS_1:
			if elf.DynFlag1(value)&elf.DF_1_NOW != 0 {
				found[LazyBinding] = false
			}
			if elf.DynFlag1(value)&elf.DF_1_PIE != 0 && kind == elf.ET_DYN {
				found[NotPIE] = false
			}
		}
	}
	return errors.New("the dynamic segment has no end")
}
