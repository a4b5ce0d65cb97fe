// Command confine measures the start and the end of a fully confined /bin/true:
// Cloison's launcher against bubblewrap with the equivalent flags and against
// runc with the equivalent configuration, in the same run, alternating, with the
// same root folder and the same system call filter. It fails when one of its
// bounds is missed.
//
// As on the machine, the empty network namespace of the launcher's service is made
// at its first start and kept, and its control group is there before; bubblewrap
// and runc make theirs each time.
//
// Then it boots the product with ten services and measures how long PID 1 takes
// until all are ready, and what it needs of the memory.
//
// It needs root. Debian's bubblewrap and runc are fetched once and kept in the
// cache. What bubblewrap and runc cannot do (Landlock, W^X memory, locked
// securebits, one execution only) the launcher does on top.
//
//	go run ./bench/confine
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
		fmt.Fprintln(os.Stderr, "confine:", err)
		stop()
		os.Exit(1)
	}
}
