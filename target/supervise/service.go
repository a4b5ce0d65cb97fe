package supervise

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"cloison/linux/efivar"
	"cloison/linux/process"
	"cloison/linux/terminal"
)

const (
	consoleProgram = "/usr/lib/cloison/console"
	// consoleID is the user and group of the console service, of nobody else.
	consoleID = 901
)

// service is a running service, with our end of its socket.
type service struct {
	pid    int
	socket *os.File
}

// request is one word that a service has sent.
type request struct {
	from *service
	word string
}

// startConsole starts the console service: descriptors 0 to 2 are the console,
// 3 is its socket to us. It has no privilege and no network.
func startConsole(s *supervisor) (*service, error) {
	tty, err := terminal.Open()
	if err != nil {
		return nil, err
	}
	ours, theirs, err := process.Pair()
	if err != nil {
		return nil, errors.Join(err, tty.Close())
	}
	pid, err := process.Start(process.Spec{
		Path: consoleProgram, Files: []*os.File{tty, tty, tty, theirs},
		UID: consoleID, GID: consoleID, Terminal: true, Isolated: true,
	})
	if err = errors.Join(err, theirs.Close(), tty.Close()); err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	c := &service{pid, ours}
	go s.guard(func() error { return c.listen(s.requests) })
	return c, nil
}

// listen hands the service's words to the loop until it ends.
func (c *service) listen(requests chan<- request) error {
	b := make([]byte, 64)
	for {
		n, err := c.socket.Read(b)
		if errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) || err == nil && n == 0 {
			return nil // the loop hears of the end by SIGCHLD
		}
		if err != nil {
			return fmt.Errorf("cannot hear the console service: %w", err)
		}
		requests <- request{c, string(b[:n])}
	}
}

// answer sends a text. The service may have ended, which is heard elsewhere; one
// that does not read its answers is not waited for.
func (c *service) answer(text string) {
	go func() { _, _ = c.socket.WriteString(text) }()
}

func (c *service) close() { _ = c.socket.Close() } // nothing is left to lose

// pcrs is what the status shows.
var pcrs = []PCR{
	{Index: 4, What: "loader and UKI"},
	{Index: 7, What: "Secure Boot keys"},
	{Index: 11, What: "UKI and boot phases"},
	{Index: 12, What: "unsigned additions"},
	{Index: 13, What: "unsigned extensions"},
	{Index: 15, What: "state volume"},
}

// status gathers what is known now; without measured the PCRs are left out.
func (s *supervisor) status(measured bool) (Status, error) {
	st := Status{
		Title: s.release.Get("PRETTY_NAME"), Version: s.facts.Core.Version,
		Product: s.release.Get("CLOISON_PRODUCT"), SecurityVersion: s.release.Get("CLOISON_SECURITY_VERSION"),
		Development: s.facts.Core.Development, RootHash: s.facts.Core.RootHash,
		Slot: s.facts.Slot, Device: s.facts.Device, GPTBackup: s.facts.GPTBackup,
		Initramfs: s.facts.Initramfs, Opened: s.facts.Opened, Unsealed: s.facts.Unsealed, PID1: s.started, Ready: s.ready,
		Repaired: s.repaired, Entry: s.entry, Watchdog: "none: a system that hangs will not restart by itself",
	}
	st.Title = strings.TrimSuffix(strings.TrimSuffix(st.Title, " DEVELOPMENT BUILD"), " "+st.Version)
	if s.watchdog != nil {
		st.Watchdog = fmt.Sprintf("%s, %v", s.watchdog.Identity, s.watchdog.Timeout)
	}
	if err := s.stateStatus(&st); err != nil {
		return Status{}, err
	}
	if measured {
		for _, p := range pcrs {
			var err error
			if p.Value, err = s.tpm.PCR(p.Index); err != nil {
				return Status{}, err
			}
			st.PCRs = append(st.PCRs, p)
		}
		s.loaderTimes(&st)
	}
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return Status{}, fmt.Errorf("cannot tell the memory in use: %w", err)
	}
	total, available, err := memory(string(b))
	if err != nil {
		return Status{}, err
	}
	st.MemoryTotal, st.MemoryUsed = total, total-available
	return st, nil
}

// loaderTimes adds what the loader tells of the time before the kernel. It is
// for information, and a loader may not tell.
func (s *supervisor) loaderTimes(st *Status) {
	begin, err1 := s.vars.Read("LoaderTimeInitUSec", efivar.Loader)
	end, err2 := s.vars.Read("LoaderTimeExecUSec", efivar.Loader)
	if err1 != nil || err2 != nil {
		return
	}
	b, err1 := begin.Since()
	e, err2 := end.Since()
	if err1 == nil && err2 == nil && e >= b {
		st.Firmware, st.Loader = b, e-b
	}
}

// memory reads MemTotal and MemAvailable, in KiB, from /proc/meminfo (proc(5)).
func memory(meminfo string) (total, available uint64, err error) {
	found := 0
	for line := range strings.Lines(meminfo) {
		f := strings.Fields(line)
		if len(f) != 3 || f[2] != "kB" || f[0] != "MemTotal:" && f[0] != "MemAvailable:" {
			continue
		}
		n, err := strconv.ParseUint(f[1], 10, 53)
		if err != nil {
			return 0, 0, fmt.Errorf("cannot parse /proc/meminfo: %w", err)
		}
		if found++; f[0] == "MemTotal:" {
			total = n
		} else {
			available = n
		}
	}
	if found != 2 || available > total {
		return 0, 0, errors.New("cannot parse /proc/meminfo: no MemTotal and MemAvailable")
	}
	return total, available, nil
}
