// Command fill swaps to a partition as Cloison does, fills more memory than
// there is with a known text, and tells what is to be seen of it. It runs in
// the guest of cloison/test/guest.
//
//	fill PARTITION MIB
//
// prints three numbers: of the pages with that text on the opened device before
// and after memory was filled, and of the pages that came back as they were.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "fill:", err)
		os.Exit(1)
	}
}
