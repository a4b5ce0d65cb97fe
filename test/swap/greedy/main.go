// Command greedy takes more memory than its control group may have, on a machine
// that swaps. It runs in the guest of cloison/test/guest.
//
//	greedy PARTITION LIMIT MIB…
//
// swaps to the partition as Cloison does, and starts itself once for each MIB in a
// group that is limited to LIMIT MiB. A line for each tells how it ended, how many
// processes the group's limit has ended so far, and how many bytes of the group
// were swapped out at most.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "greedy:", err)
		os.Exit(1)
	}
}
