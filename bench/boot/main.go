// Command boot measures how long Cloison needs from the start of its kernel
// until it is ready, against a minimal Debian trixie with systemd, in the same
// run, alternating, in the same machine: the same firmware, processor, memory
// and devices, emulated by TCG. It compares memory in use and sizes too, and
// fails when one of its bounds is missed. Debian has no encrypted volume: what
// Cloison's state volume takes is measured apart.
//
// Cloison must be built. Its Debian is made once, by mmdebstrap, with Debian's own
// kernel and initramfs, and kept in the cache; that needs root, for the packages'
// scripts run in a chroot, and mkfs.ext4.
//
//	go run ./bench/boot
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
		fmt.Fprintln(os.Stderr, "boot:", err)
		stop()
		os.Exit(1)
	}
}
