// Command launcher is cmd/launch but for one thing: it takes the Landlock of the
// kernel that it runs on, for a benchmark's host is older than Cloison's kernel.
package main

import (
	"os"

	"cloison/linux/landlock"
	"cloison/target/confine"
)

func main() { confine.Core{Landlock: min(landlock.ABI, landlock.Known())}.Launch(os.Args[1]) }
