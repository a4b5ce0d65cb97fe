package boot

import (
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// recovery-passphrase NAME VOLUME: $NAME is the recovery passphrase of a copy of
// a volume, as a person may type it: in upper case, with spaces.
func (s *stage) recoveryPassphrase(ts *testscript.TestScript, args []string) {
	want(ts, args, "NAME VOLUME")
	w, err := s.workshop()
	must(ts, err)
	text := s.passphrase(ts, w, path(ts, args[1]))
	ts.Setenv(args[0], strings.ToUpper(strings.ReplaceAll(strings.TrimSpace(string(text)), "-", " ")))
}

// silent NAME: no two groups of $NAME have been on the console, however they are
// written.
func (s *stage) silent(ts *testscript.TestScript, args []string) {
	want(ts, args, "NAME")
	bare := strings.NewReplacer(" ", "", "-", "", "\r", "", "\n", "")
	console := strings.ToUpper(bare.Replace(s.machine.Console.Text()))
	groups := strings.Fields(ts.Getenv(args[0]))
	if len(groups) != 7 {
		ts.Fatalf("$%s has %d groups, want 7", args[0], len(groups))
	}
	for i := range groups[1:] {
		if text := groups[i] + groups[i+1]; strings.Contains(console, text) {
			ts.Fatalf("the console shows %q", text)
		}
	}
}

var (
	yesOrNo   = regexp.MustCompile(`yes or no: `)
	typeIt    = regexp.MustCompile(`recovery passphrase: `)
	sealed    = regexp.MustCompile(`sealed to the TPM, the next boot opens it by itself`)
	openOrNot = regexp.MustCompile(`cloison: ready .* unlock=tpm |cloison: refused: .*`)
	helped    = regexp.MustCompile(`it has no token of a TPM|PCR 7 is not what it was at sealing`)
)

// reseal-cuts NAME: the machine needs a recovery, for which $NAME is typed. The
// power fails at random moments while the volume is sealed again. Each time the next
// boot opens it or is refused for want of a token; then the recovery is made again.
// In the end it is made in whole.
func (s *stage) resealCuts(ts *testscript.TestScript, args []string) {
	want(ts, args, "NAME")
	passphrase := ts.Getenv(args[0])
	count, random := drawn(ts)
	took := s.reseal(ts, passphrase, -1)
	opened := 0
	for n := range count {
		s.machine.Cut()
		s.forget(ts)
		after := time.Duration(random.Int64N(int64(took)))
		s.reseal(ts, passphrase, after)
		s.boot(ts, nil)
		said := s.await(ts, openOrNot)
		switch {
		case ready.MatchString(said):
			opened++
		case !helped.MatchString(said):
			ts.Fatalf("after a cut while the volume was sealed: %s", said)
		}
		report(ts, "cut %d of %d: %v after the answer, of %v: %s", n+1, count, after, took, said)
	}
	s.machine.Cut()
	s.forget(ts)
	s.reseal(ts, passphrase, -1)
	s.await(ts, ready)
	s.machine.Cut()
	report(ts, "%d power cuts while the volume was sealed again; %d boots opened it, the others could be recovered", count, opened)
}

// forget has the volume of the machine need a recovery.
func (s *stage) forget(ts *testscript.TestScript) {
	s.stateGet(ts, []string{"forgotten.img"})
	s.stateForget(ts, []string{"forgotten.img"})
	s.statePut(ts, []string{"forgotten.img"})
}

// reseal makes a recovery boot that seals the volume again, and tells how long
// that took. The power fails some time after the answer, unless that is negative.
func (s *stage) reseal(ts *testscript.TestScript, passphrase string, after time.Duration) time.Duration {
	s.boot(ts, nil)
	s.choose(ts, []string{"recovery"})
	s.await(ts, typeIt)
	s.send(ts, []string{passphrase})
	s.await(ts, yesOrNo)
	begin := time.Now()
	s.send(ts, []string{"yes"})
	if after >= 0 {
		s.cutAfter(ts, after)
		return 0
	}
	s.await(ts, sealed)
	return time.Since(begin)
}
