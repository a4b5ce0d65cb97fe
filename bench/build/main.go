// Command build measures how long a build takes when everything is in the
// cache, after a change in one Go file of a program of the target and after
// none. It changes a copy of the source tree, and fails when the bound is
// missed.
//
// Cloison must have been built once: the kernel is not compiled here.
//
//	go run ./bench/build
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
		fmt.Fprintln(os.Stderr, "build:", err)
		stop()
		os.Exit(1)
	}
}
