// Command verity measures the making of a dm-verity tree and its parity over
// 512 MiB against the SDK's veritysetup, in the same run on the same data. Both
// are programs of their own that read and write one file, so that what is
// compared is the whole of the work. It fails when the two files differ or when
// the bound on CPU time is missed.
//
//	go run ./bench/verity
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
		fmt.Fprintln(os.Stderr, "verity:", err)
		stop()
		os.Exit(1)
	}
}
