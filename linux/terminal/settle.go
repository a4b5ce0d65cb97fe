package terminal

import (
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// settled is how long a record of the kernel's is waited for at most, and look
	// how often.
	settled = time.Second
	look    = 2 * time.Millisecond
)

// settle waits until the kernel has printed what it had to say so far. It does so
// by threads of its own, beside whoever writes to the console: what they have not
// printed yet would come in the middle of a prompt. It is for the eyes only, so
// that without /proc it goes on.
func settle() {
	for end := time.Now().Add(settled); printing() && time.Now().Before(end); {
		time.Sleep(look)
	}
}

func printing() bool {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is right
	for _, name := range stats {
		stat, err := os.ReadFile(name)
		if err == nil && isPrinting(string(stat)) {
			return true
		}
	}
	return false
}

// isPrinting tells whether a line of /proc/PID/stat (proc(5)) is that of one of the
// kernel's printing threads (kthreadd's children pr/CONSOLE) that does not sleep.
func isPrinting(stat string) bool {
	open, end := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return false
	}
	fields := strings.Fields(stat[end+1:])
	return strings.HasPrefix(stat[open+1:end], "pr/") && len(fields) > 1 && fields[1] == "2" && fields[0] != "S"
}
