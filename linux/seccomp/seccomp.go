// Package seccomp puts a system call filter on a thread (seccomp(2)). It needs
// no_new_privs.
package seccomp

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"cloison/format/seccomp"
)

// sockFprog is struct sock_fprog.
type sockFprog struct {
	length  uint16
	program *seccomp.Instruction
}

// Filter is a filter before it is enforced.
type Filter struct{ sockFprog }

// New takes the program of a filter, of one instruction at least.
func New(program []seccomp.Instruction) *Filter {
	return &Filter{sockFprog{uint16(len(program)), &program[0]}}
}

// Enforce filters the system calls of the calling thread and of all that comes
// from it, for ever. It makes no other system call, and neither does the Go
// runtime in it.
func (f *Filter) Enforce() error {
	if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&f.sockFprog))); errno != 0 {
		return fmt.Errorf("cannot enforce the system call filter: %w", errno)
	}
	return nil
}
