// Package watchdog arms and feeds the machine's hardware watchdog (Linux,
// Documentation/watchdog/watchdog-api.rst).
package watchdog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Node is the device of the first watchdog.
const Node = "/dev/watchdog0"

// ErrMissing says that the machine has none that the kernel knows.
var ErrMissing = errors.New("no hardware watchdog")

// Watchdog is armed from Open on: unless it is fed it restarts the machine.
type Watchdog struct {
	f *os.File
	// Identity is what the driver calls itself.
	Identity string
	// Timeout is how long it waits for food, as read back.
	Timeout time.Duration
}

// Open arms the watchdog. What timeout the hardware makes of the wish, to the
// second, is in Timeout; one that it exceeds or that is under half is an error.
func Open(wish time.Duration) (*Watchdog, error) {
	f, err := os.OpenFile(Node, os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrMissing
	}
	if err != nil {
		return nil, fmt.Errorf("cannot arm the watchdog: %w", err)
	}
	w := &Watchdog{f: f}
	if err := w.set(wish); err != nil {
		// The file stays open and the watchdog armed: it will bite.
		return nil, fmt.Errorf("cannot arm the watchdog: %w", err)
	}
	return w, nil
}

func (w *Watchdog) set(wish time.Duration) error {
	var info struct { // struct watchdog_info
		options, version uint32
		identity         [32]byte
	}
	if err := w.ioctl(unix.WDIOC_GETSUPPORT, unsafe.Pointer(&info)); err != nil {
		return err
	}
	name, _, _ := bytes.Cut(info.identity[:], []byte{0})
	w.Identity = string(name)
	seconds := int32(wish / time.Second)
	if err := w.ioctl(unix.WDIOC_SETTIMEOUT, unsafe.Pointer(&seconds)); err != nil {
		return err
	}
	if err := w.ioctl(unix.WDIOC_GETTIMEOUT, unsafe.Pointer(&seconds)); err != nil {
		return err
	}
	w.Timeout = time.Duration(seconds) * time.Second
	if w.Timeout > wish || w.Timeout < wish/2 {
		return fmt.Errorf("asked for %v, %s has set %v", wish, w.Identity, w.Timeout)
	}
	return nil
}

// Feed starts the time anew.
func (w *Watchdog) Feed() error {
	if err := w.ioctl(unix.WDIOC_KEEPALIVE, nil); err != nil {
		return fmt.Errorf("cannot feed the watchdog: %w", err)
	}
	return nil
}

// Disarm stops it, by the "magic close". Where the kernel is built not to let
// it (NOWAYOUT) it stays armed.
func (w *Watchdog) Disarm() error {
	_, err := w.f.Write([]byte("V"))
	if err = errors.Join(err, w.f.Close()); err != nil {
		return fmt.Errorf("cannot disarm the watchdog: %w", err)
	}
	return nil
}

func (w *Watchdog) ioctl(request uint, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, w.f.Fd(), uintptr(request), uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}
