package machine

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
)

// Patience is long enough for the loader's one second, for the firmware's check of
// what it starts, and for the kernel's silence, on a busy host without KVM.
const Patience = 2 * time.Minute

// counting is what the loader writes last in its menu.
var counting = regexp.MustCompile(`Boot in [0-9]+ s\.`)

// Unattended resets a machine whose loader shows its menu for longer than patience,
// each time for twice as long, until the machine ends. It is for machines at whose console nobody
// sits: about one boot in a hundred on busy hosts stands still there under QEMU's
// emulation (docs/decisions/0022-unattended.md). Where the processors stood is
// written to report before.
func (m *Machine) Unattended(patience time.Duration, report io.Writer) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	seen, since := 0, time.Now()
	for {
		select {
		case <-m.done:
			return
		case <-tick.C:
		}
		text := m.Console.Text()
		if len(text) != seen || !inMenu(text) {
			seen, since = len(text), time.Now()
		}
		if time.Since(since) < patience {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		registers, err := m.Registers(ctx)
		if err == nil {
			fmt.Fprintf(report, "the loader stands still for %v: the machine is reset\n%s\n", patience, registers)
			err = m.restart(ctx)
		}
		cancel()
		if err != nil {
			return // it ends, or whoever waits for it gives up
		}
		since, patience = time.Now(), 2*patience
	}
}

// inMenu tells whether the loader's menu is the last thing on the console: it is
// drawn without line ends, and what comes after it has some.
func inMenu(text string) bool {
	at := counting.FindAllStringIndex(text, -1)
	return at != nil && !strings.Contains(text[at[len(at)-1][1]:], "\n")
}

// restart resets the machine, even one that a reset of its own would end.
func (m *Machine) restart(ctx context.Context) error {
	if _, err := m.qmp.execute(ctx, "set-action", map[string]any{"reboot": "reset"}); err != nil {
		return err
	}
	if err := m.Reset(ctx); err != nil {
		return err
	}
	if !m.once {
		return nil
	}
	_, err := m.qmp.execute(ctx, "set-action", map[string]any{"reboot": "shutdown"})
	return err
}
