// Command share gives folders of a file system to projects, as PID 1 does, and
// has others take what they get. It runs in the guest of cloison/test/guest.
//
//	share NODE OPTIONS STEP…
//
// mounts the node and does the steps, each with a line of what came of it.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "share:", err)
		os.Exit(1)
	}
}
