package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"cloison/format/hint"
	"cloison/host/sdk"
)

// Accelerator is what executes the guest's instructions.
type Accelerator struct {
	Name   string // kvm or tcg
	Reason string // why this one
}

func (a Accelerator) String() string { return a.Name + " (" + a.Reason + ")" }

// kvmDevice is where the kernel offers KVM.
const kvmDevice = "/dev/kvm"

// probeDeadline is how long the probe's guest may take. Where KVM works the
// firmware needs well under a second.
const probeDeadline = 5 * time.Second

// Probe finds the accelerator for this host: KVM if a guest really runs
// under it, else TCG. That the device can be opened says little: nested
// and emulated KVMs exist that execute real mode and stop at the first x87
// instruction of long mode, others lack SMM. So the guest of the probe is
// the very firmware that a machine starts with, until it looks for
// something to boot.
func Probe(ctx context.Context, s *sdk.SDK) (Accelerator, error) {
	if err := checkTools(s); err != nil {
		return Accelerator{}, err
	}
	device, err := os.OpenFile(kvmDevice, os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return tcg("no " + kvmDevice), nil
	case errors.Is(err, fs.ErrPermission):
		return tcg("no right to open " + kvmDevice), nil
	case err != nil:
		return tcg(err.Error()), nil
	}
	device.Close()
	err = runFirmware(ctx, s, Accelerator{Name: "kvm"}, probeDeadline)
	if ctx.Err() != nil {
		return Accelerator{}, ctx.Err()
	}
	if err != nil {
		return tcg(kvmDevice + " exists, but the firmware does not run under it"), nil
	}
	return Accelerator{Name: "kvm", Reason: "the firmware ran under it"}, nil
}

func tcg(reason string) Accelerator { return Accelerator{Name: "tcg", Reason: reason} }

// bootDevices is where the firmware has done its own work and looks for
// something to boot.
var bootDevices = regexp.MustCompile(`BdsDxe: `)

// runFirmware starts a machine with an empty disk and waits until its
// firmware has looked for something to boot.
func runFirmware(ctx context.Context, s *sdk.SDK, a Accelerator, deadline time.Duration) error {
	dir, err := os.MkdirTemp("", "cloison-probe-")
	if err != nil {
		return fmt.Errorf("cannot probe %s: %w", a.Name, err)
	}
	defer os.RemoveAll(dir)
	empty := filepath.Join(dir, "empty.img")
	if err := os.WriteFile(empty, make([]byte, 1<<20), 0o600); err != nil {
		return hint.Wrap(fmt.Errorf("cannot probe %s: %w", a.Name, err), "TMPDIR must have 8 MiB free")
	}
	folder, err := OpenFolder(filepath.Join(dir, "machine"))
	if err != nil {
		return err
	}
	defer folder.Close()
	if err := folder.Prepare(s, empty); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	m, err := Start(ctx, Config{SDK: s, Folder: folder, Accelerator: a, Memory: 128, CPUs: 1, NoReboot: true})
	if err != nil {
		return err
	}
	defer m.Close()
	_, err = m.Console.Expect(ctx, bootDevices)
	return err
}
