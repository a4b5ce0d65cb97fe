package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"cloison/host/machine"
	"cloison/host/sdk"
)

// boot is what one boot told. PID1 and Ready are the guest's own clock, which
// starts with its kernel.
type boot struct {
	PID1, Ready time.Duration
	// State is how long the state volume took: unsealed, opened, mounted. A peer
	// has none.
	State  time.Duration
	Memory float64 // in use when nothing happens, bytes
	// Guest and Host are the time from the first line of the kernel or the
	// initramfs on the serial line to the one that tells Ready, by either clock.
	Guest, Host time.Duration
}

// bootFunc boots a machine once, from power-on to power-off.
type bootFunc func(context.Context) (boot, error)

// deadline is what one boot may take, firmware included.
const deadline = 5 * time.Minute

var (
	cloisonFirst  = regexp.MustCompile(`cloison: ([0-9.]+) s: initramfs of `)
	cloisonReady  = regexp.MustCompile(`cloison: ready .* ready_usec=(\d+) `)
	cloisonPrompt = regexp.MustCompile(`(?m)^cloison> $`)
	cloisonMemory = regexp.MustCompile(`memory in use +([0-9.]+) of [0-9.]+ MiB`)
	cloisonState  = regexp.MustCompile(`(?m)^    state volume +([0-9.]+) s +[0-9.]+ s`)
	cloisonPID1   = regexp.MustCompile(`switch of root +[0-9.]+ s +([0-9.]+) s`)

	debianFirst = regexp.MustCompile(`EFI stub: `)
	debianReady = regexp.MustCompile(`\[ *([0-9.]+)\] bench: state=running pid1_usec=(\d+) ready_usec=(\d+) memory_kib=(\d+)\s`)
)

// newCloison enrols the keys of the image in a machine of its own in dir, and
// returns what boots it.
func newCloison(ctx context.Context, s *sdk.SDK, dir, image string) (bootFunc, error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	template, err := machine.NewTemplate(ctx, s, machine.Accelerator{}, filepath.Join(dir, "keys"), image)
	if err != nil {
		return nil, err
	}
	defer template.Close()
	folder, err := template.Folder(s, filepath.Join(dir, "cloison"), image)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (boot, error) {
		return power(ctx, s, folder, watchCloison)
	}, nil
}

// newDebian does the same for the peer. Its machine has no keys: Debian's
// kernel restricts itself less and has less to check.
func newDebian(s *sdk.SDK, dir, image string) (bootFunc, error) {
	folder, err := machine.OpenFolder(dir)
	if err != nil {
		return nil, err
	}
	if err := folder.Prepare(s, image); err != nil {
		return nil, err
	}
	return func(ctx context.Context) (boot, error) {
		return power(ctx, s, folder, watchDebian)
	}, nil
}

// power starts a machine, the same for both, and has it watched until it
// switches itself off.
func power(ctx context.Context, s *sdk.SDK, folder *machine.Folder, watch func(context.Context, *machine.Console) (boot, error)) (boot, error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	m, err := machine.Start(ctx, machine.Config{SDK: s, Folder: folder, Memory: memory, NoReboot: true})
	if err != nil {
		return boot{}, err
	}
	go m.Unattended(machine.Patience, os.Stderr)
	defer m.Close()
	b, err := watch(ctx, m.Console)
	if err != nil {
		return boot{}, err
	}
	exit, err := m.Wait()
	if err == nil && exit.Reason != "guest-shutdown" {
		err = fmt.Errorf("the machine did not switch itself off: %s", exit.Reason)
	}
	return b, err
}

func watchCloison(ctx context.Context, console *machine.Console) (b boot, err error) {
	first, err := numbers(ctx, console, cloisonFirst)
	if err != nil {
		return b, err
	}
	start := time.Now()
	ready, err := numbers(ctx, console, cloisonReady)
	if err != nil {
		return b, err
	}
	b.Host = time.Since(start)
	b.Ready = time.Duration(ready[0]) * time.Microsecond
	b.Guest = b.Ready - seconds(first[0])
	if _, err := console.Expect(ctx, cloisonPrompt); err != nil {
		return b, err
	}
	if _, err := console.Write([]byte("status\n")); err != nil {
		return b, err
	}
	memory, err := numbers(ctx, console, cloisonMemory)
	if err != nil {
		return b, err
	}
	state, err := numbers(ctx, console, cloisonState)
	if err != nil {
		return b, err
	}
	pid1, err := numbers(ctx, console, cloisonPID1)
	if err != nil {
		return b, err
	}
	b.Memory, b.PID1, b.State = memory[0]*(1<<20), seconds(pid1[0]), seconds(state[0])
	_, err = console.Write([]byte("poweroff\n"))
	return b, err
}

func watchDebian(ctx context.Context, console *machine.Console) (b boot, err error) {
	if _, err := console.Expect(ctx, debianFirst); err != nil {
		return b, err
	}
	start := time.Now()
	told, err := numbers(ctx, console, debianReady)
	if err != nil {
		return b, err
	}
	b.Host, b.Guest = time.Since(start), seconds(told[0])
	b.PID1, b.Ready = time.Duration(told[1])*time.Microsecond, time.Duration(told[2])*time.Microsecond
	b.Memory = told[3] * (1 << 10)
	return b, nil
}

// numbers waits for a line and returns the numbers in it.
func numbers(ctx context.Context, console *machine.Console, line *regexp.Regexp) ([]float64, error) {
	text, err := console.Expect(ctx, line)
	if err != nil {
		return nil, err
	}
	var values []float64
	for _, field := range line.FindStringSubmatch(text)[1:] {
		value, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return nil, fmt.Errorf("cannot read %q: %w", text, err)
		}
		values = append(values, value)
	}
	return values, nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
