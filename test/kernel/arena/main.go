// Command arena gives one of the kernel's tests a place to run in the guest of
// cloison/test/guest: a root on a tmpfs, which can be pivoted and written to, with
// the programs of the test's folder in the working folder.
//
//	arena FOLDER PROGRAM
//
// It is also the shell there, which can do the one thing that a test asks of one.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[0], os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "arena:", err)
		os.Exit(2)
	}
}
