// Command load reads and writes a block device in the guest of
// cloison/bench/state, around all caches, one request after the other.
//
//	load fill NODE    writes what the other words read
//	load run NODE     prints a speed for each kind of load, in its order
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}
