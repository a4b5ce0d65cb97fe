// Package probe is a service that somebody has taken over: it tries one way out
// of its box, for real, and says what came of it. Only the test of cloison/test/attack
// has an image with it.
//
// It reads the names of attempts from its standard input. It makes system calls
// by their numbers and does not ask libraries what is sensible.
//
// Sources: the manual pages of the system calls; Linux, include/uapi.
package probe

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
)

// Words that the probe says. A line that begins with Through says that nothing
// stopped the attempt of the line before it.
const (
	Trying  = "trying: "
	Stopped = "stopped: "
	Through = "through: "
)

// Attempt is one way out.
type Attempt struct {
	Group string
	Name  string
	// try returns what was reached, or what stopped it. The kernel may also end
	// the process.
	try func() (reached string, err error)
}

// Attempts returns all ways out that are known.
func Attempts() []Attempt {
	return slices.Concat(memory(), files(), privileges(), namespaces(), mounts(), devices(), procfs(), networks(), others(), kernel(), exhaustion())
}

// Main is the program: it tries what it is told, one after the other, until one
// gets through: then the box is not what it was.
func Main() {
	if len(os.Args) == 2 && os.Args[1] == again {
		fmt.Println(Through + "the program runs once more")
		return
	}
	runtime.LockOSThread()
	// A collection would close descriptors that are closed already, and are others'
	// by then.
	debug.SetGCPercent(-1)
	orders, err := io.ReadAll(io.LimitReader(os.Stdin, 1<<20))
	if err != nil {
		os.Exit(2)
	}
	// What Go waits with is there from here on.
	r, w, err := os.Pipe()
	if err == nil {
		err = errors.Join(r.Close(), w.Close())
	}
	if err != nil {
		os.Exit(2)
	}
	mine := open()
	for order := range strings.Lines(string(orders)) {
		name := strings.TrimSuffix(order, "\n")
		at := slices.IndexFunc(Attempts(), func(a Attempt) bool { return a.Name == name })
		if at < 0 {
			fmt.Println("nobody knows how to try " + name)
			os.Exit(2)
		}
		a := Attempts()[at]
		fmt.Println(Trying + name)
		reached, err := a.try()
		if err == nil {
			fmt.Println(Through + reached)
			return
		}
		fmt.Println(Stopped + short(err))
		if a.Group == Wears {
			return
		}
		for fd := range open() {
			if !mine[fd] {
				_, _ = system(syscall.SYS_CLOSE, fd) // it was seen open
			}
		}
	}
}

// again is what the probe tells a second run of itself.
const again = "again"

// Wears is the group of the attempts that leave the box used up.
const Wears = "exhaustion"

// open returns the descriptors that are open.
func open() map[int]bool {
	all := map[int]bool{}
	for fd := range 1024 {
		if _, err := system(syscall.SYS_FCNTL, fd, syscall.F_GETFD, 0); err == nil {
			all[fd] = true
		}
	}
	return all
}

// short leaves the kernel's own word of an error.
func short(err error) string {
	for {
		inner, ok := err.(interface{ Unwrap() error })
		if !ok {
			return err.Error()
		}
		err = inner.Unwrap()
	}
}

// group names the attempts of one kind.
func group(name string, attempts ...Attempt) []Attempt {
	for i := range attempts {
		attempts[i].Group = name
	}
	return attempts
}

// way is an attempt that is told apart by its name.
func way(name string, try func() (string, error)) Attempt { return Attempt{Name: name, try: try} }

// call is an attempt that is one system call: that it succeeds is enough.
func call(name string, number uintptr, arguments ...any) Attempt {
	return way(name, func() (string, error) {
		r, err := system(number, arguments...)
		return fmt.Sprintf("the kernel answers %d", r), err
	})
}
