// Package misfit is a service that behaves badly, each in the way that its
// declaration says: what PID 1 does about it is seen from the outside. Only tests
// and benchmarks have images with it (cloison/host/build/variant).
//
// It needs what PID 1 hands a service.
package misfit

import (
	_ "embed"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"cloison/target/service"
)

//go:embed misfit.toml
var declaration string

// Silence is the time after which PID 1 ends the silent one.
const Silence = "1s"

// Declaration returns that of a service that behaves as it is named.
func Declaration(name string, required bool) string {
	watchdog := "none"
	if name == "silent" {
		watchdog = Silence
	}
	behaviour := strings.TrimRight(name, "0123456789")
	return strings.NewReplacer("NAME", name, "BEHAVIOUR", behaviour, "REQUIRED", strconv.FormatBool(required), "WATCHDOG", watchdog).Replace(declaration)
}

// Main is the program; its argument is the behaviour.
func Main() {
	notify, err := service.Notify()
	if err == nil && os.Args[1] != "failing" {
		err = notify.Ready()
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	switch os.Args[1] {
	case "beat": // behaves well, and says so
		for i := 1; ; i++ {
			fmt.Println("beat", i)
			wait(time.Second)
		}
	case "failing":
		fmt.Println("cannot work")
		os.Exit(3)
	case "flood":
		for i := 0; ; i++ {
			fmt.Println("flood", i, strings.Repeat("x", 200))
		}
	case "forks":
		for {
			fork()
		}
	case "greedy":
		greed()
	}
	// The silent one, and those that only are there.
	wait(time.Hour)
}

func wait(d time.Duration) { <-time.After(d) }

// fork makes one more process. In the child Go has no other thread: nothing that
// needs one can be done there.
func fork() (child bool) {
	pid, _, errno := syscall.RawSyscall(syscall.SYS_FORK, 0, 0, 0)
	return errno == 0 && pid == 0
}

// greed has a child take all the memory that there is, and itself none: it ends
// only if PID 1 has the whole service ended.
func greed() {
	const much = 64 << 20
	memory, err := syscall.Mmap(-1, 0, much, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if !fork() {
		return
	}
	for {
		for i := 0; i < much; i += 4096 {
			memory[i]++
		}
	}
}
