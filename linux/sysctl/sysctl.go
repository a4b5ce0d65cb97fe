// Package sysctl sets the kernel's parameters below /proc/sys (proc_sys(5)).
package sysctl

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ErrMissing says that the kernel has no such parameter.
var ErrMissing = errors.New("the kernel has no such parameter")

// Set writes value to the parameter (kernel.panic, net.ipv4.ip_forward) below
// root, which is /proc/sys, and reads it back. The error wraps ErrMissing when
// there is no such parameter.
func Set(root, parameter, value string) error {
	path := filepath.Join(root, strings.ReplaceAll(parameter, ".", "/"))
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot set %s: %w", parameter, ErrMissing)
	}
	if err != nil {
		return fmt.Errorf("cannot set %s: %w", parameter, err)
	}
	_, err = f.WriteString(value + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("cannot set %s to %q: %w", parameter, value, err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("cannot read %s back: %w", parameter, err)
	}
	if got := strings.Join(strings.Fields(string(b)), " "); got != value {
		return fmt.Errorf("cannot set %s to %q: it reads back as %q", parameter, value, got)
	}
	return nil
}
