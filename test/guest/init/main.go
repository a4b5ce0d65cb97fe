// Command init is /init of the guest of cloison/test/guest: it links the disks
// by their serial numbers, runs the commands of its job, writes what came of
// them to the answer's disk, and switches the machine off.
package main

import (
	"fmt"

	"cloison/linux/power"
)

func main() {
	if err := run(); err != nil {
		fmt.Println("guest:", err)
	}
	if err := power.Off(); err != nil {
		fmt.Println("guest:", err)
	}
}
