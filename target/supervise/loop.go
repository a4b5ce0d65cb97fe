package supervise

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"cloison/format/kmsg"
	"cloison/linux/devicemapper"
	log "cloison/linux/kmsg"
	"cloison/linux/mount"
	"cloison/linux/power"
	"cloison/linux/process"
	"cloison/linux/terminal"
	"cloison/target/state"
)

const (
	restartDelay = time.Second
	// patience is how long services have to end when the machine does.
	patience = 5 * time.Second
	// settle is how long corrections are gathered before they are said.
	settle = 500 * time.Millisecond
)

// loop is the one place where things happen. It returns only with the reason
// why the system cannot go on; reboot and poweroff end the machine in it.
func (s *supervisor) loop() error {
	feed := time.NewTicker(watchdogTimeout / 4)
	defer feed.Stop()
	late := time.NewTimer(readyDeadline)
	defer late.Stop()
	var restart, counted <-chan time.Time
	for {
		select {
		case <-feed.C:
			if err := s.feed(); err != nil {
				return err
			}
		case err := <-s.fatal:
			return err
		case <-late.C:
			return fmt.Errorf("the console service is not ready after %v", readyDeadline)
		case sig := <-s.signals:
			if sig != syscall.SIGCHLD {
				continue
			}
			ended, err := s.reap()
			if err != nil {
				return err
			}
			if ended && s.ready == 0 {
				return errors.New("the console service ended before it was ready")
			}
			if ended {
				restart = time.After(restartDelay)
			}
		case <-restart:
			var err error
			if s.console, err = startConsole(s); err != nil {
				return err
			}
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
		case r := <-s.requests:
			if r.from != s.console {
				continue // of one that has ended meanwhile
			}
			switch r.word {
			case "ready":
				late.Stop()
				if s.ready == 0 {
					if err := s.allReady(); err != nil {
						return err
					}
				}
				fallthrough
			case "status":
				st, err := s.status(true)
				if err != nil {
					return err
				}
				s.console.answer(st.String())
			case "escrow":
				text, err := state.Escrow(state.Folder)
				if err != nil {
					return err
				}
				s.console.answer(string(text))
			case "reboot":
				return s.stop("restarting", power.Restart)
			case "poweroff":
				return s.stop("switching off", power.Off)
			default:
				s.console.answer("unknown request\n")
			}
		}
	}
}

// reap collects all that have ended and tells whether the console was among
// them.
func (s *supervisor) reap() (console bool, err error) {
	for {
		e, ok, err := process.Reap()
		if err != nil || !ok {
			return console, err
		}
		if s.console != nil && e.PID == s.console.pid {
			s.say("console service ended: %s", e.How)
			s.console.close()
			s.console, console = nil, true
		}
	}
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
	var err error
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("internal error: %v", p)
		}
		if err != nil {
			select {
			case s.fatal <- err:
			default: // one reason is enough
			}
		}
	}()
	err = f()
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

// stop ends the machine in order. It returns only with the reason why it could
// not.
func (s *supervisor) stop(word string, end func() error) error {
	if err := s.log.Printf(log.Warning, "cloison: %s at the console's request", word); err != nil {
		return err
	}
	// 1. Ask everybody to end, then end them. The loop stands still meanwhile,
	// so feed first: this takes less than a watchdog's time.
	if err := s.feed(); err != nil {
		return err
	}
	if err := process.KillAll(syscall.SIGTERM); err != nil {
		return err
	}
	if !s.emptied(patience) {
		if err := process.KillAll(syscall.SIGKILL); err != nil {
			return err
		}
		s.emptied(patience)
	}
	// 2. Write everything out. The core is read-only, the ESP is not mounted
	// after ready, and the rest is memory.
	if err := s.closeState(); err != nil {
		return err
	}
	power.Sync()
	if err := mount.Unmount("/tmp"); err != nil {
		return err
	}
	// 3. A machine that is off needs no watchdog. One that restarts keeps it
	// armed: it bites if the restart hangs.
	if word != "restarting" && s.watchdog != nil {
		if err := s.watchdog.Disarm(); err != nil {
			return err
		}
		s.watchdog = nil
	}
	// 4. Let the console be read to its end.
	if err := terminal.Drain(); err != nil {
		return err
	}
	return end()
}

// emptied waits until no service is left, at most for limit.
func (s *supervisor) emptied(limit time.Duration) bool {
	end := time.After(limit)
	for s.console != nil {
		select {
		case <-end:
			return false
		case <-s.requests: // too late
		case <-s.signals:
			if _, err := s.reap(); err != nil {
				return false
			}
		}
	}
	return true
}
