// Package seccomp makes the system call filter of a service: a BPF program that
// allows what named groups and single calls list, and kills the process at
// anything else. It needs nothing but the standard library, and knows x86-64
// only.
//
// Source: seccomp(2); Documentation/userspace-api/seccomp_filter.rst and
// include/uapi/linux/{seccomp,filter,audit}.h of Linux.
package seccomp

import (
	"fmt"
	"slices"
	"strings"
)

// Instruction is one of classic BPF, in the layout of struct sock_filter.
type Instruction struct {
	Code   uint16
	JT, JF uint8
	K      uint32
}

// Policy says what is allowed.
type Policy struct {
	Groups []string
	Calls  []string // with any arguments
	Ioctls []uint32 // commands of ioctl, on any descriptor
	// Program is the descriptor from which the launcher executes the service:
	// execveat is allowed from it and from no other. It must be a number that
	// the service cannot give to a descriptor of its own.
	Program uint32
}

// What a filter returns.
const (
	Kill    uint32 = 0x80000000 // SECCOMP_RET_KILL_PROCESS
	Missing uint32 = 0x00050000 | 38
	Allow   uint32 = 0x7fff0000
)

const (
	archX86 = 0xc000003e // AUDIT_ARCH_X86_64
	x32Bit  = 0x40000000 // of the numbers of the x32 ABI

	// Offsets in struct seccomp_data, bytes; arguments are 64 bits, little-endian.
	offsetNumber, offsetArch, offsetArguments = 0, 4, 16

	load   = 0x20 // BPF_LD | BPF_W | BPF_ABS
	and    = 0x54 // BPF_ALU | BPF_AND | BPF_K
	jump   = 0x05 // BPF_JMP | BPF_JA
	equal  = 0x15 // BPF_JMP | BPF_JEQ | BPF_K
	atMost = 0x35 // BPF_JMP | BPF_JGE | BPF_K
	ret    = 0x06 // BPF_RET | BPF_K

	maxInstructions = 4096 // BPF_MAXINSNS
)

// Number returns the number of a system call.
func Number(name string) (uint32, bool) {
	at, ok := slices.BinarySearchFunc(numbers[:], name, func(c struct {
		name   string
		number uint32
	}, name string,
	) int {
		return strings.Compare(c.name, name)
	})
	if !ok {
		return 0, false
	}
	return numbers[at].number, true
}

// Filter returns the BPF program of a policy.
func Filter(p Policy) ([]Instruction, error) {
	f := filter{answers: make([]uint32, numbersEnd)}
	for i := range f.answers {
		f.answers[i] = Kill
	}
	for _, name := range missing {
		if err := f.answer(name, Missing); err != nil {
			return nil, err
		}
	}
	if err := f.allow(p); err != nil {
		return nil, err
	}
	f.program = append(make([]Instruction, 0, 512),
		Instruction{load, 0, 0, offsetArch},
		Instruction{equal, 1, 0, archX86},
		Instruction{ret, 0, 0, Kill},
		Instruction{load, 0, 0, offsetNumber},
		Instruction{atMost, 0, 1, x32Bit},
		Instruction{ret, 0, 0, Kill},
	)
	f.tree(f.spans())
	if len(f.program) > maxInstructions {
		return nil, fmt.Errorf("the filter has %d instructions, the kernel takes %d", len(f.program), maxInstructions)
	}
	return f.program, nil
}

// filter is one in the making: an answer for each number, and for some numbers
// the conditions under which they are allowed nevertheless.
type filter struct {
	answers     []uint32
	conditional []conditional
	program     []Instruction
}

type conditional struct {
	number uint32
	when   []condition
}

func (f *filter) answer(name string, answer uint32) error {
	n, ok := Number(name)
	if !ok {
		return fmt.Errorf("there is no system call %q on x86-64", name)
	}
	f.answers[n] = answer
	return nil
}

func (f *filter) rule(r rule) error {
	if len(r.when) == 0 {
		return f.answer(r.call, Allow)
	}
	n, ok := Number(r.call)
	if !ok {
		return fmt.Errorf("there is no system call %q on x86-64", r.call)
	}
	f.conditional = append(f.conditional, conditional{n, r.when})
	return nil
}

func (f *filter) allow(p Policy) error {
	for _, name := range p.Groups {
		at := slices.IndexFunc(Groups, func(g Group) bool { return g.Name == name })
		if at < 0 {
			return fmt.Errorf("there is no group %q of system calls", name)
		}
		for _, r := range Groups[at].rules() {
			if err := f.rule(r); err != nil {
				return err
			}
		}
	}
	for _, name := range p.Calls {
		if err := f.answer(name, Allow); err != nil {
			return err
		}
	}
	for _, command := range p.Ioctls {
		if err := f.rule(rule{"ioctl", []condition{{1, int32Mask, uint64(command)}}}); err != nil {
			return err
		}
	}
	return f.rule(rule{"execveat", []condition{{0, int32Mask, uint64(p.Program)}, {4, int32Mask, emptyPath}}})
}

// span is a run of numbers, from first to the next span's, with one answer;
// conditions are in filter.conditional.
type span struct {
	first       uint32
	answer      uint32
	conditional bool
}

func (f *filter) spans() []span {
	conditional := make([]bool, len(f.answers))
	for _, c := range f.conditional {
		conditional[c.number] = f.answers[c.number] != Allow
	}
	all := make([]span, 0, 256)
	for n, answer := range f.answers {
		if last := len(all) - 1; last < 0 || conditional[n] || all[last].conditional || all[last].answer != answer {
			all = append(all, span{uint32(n), answer, conditional[n]})
		}
	}
	return append(all, span{uint32(len(f.answers)), Kill, false})
}

// tree finds the number, which is in the accumulator, by halves. The kernel asks
// the filter about every number once when it is installed, to remember those
// whose answer does not depend on arguments: a list would take far longer.
func (f *filter) tree(s []span) {
	if len(s) == 1 {
		f.leaf(s[0])
		return
	}
	half := len(s) / 2
	at := len(f.program)
	f.program = append(f.program, Instruction{atMost, 0, 0, s[half].first})
	f.tree(s[:half])
	below := len(f.program) - at - 1
	if below <= 255 {
		f.program[at].JT = uint8(below)
	} else {
		// Too far for a conditional jump.
		f.program[at].JF = 1
		f.program = slices.Insert(f.program, at+1, Instruction{jump, 0, 0, uint32(below)})
	}
	f.tree(s[half:])
}

func (f *filter) leaf(s span) {
	if s.conditional {
		for _, c := range f.conditional {
			if c.number == s.first {
				f.alternative(c.when)
			}
		}
	}
	f.program = append(f.program, Instruction{ret, 0, 0, s.answer})
}

// alternative allows when all conditions hold, and else goes on behind itself.
func (f *filter) alternative(conditions []condition) {
	start := len(f.program)
	for _, c := range conditions {
		for half := range 2 {
			mask, value := uint32(c.mask>>(32*half)), uint32(c.value>>(32*half))
			if mask == 0 {
				continue
			}
			f.program = append(f.program, Instruction{load, 0, 0, uint32(offsetArguments + 8*c.argument + 4*half)})
			if mask != int32Mask {
				f.program = append(f.program, Instruction{and, 0, 0, mask})
			}
			f.program = append(f.program, Instruction{equal, 0, 0, value})
		}
	}
	f.program = append(f.program, Instruction{ret, 0, 0, Allow})
	for i := start; i < len(f.program); i++ {
		if f.program[i].Code == equal {
			f.program[i].JF = uint8(len(f.program) - i - 1)
		}
	}
}
