// Command log measures how many lines a second the log service takes from a
// service's pipe, and what a record takes on the disk, against systemd-journald of
// the SDK, which gets the same lines over its stream socket: in the same run,
// alternating, without rate limits, until all is on the disk. Then it verifies a
// log of a million records. It fails when one of its bounds is missed.
//
// Both run in a step of the SDK, which has the same files and no privilege.
//
//	go run ./bench/log
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
	run := outside
	if len(os.Args) == 3 && os.Args[1] == "inside" {
		run = inside
	}
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "log:", err)
		stop()
		os.Exit(1)
	}
}
