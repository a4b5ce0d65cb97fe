package boot

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"cloison/host/sdk"
)

// cutsVariable says how many power cuts the commands power-cuts and write-cuts
// make, each.
const cutsVariable = "CLOISON_POWER_CUTS"

// defaultCuts is what every run can afford: each is a boot.
const defaultCuts = 3

// unprinted is how many confirmations may not have reached the serial line when
// the power fails: the kernel prints what it is told a little later.
const unprinted = 16

// What the console says when the machine refuses, when it has found a forged
// block, and when the rogue has found what must not be.
var wrong = regexp.MustCompile(`cloison: refused: .*|cloison: forged: .*|cloison-test: .*(WRONG|cannot go on).*`)

var (
	initramfs = regexp.MustCompile(`cloison: .*: initramfs of `)
	fsynced   = regexp.MustCompile(`cloison-test: fsynced ([0-9]+)\n`)
	found     = regexp.MustCompile(`cloison-test: found ([0-9]+)\n`)
)

// cut: the power fails.
func (s *stage) cut(ts *testscript.TestScript, args []string) {
	want(ts, args, "")
	s.machine.Cut()
}

// drawn says how many power cuts to make, and draws the moments.
func drawn(ts *testscript.TestScript) (count int, random *rand.Rand) {
	count = defaultCuts
	if text := os.Getenv(cutsVariable); text != "" {
		count = int(number(ts, text))
	}
	seed := uint64(time.Now().UnixNano())
	report(ts, "%d power cuts, seed %d", count, seed)
	return count, rand.New(rand.NewPCG(seed, 0))
}

// report says at once what a script's log says at its end: a campaign takes
// hours.
func report(ts *testscript.TestScript, format string, args ...any) {
	ts.Logf(format, args...)
	fmt.Fprintf(os.Stderr, "%s  %s: %s\n", time.Now().Format(time.TimeOnly), ts.Name(), fmt.Sprintf(format, args...))
}

// power-cuts: the power fails at random moments from the initramfs to ready of
// a first boot, and of the boots after it: each machine comes back, and its
// volume is whole.
func (s *stage) powerCuts(ts *testscript.TestScript, args []string) {
	want(ts, args, "")
	count, random := drawn(ts)
	// How long it takes when nothing happens.
	s.disk(ts, nil)
	whole := s.timed(ts)
	machines := 0
	for cuts := 0; cuts < count; machines++ {
		s.disk(ts, nil)
		for again := true; again && cuts < count; again = random.IntN(2) == 0 {
			cuts++
			after := time.Duration(random.Int64N(int64(whole)))
			report(ts, "cut %d of %d: %v after the initramfs began, of %v", cuts, count, after, whole)
			s.boot(ts, nil)
			s.await(ts, initramfs)
			s.cutAfter(ts, after)
		}
		s.timed(ts)
		s.whole(ts)
	}
	report(ts, "%d power cuts on %d machines, all came back", count, machines)
}

// write-cuts: the power fails at random moments while a PID 1 that somebody
// has taken over writes to the state volume. What fsync had confirmed is there
// afterwards, and nothing is there that was not written.
func (s *stage) writeCuts(ts *testscript.TestScript, args []string) {
	want(ts, args, "")
	count, random := drawn(ts)
	confirmed, records := 0, 0
	for cuts := 1; ; cuts++ {
		order := "write"
		if cuts > count {
			order = "check"
		}
		must(ts, os.WriteFile(ts.MkAbs("order"), []byte(order), 0o600))
		s.espPut(ts, []string{"order", "cloison/rogue"})
		s.boot(ts, nil)
		at := number(ts, s.group(ts, found))
		if at < int64(confirmed) || at > int64(confirmed)+unprinted {
			ts.Fatalf("before cut %d the record %d was confirmed, now %d is the last\n%s", cuts, confirmed, at, s.machine.Console.Text())
		}
		confirmed = int(at)
		if cuts > count {
			break
		}
		if cuts == 1 {
			s.await(ts, ready) // marked good: the loader counts its starts no more
		}
		// So many records first, and then not at the moment of a confirmation.
		for range random.IntN(30) {
			s.await(ts, fsynced)
		}
		after := time.Duration(random.Int64N(int64(300 * time.Millisecond)))
		s.cutAfter(ts, after)
		text := s.machine.Console.Text()
		for _, line := range fsynced.FindAllStringSubmatch(text, -1) {
			confirmed = int(number(ts, line[1]))
		}
		records += confirmed - int(at)
		report(ts, "cut %d of %d: records %d to %d confirmed, %v after one of them", cuts, count, at+1, confirmed, after)
	}
	s.await(ts, ready)
	s.whole(ts)
	if records == 0 {
		ts.Fatalf("no record was confirmed before any cut")
	}
	report(ts, "%d power cuts, %d records confirmed, all there", count, records)
}

// cutAfter lets the machine run for a while and cuts its power.
func (s *stage) cutAfter(ts *testscript.TestScript, after time.Duration) {
	select {
	case <-time.After(after):
	case <-s.machine.Done():
		ts.Fatalf("the machine ended by itself:\n%s", s.machine.Console.Text())
	}
	s.machine.Cut()
	s.sound(ts)
}

// sound fails if the machine has complained.
func (s *stage) sound(ts *testscript.TestScript) {
	if text := s.machine.Console.Text(); wrong.MatchString(text) {
		ts.Fatalf("the machine says:\n%s", text)
	}
}

// whole cuts the power of a machine that is ready once more, and checks its
// volume.
func (s *stage) whole(ts *testscript.TestScript) {
	boots := s.group(ts, regexp.MustCompile(`machine +[0-9a-f]{32}, boots found good: ([0-9]+)`))
	s.machine.Cut()
	s.sound(ts)
	s.stateGet(ts, []string{"whole.img"})
	s.stateCheck(ts, []string{"whole.img", boots})
}

// must is must for what is expected of the machine: of one that says nothing it
// tells where its processors stand, now and a moment later.
func (s *stage) must(ts *testscript.TestScript, err error) {
	if !errors.Is(err, context.DeadlineExceeded) {
		must(ts, err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for range 3 {
		registers, unanswered := s.machine.Registers(ctx)
		if unanswered != nil {
			registers = unanswered.Error() // QEMU itself is silent: that tells, too
		}
		ts.Logf("%s", registers)
	}
	must(ts, err)
}

func (s *stage) await(ts *testscript.TestScript, what *regexp.Regexp) string {
	ctx, cancel := within()
	defer cancel()
	match, err := s.machine.Console.Expect(ctx, what)
	s.must(ts, err)
	return match
}

// group waits for what matches, and returns its first group.
func (s *stage) group(ts *testscript.TestScript, what *regexp.Regexp) string {
	return what.FindStringSubmatch(s.await(ts, what))[1]
}

// timed boots, and tells how long it took from the initramfs to ready.
func (s *stage) timed(ts *testscript.TestScript) time.Duration {
	s.boot(ts, nil)
	s.await(ts, initramfs)
	begin := time.Now()
	s.await(ts, ready)
	return time.Since(begin)
}

// watchdog-bites: the hardware watchdog resets the machine.
func (s *stage) watchdogBites(ts *testscript.TestScript, args []string) {
	want(ts, args, "")
	s.waitExit(ts, []string{"guest-reset"})
	exit, err := s.machine.Wait()
	must(ts, err)
	if !exit.Watchdog {
		ts.Fatalf("the machine was reset, but not by its watchdog:\n%s", s.machine.Console.Text())
	}
}

// tpm-deaths COUNT: the TPM ends while the initramfs uses it, at as many random
// moments. The machine refuses to go on each time.
func (s *stage) tpmDeaths(ts *testscript.TestScript, args []string) {
	want(ts, args, "COUNT")
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	ts.Logf("seed %d", seed)
	opened := regexp.MustCompile(`cloison: .*: state volume \S+ open, mounted at `)
	s.boot(ts, nil)
	s.await(ts, initramfs)
	begin := time.Now()
	s.await(ts, opened)
	took := time.Since(begin)
	s.machine.Cut()
	for i := range number(ts, args[0]) {
		after := time.Duration(random.Int64N(int64(took)))
		ts.Logf("the TPM ends %v after the initramfs began, of %v", after, took)
		s.boot(ts, nil)
		s.await(ts, initramfs)
		select {
		case <-time.After(after):
		case <-s.machine.Done():
			ts.Fatalf("the machine ended by itself:\n%s", s.machine.Console.Text())
		}
		must(ts, s.machine.CutTPM())
		s.refuse(ts, []string{`cloison: refused: .*TPM`})
		ts.Logf("death %d: %s", i+1, regexp.MustCompile(`cloison: refused: .*`).FindString(s.machine.Console.Text()))
	}
}

// tpm SCRIPT: speaks to the machine's TPM with tpm2-tools, as somebody does who
// starts it without our firmware.
func (s *stage) tpm(ts *testscript.TestScript, args []string) {
	want(ts, args, "SCRIPT")
	// The socket's path has 108 bytes at most: it is relative.
	const around = `swtpm socket --tpm2 --tpmstate dir=$PWD --server type=unixio,path=s --ctrl type=unixio,path=s.ctrl --flags startup-clear --daemon
export TPM2TOOLS_TCTI=swtpm:path=s
{ %s
}; e=$?; tpm2_shutdown --clear || e=$?; rm -f s s.ctrl x.*; exit $e`
	must(ts, s.sdk.Run(context.Background(), sdk.Step{
		Args: []string{"sh", "-uc", fmt.Sprintf(around, args[0])}, Dir: s.folder.TPM(), Writable: []string{s.folder.TPM()},
	}))
}

// lock-out: somebody has guessed at the TPM's authorisations until it takes no
// more of them.
func (s *stage) lockOut(ts *testscript.TestScript, args []string) {
	want(ts, args, "")
	s.tpm(ts, []string{`tpm2_createprimary -Q -C n -p right -c x.key && tpm2_flushcontext -t || exit 1
for i in $(seq 40); do tpm2_create -Q -C x.key -P wrong -u x.pub -r x.priv 2> x.err || tpm2_flushcontext -t; done
grep -q 'DA lockout' x.err`})
}

// vars-empty: the firmware is in setup mode, as its menu can put it.
func (s *stage) varsEmpty(ts *testscript.TestScript, args []string) {
	want(ts, args, "")
	s.putVars(ts, []string{s.sdk.Path("usr/share/OVMF/OVMF_VARS_4M.fd")})
}
