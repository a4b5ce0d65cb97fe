// Package service is a service's own side of its declaration: it finds what the
// launcher has handed it, and tells PID 1 that it is ready and that it lives.
//
// It needs the environment of the launcher: LISTEN_FDS and LISTEN_FDNAMES, as in
// sd_listen_fds(3), CLOISON_PEERS and CLOISON_BOOT.
package service

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	format "cloison/format/service"
)

// first is the descriptor after the standard ones (SD_LISTEN_FDS_START).
const first = 3

// Descriptor returns what was handed under a name. It can be asked for once: who
// closes it has it no more.
func Descriptor(name string) (*os.File, error) {
	names, err := names(os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES"))
	if err != nil {
		return nil, err
	}
	for i, n := range names {
		if n == name {
			fd := first + i
			syscall.CloseOnExec(fd)
			// So that the runtime waits for it without a thread.
			if err := syscall.SetNonblock(fd, true); err != nil {
				return nil, fmt.Errorf("cannot take the descriptor %s: %w", name, err)
			}
			return os.NewFile(uintptr(fd), name), nil
		}
	}
	return nil, fmt.Errorf("cannot find the descriptor %s: the declaration does not name it", name)
}

func names(count, list string) ([]string, error) {
	n, err := strconv.Atoi(count)
	names := strings.Split(list, ":")
	if list == "" {
		names = nil
	}
	if err != nil || n != len(names) {
		return nil, fmt.Errorf("cannot tell what was handed over: %q descriptors with the names %q", count, list)
	}
	return names, nil
}

// Boot returns the kernel's boot ID: 32 hexadecimal digits.
func Boot() (string, error) {
	id := os.Getenv(format.Boot)
	if len(id) != 32 {
		return "", fmt.Errorf("cannot tell which boot this is: %q", id)
	}
	return id, nil
}

// Peers returns which user is which service, of those that may connect to a
// socket of this one.
func Peers() (map[uint32]string, error) { return peers(os.Getenv(format.Peers)) }

func peers(list string) (map[uint32]string, error) {
	all := map[uint32]string{}
	if list == "" {
		return all, nil
	}
	for item := range strings.SplitSeq(list, ",") {
		name, number, _ := strings.Cut(item, "=")
		uid, err := strconv.ParseUint(number, 10, 32)
		if err != nil || name == "" || uid == 0 {
			return nil, fmt.Errorf("cannot tell who may connect: %q", list)
		}
		if _, ok := all[uint32(uid)]; ok {
			return nil, fmt.Errorf("cannot tell who may connect: two are user %d in %q", uid, list)
		}
		all[uint32(uid)] = name
	}
	return all, nil
}

// Notifier tells PID 1 how this service is.
type Notifier struct{ f *os.File }

// Notify finds the way to tell.
func Notify() (*Notifier, error) {
	f, err := Descriptor("notify")
	return &Notifier{f}, err
}

// Ready says that the service answers from now on.
func (n *Notifier) Ready() error { return n.say("ready") }

// alive says that it works, for the watchdog of its declaration.
func (n *Notifier) alive() error { return n.say("alive") }

func (n *Notifier) say(word string) error {
	// PID 1 reads; one that does not has ended the machine's usefulness, too.
	if _, err := n.f.WriteString(word); err != nil {
		return fmt.Errorf("cannot tell PID 1 that the service is %s: %w", word, err)
	}
	return nil
}

// KeepAlive says that it works, again and again as long as check returns nil,
// and returns check's error, or that of the way.
func (n *Notifier) KeepAlive(every time.Duration, check func() error) error {
	for range time.Tick(every) {
		if err := errors.Join(check(), n.alive()); err != nil {
			return err
		}
	}
	return nil
}
