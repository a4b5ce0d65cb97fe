package machine

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"cloison/format/hint"
)

// overhead is what QEMU and swtpm need beside the guest's memory, in MiB,
// TCG's translated code included.
const overhead = 192

func checkHostMemory(need int) error {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return fmt.Errorf("cannot see how much memory is free: %w", err)
	}
	defer f.Close()
	return checkMemory(f, need)
}

// checkMemory checks from the text of /proc/meminfo that a guest of need MiB
// fits.
func checkMemory(meminfo io.Reader, need int) error {
	const least = 128 // below it the firmware does not start
	if need < least {
		return hint.Wrap(fmt.Errorf("cannot start machine: %d MiB of memory is too little", need),
			"give it at least %d MiB with --memory", least)
	}
	lines := bufio.NewScanner(meminfo)
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), "MemAvailable:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil {
			return fmt.Errorf("cannot see how much memory is free: %w", err)
		}
		if available := kib / 1024; available < int64(need+overhead) {
			return hint.Wrap(
				fmt.Errorf("cannot start machine: it needs %d MiB of memory and %d more for QEMU, but %d MiB are free", need, overhead, available),
				"end other programs, or ask for less with --memory")
		}
		return nil
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("cannot see how much memory is free: %w", err)
	}
	return fmt.Errorf("cannot see how much memory is free: no MemAvailable in /proc/meminfo")
}
