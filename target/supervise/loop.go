package supervise

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"cloison/format/kmsg"
	"cloison/linux/devicemapper"
	log "cloison/linux/kmsg"
	"cloison/linux/power"
	"cloison/linux/process"
	"cloison/linux/terminal"
)

const (
	// patience is how long services have to end when the machine does: longer
	// than the longest of their own limits should be.
	patience = 20 * time.Second
	// settle is how long corrections are gathered before they are said.
	settle = 500 * time.Millisecond
	// reseed is how often a seed for the next boot is saved.
	reseed = time.Hour
)

// loop is the one place where things happen. It returns only with the reason
// why the system cannot go on; reboot and poweroff end the machine in it.
func (s *supervisor) loop() error {
	feed := time.NewTicker(watchdogTimeout / 4)
	defer feed.Stop()
	late := time.NewTimer(readyDeadline)
	defer late.Stop()
	seed := time.NewTicker(reseed)
	defer seed.Stop()
	wait := time.NewTimer(0)
	defer wait.Stop()
	var counted <-chan time.Time
	for {
		s.sweep()
		if err := s.settleServices(); err != nil {
			return err
		}
		wait.Reset(time.Until(s.wake(time.Now())))
		select {
		case <-feed.C:
			if err := s.feed(); err != nil {
				return err
			}
			if err := s.tellDoors(time.Now()); err != nil {
				return err
			}
		case err := <-s.fatal:
			return err
		case <-late.C:
			if s.ready == 0 && s.ending == nil {
				return fmt.Errorf("not ready after %v: %s", readyDeadline, s.pending())
			}
		case sig := <-s.signals:
			if sig != syscall.SIGCHLD {
				continue
			}
			if err := s.reap(); err != nil {
				return err
			}
		case <-wait.C:
			for _, h := range slices.Clone(s.services) {
				if err := s.act(h, h.next(time.Now(), timed, "")); err != nil {
					return err
				}
			}
		case <-seed.C:
			s.saveSeed()
		case <-s.corrected:
			if counted == nil {
				counted = time.After(settle)
			}
		case <-counted:
			counted = nil
			if err := s.countRepairs(); err != nil {
				return err
			}
		case r := <-s.forged:
			if err := s.tellForged(r); err != nil {
				return err
			}
		case a := <-s.arrivals:
			if err := s.arrive(a); err != nil {
				return err
			}
		case o := <-s.orders:
			if err := s.order(o); err != nil {
				return err
			}
		case n := <-s.notices:
			if n.run.of.run != n.run {
				continue // of one that has ended meanwhile
			}
			if err := s.notice(n); err != nil {
				return err
			}
		}
	}
}

// wake is when the loop has to look at the services, whatever happens.
func (s *supervisor) wake(now time.Time) time.Time {
	at := wake(s.units(), now)
	if s.ending != nil && s.ending.late.Before(at) {
		at = s.ending.late
	}
	return at
}

// notice follows what a service or its launcher says.
func (s *supervisor) notice(n notice) error {
	if n.word != "" {
		return s.obey(n.run, n.word)
	}
	h := n.run.of
	was := h.stage
	if err := s.act(h, h.next(time.Now(), n.what, "")); err != nil {
		return err
	}
	if h.stage == ready && was != ready {
		if err := h.limitCPU(true); err != nil {
			return err
		}
		return s.log.Printf(log.Info, "cloison: service %s is ready", h.title())
	}
	return nil
}

// settleServices starts what can be started, says that all are ready, or goes on
// ending the machine.
func (s *supervisor) settleServices() error {
	if s.ending != nil {
		return s.goOnEnding()
	}
	for _, u := range startable(s.units()) {
		if err := s.act(s.of(u), launch); err != nil {
			return err
		}
	}
	if s.ready == 0 && s.pending() == "" {
		return s.allReady()
	}
	return nil
}

// follow listens to the kernel's log for repaired and for forged blocks.
func (s *supervisor) follow() error {
	f, err := log.Follow()
	if err != nil {
		return err
	}
	go s.guard(func() error {
		for {
			text, err := f.Next()
			if err != nil {
				return err
			}
			r, err := kmsg.Parse(text)
			if err != nil {
				return err
			}
			if _, _, ok := r.Forged(); ok {
				select {
				case s.forged <- r:
				default: // one told is enough, the kernel itself leaves some out
				}
			}
			if r.Corrected() {
				select {
				case s.corrected <- struct{}{}:
				default: // the loop has one to see already
				}
			}
		}
	})
	return nil
}

// guard runs one of the few goroutines beside the loop; its error or panic is
// the loop's.
func (s *supervisor) guard(f func() error) {
	if err := caught(f); err != nil {
		select {
		case s.fatal <- err:
		default: // one reason is enough
		}
	}
}

// caught makes a panic an error.
func caught(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("internal error: %v", p)
		}
	}()
	return f()
}

// countRepairs asks the verity device how many blocks it has repaired, and says
// so when the number grew.
func (s *supervisor) countRepairs() error {
	line, err := devicemapper.Status(s.facts.Mapping)
	if err != nil {
		return err
	}
	corrupted, repaired, err := devicemapper.VerityStatus(line)
	if err != nil {
		return err
	}
	if corrupted {
		return errors.New("a block of the core is corrupted beyond repair")
	}
	if repaired > s.repaired {
		s.repaired = repaired
		return s.log.Printf(log.Warning, "cloison: healed: %d blocks corrected by FEC", repaired)
	}
	return nil
}

// end is how the machine is to end.
type end struct {
	word string
	do   func() error
	late time.Time // when services are not waited for any more
}

// stop begins to end the machine in order; the loop goes on with it.
func (s *supervisor) stop(word string, do func() error) error {
	if s.ending != nil {
		return nil
	}
	s.ending = &end{word, do, time.Now().Add(patience)}
	return s.log.Printf(log.Warning, "cloison: %s at the console's request", word)
}

// goOnEnding asks those services to end that no other needs any more. When none
// is left it ends the machine; it returns then only with the reason why it could
// not.
func (s *supervisor) goOnEnding() error {
	units := s.units()
	for _, u := range stoppable(units) {
		if err := s.act(s.of(u), u.next(time.Now(), asked, "")); err != nil {
			return err
		}
	}
	left := slices.ContainsFunc(units, func(u *unit) bool { return !u.over() })
	if left && time.Now().Before(s.ending.late) {
		return nil
	}
	if left {
		s.say("not all services have ended in %v", patience)
	}
	return s.finish()
}

// finish ends the machine when the services are gone.
func (s *supervisor) finish() error {
	if err := s.feed(); err != nil {
		return err
	}
	// 1. Nobody else is left, not even one that was not a service.
	if err := process.KillAll(syscall.SIGKILL); err != nil {
		return err
	}
	// 2. Take memory back from the disk while there is room for it.
	if s.swap != nil {
		if err := s.swap.Close(); err != nil {
			return err
		}
		s.say("swap: off, its key is forgotten")
	}
	// 3. Write everything out. The core is read-only, the ESP is not mounted
	// after ready, and the rest is memory.
	s.saveSeed()
	if err := s.closeState(); err != nil {
		return err
	}
	power.Sync()
	// 4. A machine that is off needs no watchdog. One that restarts keeps it
	// armed: it bites if the restart hangs.
	if s.ending.word != "restarting" && s.watchdog != nil {
		if err := s.watchdog.Disarm(); err != nil {
			return err
		}
		s.watchdog = nil
	}
	// 5. Let the console be read to its end.
	if err := terminal.Drain(); err != nil {
		return err
	}
	return s.ending.do()
}
