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

// verdict is what happens to one system call: an answer, or alternatives of
// conditions for Allow.
type verdict struct {
	answer       uint32
	alternatives [][]condition
}

// Filter returns the BPF program of a policy.
func Filter(p Policy) ([]Instruction, error) {
	verdicts := make([]verdict, numbersEnd())
	for i := range verdicts {
		verdicts[i].answer = Kill
	}
	for _, name := range missing {
		n, ok := Number(name)
		if !ok {
			return nil, fmt.Errorf("internal error: no system call %s", name)
		}
		verdicts[n].answer = Missing
	}
	rules, err := p.rules()
	if err != nil {
		return nil, err
	}
	for _, r := range rules {
		n, ok := Number(r.call)
		if !ok {
			return nil, fmt.Errorf("there is no system call %q on x86-64", r.call)
		}
		v := &verdicts[n]
		switch {
		case v.answer == Allow:
		case len(r.when) == 0:
			*v = verdict{answer: Allow}
		default:
			v.alternatives = append(v.alternatives, r.when)
		}
	}
	program := []Instruction{
		{load, 0, 0, offsetArch},
		{equal, 1, 0, archX86},
		{ret, 0, 0, Kill},
		{load, 0, 0, offsetNumber},
		{atMost, 0, 1, x32Bit},
		{ret, 0, 0, Kill},
	}
	program = append(program, tree(spans(verdicts))...)
	if len(program) > maxInstructions {
		return nil, fmt.Errorf("the filter has %d instructions, the kernel takes %d", len(program), maxInstructions)
	}
	return program, nil
}

func (p Policy) rules() ([]rule, error) {
	all := Groups()
	var rules []rule
	for _, name := range p.Groups {
		at := slices.IndexFunc(all, func(g Group) bool { return g.Name == name })
		if at < 0 {
			return nil, fmt.Errorf("there is no group %q of system calls", name)
		}
		rules = append(rules, all[at].rules...)
	}
	rules = append(rules, plain(p.Calls...)...)
	for _, command := range p.Ioctls {
		rules = append(rules, rule{"ioctl", []condition{{1, int32Mask, uint64(command)}}})
	}
	return append(rules, rule{"execveat", []condition{{0, int32Mask, uint64(p.Program)}, {4, int32Mask, emptyPath}}}), nil
}

func numbersEnd() uint32 {
	var end uint32
	for _, c := range numbers {
		end = max(end, c.number+1)
	}
	return end
}

// span is a run of numbers, from first to the next span's, with one verdict.
type span struct {
	first uint32
	verdict
}

func spans(verdicts []verdict) []span {
	var all []span
	for n, v := range verdicts {
		if last := len(all) - 1; last < 0 || len(v.alternatives) > 0 || len(all[last].alternatives) > 0 || all[last].answer != v.answer {
			all = append(all, span{uint32(n), v})
		}
	}
	return append(all, span{uint32(len(verdicts)), verdict{answer: Kill}})
}

// tree finds the number, which is in the accumulator, by halves. The kernel asks
// the filter about every number once when it is installed, to remember those
// whose answer does not depend on arguments: a list would take far longer.
func tree(s []span) []Instruction {
	if len(s) == 1 {
		return s[0].leaf()
	}
	half := len(s) / 2
	below, above := tree(s[:half]), tree(s[half:])
	var program []Instruction
	if len(below) <= 255 {
		program = []Instruction{{atMost, uint8(len(below)), 0, s[half].first}}
	} else {
		program = []Instruction{{atMost, 0, 1, s[half].first}, {jump, 0, 0, uint32(len(below))}}
	}
	return append(append(program, below...), above...)
}

func (v verdict) leaf() []Instruction {
	var program []Instruction
	for _, conditions := range v.alternatives {
		program = append(program, alternative(conditions)...)
	}
	return append(program, Instruction{ret, 0, 0, v.answer})
}

// alternative allows when all conditions hold, and else goes on behind itself.
func alternative(conditions []condition) []Instruction {
	var program []Instruction
	for _, c := range conditions {
		for half := range 2 {
			mask, value := uint32(c.mask>>(32*half)), uint32(c.value>>(32*half))
			if mask == 0 {
				continue
			}
			program = append(program, Instruction{load, 0, 0, uint32(offsetArguments + 8*c.argument + 4*half)})
			if mask != int32Mask {
				program = append(program, Instruction{and, 0, 0, mask})
			}
			program = append(program, Instruction{equal, 0, 0, value})
		}
	}
	program = append(program, Instruction{ret, 0, 0, Allow})
	for i := range program {
		if program[i].Code == equal {
			program[i].JF = uint8(len(program) - i - 1)
		}
	}
	return program
}
