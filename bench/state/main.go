// Command state measures what the protection of the state volume costs: reading
// and writing in sequence and at random, with and without fsync, of the bare
// device, of plain dm-crypt, of dm-crypt over dm-integrity as the state volume
// has it, and of what could stand in its place. All are in the same run, by
// turns, in one guest of cloison/test/guest, with this tree's kernel and
// cryptsetup of the SDK.
//
//	go run ./bench/state
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "state:", err)
		stop()
		os.Exit(1)
	}
}
