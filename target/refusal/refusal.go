// Package refusal ends a boot that cannot be trusted: it says why on the
// console, and restarts the machine as long as the loader counts tries down.
// The initramfs and PID 1 use it for every error, doubt and panic.
//
// The loader's counter is that of the Automatic Boot Assessment (systemd,
// UAPI group): LoaderBootCountPath names the entry with the tries that are left.
package refusal

import (
	"errors"
	"fmt"

	format "cloison/format/efivar"
	"cloison/linux/efivar"
	"cloison/linux/kmsg"
	"cloison/linux/power"
	"cloison/linux/terminal"
)

// Variables are the firmware's.
type Variables interface {
	Read(name, vendor string) (format.Variable, error)
}

// Log is the kernel's log.
type Log interface {
	Printf(level int, format string, args ...any) error
}

// Verdict is what to do after a refusal. The zero Verdict restarts.
type Verdict struct {
	Off bool   // switch off instead of restarting
	Why string // for the console
}

// Judge decides, from the loader's counter, what a refusal would lead to.
func Judge(vars Variables) Verdict {
	v, err := vars.Read("LoaderBootCountPath", efivar.Loader)
	if errors.Is(err, efivar.ErrMissing) {
		return Verdict{Why: "the loader does not count tries of this entry"}
	}
	var path string
	if err == nil {
		path, err = v.Text()
	}
	var c format.Counted
	if err == nil {
		c, err = format.CountPath(path)
	}
	switch {
	case err != nil:
		return Verdict{Why: fmt.Sprintf("the loader's counter is unreadable: %v", err)}
	case c.Left > 0:
		return Verdict{Why: fmt.Sprintf("the loader has %d more tries for %s", c.Left, c.Version)}
	case other(vars):
		return Verdict{Why: "no try is left for " + c.Version + ", the loader has another entry"}
	}
	// Without a try and without another entry the loader would start this one
	// again and again.
	return Verdict{Off: true, Why: "no try is left for " + c.Version + " and the loader has no other entry"}
}

func other(vars Variables) bool {
	list, err1 := vars.Read("LoaderEntries", efivar.Loader)
	selected, err2 := vars.Read("LoaderEntrySelected", efivar.Loader)
	if err1 != nil || err2 != nil {
		return false
	}
	entries, err1 := list.Texts()
	self, err2 := selected.Text()
	return err1 == nil && err2 == nil && format.OtherEntry(entries, self)
}

// Refuse says why on the console and ends the machine. It does not return:
// where neither restarting nor switching off works it panics, upon which the
// kernel, having lost its first process, panics and restarts.
func Refuse(log Log, reason any, v Verdict) {
	// Errors here have nobody left to hear them: the machine must end.
	end, word := power.Restart, "restarting"
	if v.Off {
		end, word = power.Off, "switching off"
	}
	if log != nil {
		_ = log.Printf(kmsg.Critical, "cloison: refused: %v", reason)
		_ = log.Printf(kmsg.Critical, "cloison: %s: %s", word, v.Why)
	}
	_ = terminal.Drain()
	power.Sync()
	panic(fmt.Sprintf("cannot end after a refusal (%v): %v", reason, errors.Join(end(), power.Restart())))
}
