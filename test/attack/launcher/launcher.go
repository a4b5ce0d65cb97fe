// Package launcher is the probe's program: the probe, or with arguments a launcher
// that leaves out steps, so that it can be seen what the others hold. It needs
// what the real launcher needs, and is in the image of cloison/test/attack alone.
package launcher

import (
	"os"
	"strings"

	"cloison/linux/landlock"
	"cloison/target/confine"
	"cloison/test/attack/probe"
)

// Main is the program; its arguments are steps, separated by commas, and the name
// of a service.
func Main() {
	if len(os.Args) == 3 {
		confine.Core{Landlock: landlock.ABI, Without: strings.Split(os.Args[1], ",")}.Launch(os.Args[2])
	}
	probe.Main()
}
