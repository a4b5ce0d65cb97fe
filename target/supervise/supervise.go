// Package supervise is PID 1 of the core: it mounts, sets the kernel's
// parameters, starts the services and looks after them until the machine ends.
// An error of its own ends the machine (cloison/target/refusal); it never goes
// on with half a system.
//
// It needs the note of the initramfs (cloison/format/bootfacts) and runs as one
// loop: the hardware watchdog is fed by that loop and by nothing else.
package supervise

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"cloison/format/bootfacts"
	kformat "cloison/format/kmsg"
	"cloison/format/network"
	"cloison/format/osrelease"
	"cloison/format/service"
	"cloison/linux/clock"
	"cloison/linux/efivar"
	"cloison/linux/kmsg"
	"cloison/linux/power"
	"cloison/linux/tpm"
	"cloison/linux/watchdog"
	"cloison/target/refusal"
	"cloison/target/swap"
)

const (
	release  = "/usr/lib/os-release"
	phasePCR = 11

	// readyDeadline is how long the required services may take to be ready. It
	// is long because emulated machines are slow; the watchdog is quicker.
	readyDeadline = 60 * time.Second
	// watchdogTimeout is how long the loop may stand still.
	watchdogTimeout = 30 * time.Second
)

type supervisor struct {
	log      *kmsg.Log
	verdict  refusal.Verdict
	facts    bootfacts.Facts
	release  osrelease.Release
	boot     string // the kernel's boot ID, 32 digits
	vars     efivar.Store
	tpm      *tpm.TPM // nil where there is none: such a boot is not measured
	watchdog *watchdog.Watchdog
	networks []network.Network
	declared []*service.Service
	services []*hosted          // in the order of their start; instances behind them
	kinds    []*kind            // services that have instances
	pipes    []output           // of all services that write to the log
	key      ed25519.PrivateKey // of tickets, for this boot
	public   ed25519.PublicKey
	sessions uint64 // so far
	beginner *run   // who is to be told the status once all are ready, or nil
	ending   *end   // nil while the machine is to go on
	// What the log is given; it stays open from one run to the next.
	kernelLog, audit *os.File
	started          time.Duration
	ready            time.Duration // 0 until all required services are
	entry            string
	repaired         uint64 // as last said
	state            sealed
	changed          []string   // databases of Secure Boot that differ from those of this boot
	swap             *swap.Area // nil where the product has none

	signals   chan os.Signal
	notices   chan notice
	arrivals  chan arrival
	orders    chan order
	corrected chan struct{}
	forged    chan kformat.Record
	fatal     chan error
	carried   chan struct{} // closed when the last boot's seed is used up
}

// Main is PID 1. It does not return.
func Main() {
	started := clock.SinceBoot()
	// The system is small: collect often rather than hold memory.
	debug.SetGCPercent(50)
	s := &supervisor{
		started:   started,
		vars:      efivar.Store{Dir: efivar.Dir},
		verdict:   refusal.Verdict{Why: "the loader's counter was not read yet"},
		signals:   make(chan os.Signal, 16),
		notices:   make(chan notice),
		arrivals:  make(chan arrival),
		orders:    make(chan order),
		corrected: make(chan struct{}, 1),
		forged:    make(chan kformat.Record, 1),
		fatal:     make(chan error, 1),
		carried:   make(chan struct{}),
	}
	reason := caught(s.run)
	if s.log == nil {
		refusal.Refuse(nil, reason, s.verdict)
	}
	refusal.Refuse(s.log, reason, s.verdict)
}

func (s *supervisor) say(format string, args ...any) {
	if err := s.log.Printf(kmsg.Warning, "cloison: %.3f s: %s", clock.SinceBoot().Seconds(), fmt.Sprintf(format, args...)); err != nil {
		panic(err) // whoever cannot be heard must not go on
	}
}

// run returns only with the reason why the system cannot go on.
func (s *supervisor) run() error {
	if os.Getpid() != 1 {
		return errors.New("init must be the first process")
	}
	// 1. Take every signal that would end a Go program; only SIGCHLD means
	// anything. They are caught, not ignored: services would inherit that.
	signal.Notify(s.signals, syscall.SIGCHLD, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM,
		syscall.SIGQUIT, syscall.SIGPIPE, syscall.SIGALRM, syscall.SIGUSR1, syscall.SIGUSR2)

	// 2. Find our voice: /dev came with us from the initramfs.
	var err error
	if s.log, err = kmsg.Open(); err != nil {
		return err
	}

	// 3. Mount, then learn what an error would lead to.
	if err := mountAll(); err != nil {
		return err
	}
	s.verdict = refusal.Judge(s.vars)
	// Most of what follows waits for devices: read meanwhile what is to be started.
	declared := make(chan error, 1)
	go func() { declared <- caught(s.readDeclarations) }()

	// 4. Arm the watchdog before anything that can hang.
	if err := s.arm(); err != nil {
		return err
	}

	// 5. Restrict the kernel before the first service.
	if err := setSysctls("/proc/sys", slices.Concat(sysctls, networkSysctls)); err != nil {
		return err
	}
	if err := power.IgnoreCtrlAltDel(); err != nil {
		return err
	}

	// 6. Know who we are; the image must be the one that the command line names.
	if err := s.identify(); err != nil {
		return err
	}

	// 7. Measure that the system is set up and nobody else ran so far.
	if s.facts.Measured {
		if s.tpm, err = tpm.Open(tpm.Node); err != nil {
			return err
		}
	} else if !s.facts.Core.Passphrase {
		return errors.New("the initramfs has found no TPM, which this product needs")
	}
	if err := s.extend("sysinit"); err != nil {
		return err
	}

	// 8. Listen to the kernel, look at the state volume, and find room for memory.
	if err := s.follow(); err != nil {
		return err
	}
	if err := s.openState(); err != nil {
		return err
	}
	if s.facts.Swap != bootfacts.NoSwap {
		area, err := swap.Open(s.facts.Swap)
		if err != nil {
			return err
		}
		s.swap = &area
		s.say("swap: %d MiB on %s, under a key of this boot", area.Size>>20, area.Partition)
	}
	// Services that need the generator wait for it by themselves.
	go s.guard(s.carrySeed)

	// 9. Make the networks, and what services keep from one start to the next. The
	// loop starts them.
	if err := <-declared; err != nil {
		return err
	}
	if err := s.makeNetworks(); err != nil {
		return err
	}
	if err := s.host(); err != nil {
		return err
	}
	return s.loop()
}

// extend measures a phase.
func (s *supervisor) extend(phase string) error {
	if s.tpm == nil {
		return nil
	}
	return s.tpm.Extend(phasePCR, []byte(phase))
}

func (s *supervisor) arm() error {
	w, err := watchdog.Open(watchdogTimeout)
	if errors.Is(err, watchdog.ErrMissing) {
		s.say("no hardware watchdog: a system that hangs will not restart by itself")
		return nil
	}
	if err != nil {
		return err
	}
	s.watchdog = w
	s.say("hardware watchdog %q bites after %v", w.Identity, w.Timeout)
	return nil
}

func (s *supervisor) feed() error {
	if s.watchdog == nil {
		return nil
	}
	return s.watchdog.Feed()
}

func (s *supervisor) identify() error {
	b, err := os.ReadFile(bootfacts.Note)
	if err != nil {
		return fmt.Errorf("cannot read the note of the initramfs: %w", err)
	}
	if s.facts, err = bootfacts.Parse(string(b)); err != nil {
		return err
	}
	if b, err = os.ReadFile(release); err != nil {
		return fmt.Errorf("cannot tell what this image is: %w", err)
	}
	if s.release, err = osrelease.Parse(string(b)); err != nil {
		return err
	}
	if b, err = os.ReadFile("/proc/sys/kernel/random/boot_id"); err != nil {
		return fmt.Errorf("cannot tell which boot this is: %w", err)
	}
	s.boot = strings.ReplaceAll(strings.TrimSpace(string(b)), "-", "")
	if v := s.release.Get("VERSION_ID"); v != s.facts.Core.Version {
		return fmt.Errorf("the image says that it is version %q, the signed command line %q", v, s.facts.Core.Version)
	}
	if d := s.release.Get("VARIANT_ID") == "development"; d != s.facts.Core.Development {
		return fmt.Errorf("the image says development %t, the signed command line %t", d, s.facts.Core.Development)
	}
	if p := s.release.Get("CLOISON_UNLOCK") == string(bootfacts.Passphrase); p != s.facts.Core.Passphrase {
		return fmt.Errorf("the image says that a passphrase opens the state volume: %t, the signed command line %t", p, s.facts.Core.Passphrase)
	}
	for _, key := range []string{"CLOISON_PRODUCT", "CLOISON_SECURITY_VERSION", "PRETTY_NAME"} {
		if s.release.Get(key) == "" {
			return fmt.Errorf("the image does not say its %s", key)
		}
	}
	return nil
}

// allReady marks the boot good: every required service is up.
func (s *supervisor) allReady() error {
	s.ready = clock.SinceBoot()
	// 1. Give the loader its counter back before saying so.
	var err error
	if s.entry, err = markGood(s.vars, s.facts.ESP); err != nil {
		return err
	}
	if s.entry != "" {
		// What the loader said when it started us is no longer so.
		s.verdict = refusal.Verdict{Why: "the boot was marked good, the loader no longer counts it"}
	}
	// 2. Keep that it was good.
	if err := s.goodState(); err != nil {
		return err
	}
	// 3. Measure.
	if err := s.extend("ready"); err != nil {
		return err
	}
	if err := s.countRepairs(); err != nil {
		return err
	}
	st, err := s.status(false)
	if err != nil {
		return err
	}
	if s.entry != "" {
		s.say("boot marked good: %s", s.entry)
	}
	// 4. Say so.
	if err := s.log.Printf(kmsg.Warning, "%s", st.Marker()); err != nil {
		return err
	}
	// 5. Now that it is known that this release works with what there is.
	if err := s.change(); err != nil {
		return err
	}
	// 6. Show it to whoever sits there.
	if r := s.beginner; r != nil && r.of.run == r {
		st, err := s.status(true)
		if err != nil {
			return err
		}
		r.answer(st.String())
	}
	s.beginner = nil
	return nil
}
