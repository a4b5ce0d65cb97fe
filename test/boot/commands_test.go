package boot

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"cloison/host/build"
	"cloison/host/machine"
)

// ready is the marker of a system that is up.
var ready = regexp.MustCompile(`cloison: ready `)

// prompt is the console's, which asks for a word.
var prompt = regexp.MustCompile(`cloison> `)

// stuck is how the firmware says that it may start nothing. It then waits for
// a key for ever.
var stuck = regexp.MustCompile(`BdsDxe: No bootable option or device was found`)

// commands are what scripts can say besides testscript's own words.
func commands() map[string]func(*testscript.TestScript, bool, []string) {
	all := map[string]func(*stage, *testscript.TestScript, []string){
		"disk":       (*stage).disk,
		"boot":       (*stage).boot,
		"expect":     (*stage).expect,
		"said":       (*stage).said,
		"absent":     (*stage).absent,
		"refuse":     (*stage).refuse,
		"send":       (*stage).send,
		"logged":     (*stage).logged,
		"wait-exit":  (*stage).waitExit,
		"install":    (*stage).install,
		"enrolled":   (*stage).enrolled,
		"setup-mode": (*stage).setupMode,
		"choose":     (*stage).choose,

		"esp-get":  (*stage).espGet,
		"esp-put":  (*stage).espPut,
		"esp-del":  (*stage).espDel,
		"esp-list": (*stage).espList,

		"new-tpm":      (*stage).newTPM,
		"cp-tpm":       (*stage).cpTPM,
		"put-tpm":      (*stage).putTPM,
		"clear-tpm":    (*stage).clearTPM,
		"flip-bit":     (*stage).flipBit,
		"grow-disk":    (*stage).growDisk,
		"state-get":    (*stage).stateGet,
		"state-same":   (*stage).stateSame,
		"state-put":    (*stage).statePut,
		"state-wipe":   (*stage).stateWipe,
		"state-tokens": (*stage).stateTokens,
		"state-check":  (*stage).stateCheck,
		"state-forget": (*stage).stateForget,
		"tokens":       (*stage).tokens,
		"state-find":   (*stage).stateFind,
		"remember":     (*stage).remember,
		"silent":       (*stage).silent,

		"recovery-passphrase": (*stage).recoveryPassphrase,
		"state-unlimited":     (*stage).stateUnlimited,

		"cut":            (*stage).cut,
		"power-cuts":     (*stage).powerCuts,
		"write-cuts":     (*stage).writeCuts,
		"reseal-cuts":    (*stage).resealCuts,
		"watchdog-bites": (*stage).watchdogBites,
		"tpm-deaths":     (*stage).tpmDeaths,
		"tpm":            (*stage).tpm,
		"lock-out":       (*stage).lockOut,
		"vars-empty":     (*stage).varsEmpty,

		"ntp-server": (*stage).ntpServer,
		"certify":    (*stage).certify,
		"ssh":        (*stage).ssh,
		"flood":      (*stage).flood,

		"disk-of":   (*stage).diskOf,
		"swap-page": (*stage).swapPage,
		"swap-drop": (*stage).swapDrop,

		"corrupt":        (*stage).corrupt,
		"corrupt-random": (*stage).corruptRandom,
		"shrink":         (*stage).shrink,
		"copy-slot":      (*stage).copySlot,
		"other-core":     (*stage).otherCore,

		"new-keys":  (*stage).newKeys,
		"enrol":     (*stage).enrol,
		"unsign":    (*stage).unsign,
		"sign-with": (*stage).signWith,
		"revoke":    (*stage).revoke,
		"allow":     (*stage).allow,
		"cp-vars":   (*stage).cpVars,
		"put-vars":  (*stage).putVars,
		"flip":      (*stage).flip,
		"addon":     (*stage).addon,
	}
	words := map[string]func(*testscript.TestScript, bool, []string){}
	for name, do := range all {
		words[name] = func(ts *testscript.TestScript, negated bool, args []string) {
			if negated {
				ts.Fatalf("%s cannot be negated", name)
			}
			do(ts.Value(stageKey{}).(*stage), ts, args)
		}
	}
	return words
}

// must ends the script on an error.
func must(ts *testscript.TestScript, err error) {
	if err != nil {
		ts.Fatalf("%v", err)
	}
}

// want checks the number of arguments.
func want(ts *testscript.TestScript, args []string, usage string) {
	if len(args) != len(strings.Fields(usage)) {
		ts.Fatalf("want the arguments %s", usage)
	}
}

func within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), deadline)
}

// disk [-setup-mode | -provisioned | -variant NAME]: a fresh machine with a copy
// of the image. Its firmware has the keys, or is in setup mode. A provisioned one
// has had its first boot already, which was found good. The image may be that of
// a variant.
func (s *stage) disk(ts *testscript.TestScript, args []string) {
	s.leave()
	dir := ts.MkAbs("machine")
	var err error
	image := s.image
	if len(args) == 2 && args[0] == "-variant" {
		made, ok := s.variant[args[1]]
		if !ok {
			ts.Fatalf("no variant %s", args[1])
		}
		out, err := made()
		must(ts, err)
		image, args = filepath.Join(out, build.DiskName), nil
	}
	switch strings.Join(args, " ") {
	case "":
		s.folder, err = s.template.Folder(s.sdk, dir, image)
	case "-setup-mode":
		if s.folder, err = machine.OpenFolder(dir); err == nil {
			if err = s.folder.Reset(); err == nil {
				err = s.folder.Prepare(s.sdk, s.image)
			}
		}
	case "-provisioned":
		s.folder, err = s.provisionedCopy(dir)
	default:
		ts.Fatalf("want disk [-setup-mode | -provisioned | -variant NAME]")
	}
	must(ts, err)
}

// boot [-smbios STRING] [-reboot] [-no-tpm] [-network [-forward PORT]] [-memory MIB]
// [-clock TIME] [-patience DURATION]: starts the machine. Without -reboot a reset ends
// it; -clock is what its real-time clock says; $PORT of the host leads to a port of
// the guest; for so long the loader may show its menu.
func (s *stage) boot(ts *testscript.TestScript, args []string) {
	c := machine.Config{SDK: s.sdk, Folder: s.folder, Accelerator: s.accelerator, NoReboot: true}
	flags := flag.NewFlagSet("boot", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Func("smbios", "type 11 string", func(v string) error { c.SMBIOS = append(c.SMBIOS, v); return nil })
	flags.IntVar(&c.Memory, "memory", 0, "MiB")
	flags.BoolVar(&c.Network, "network", false, "it has an interface, behind QEMU's router")
	forward := flags.Int("forward", 0, "a port of the guest that $PORT of the host leads to")
	flags.BoolVar(&c.NoTPM, "no-tpm", false, "the machine has no TPM")
	flags.Func("clock", "YYYY-MM-DDTHH:MM:SS", func(v string) error { c.Extra = append(c.Extra, "-rtc", "base="+v); return nil })
	patience := flags.Duration("patience", machine.Patience, "of the loader's menu")
	reboot := flags.Bool("reboot", false, "go on after a reset")
	must(ts, flags.Parse(args))
	c.NoReboot = !*reboot
	if *forward != 0 {
		port := freePort(ts)
		ts.Setenv("PORT", port)
		c.Forwards = []string{fmt.Sprintf("tcp:127.0.0.1:%s-:%d", port, *forward)}
	}
	if s.machine != nil {
		s.machine.Close()
	}
	var err error
	s.machine, err = machine.Start(context.Background(), c)
	must(ts, err)
	go s.machine.Unattended(*patience, os.Stderr)
}

// freePort finds a port of the host that nobody has now.
func freePort(ts *testscript.TestScript) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(ts, err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	must(ts, errors.Join(err, l.Close()))
	return port
}

// expect [-within DURATION] REGEXP: waits until the console says it, behind what
// was expected last.
func (s *stage) expect(ts *testscript.TestScript, args []string) {
	patience := deadline
	if len(args) == 3 && args[0] == "-within" {
		var err error
		patience, err = time.ParseDuration(args[1])
		must(ts, err)
		args = args[2:]
	}
	want(ts, args, "REGEXP")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	match, err := s.machine.Console.Expect(ctx, regexp.MustCompile(args[0]))
	s.must(ts, err)
	ts.Logf("%s", match)
}

// said REGEXP: waits until the console says it, before or behind what was expected.
func (s *stage) said(ts *testscript.TestScript, args []string) {
	want(ts, args, "REGEXP")
	ctx, cancel := within()
	defer cancel()
	match, err := s.machine.Console.Said(ctx, regexp.MustCompile(args[0]))
	must(ts, err)
	ts.Logf("%s", match)
}

// absent REGEXP: the console has not said it.
func (s *stage) absent(ts *testscript.TestScript, args []string) {
	want(ts, args, "REGEXP")
	if match := regexp.MustCompile(args[0]).FindString(s.machine.Console.Text()); match != "" {
		ts.Fatalf("the console said %q", match)
	}
}

// refuse REGEXP: the console says it, the boot ends (by a reset, by power
// off, or at the firmware's prompt), and the system was never ready.
func (s *stage) refuse(ts *testscript.TestScript, args []string) {
	s.expect(ts, args)
	ctx, cancel := within()
	defer cancel()
	_, err := s.machine.Console.Expect(ctx, stuck)
	atPrompt := err == nil
	if errors.Is(err, machine.ErrEnded) {
		// The line closes a moment before the last process is gone.
		<-s.machine.Done()
	} else {
		must(ts, err)
	}
	text := s.machine.Console.Text()
	if ready.MatchString(text) {
		ts.Fatalf("the system came up all the same")
	}
	if atPrompt {
		return
	}
	exit, err := s.machine.Wait()
	must(ts, err)
	if exit.Reason != "guest-reset" && exit.Reason != "guest-shutdown" {
		ts.Fatalf("the machine ended by %s, not by itself", exit.Reason)
	}
}

// send TEXT: types it and Enter.
func (s *stage) send(ts *testscript.TestScript, args []string) {
	want(ts, args, "TEXT")
	_, err := io.WriteString(s.machine.Console, args[0]+"\r")
	must(ts, err)
}

// logged REGEXP: waits until the log has it, which is asked for again and again.
func (s *stage) logged(ts *testscript.TestScript, args []string) {
	want(ts, args, "REGEXP")
	re := regexp.MustCompile(args[0])
	ctx, cancel := within()
	defer cancel()
	for {
		_, err := io.WriteString(s.machine.Console, "log\r")
		must(ts, err)
		once, stop := context.WithTimeout(ctx, 5*time.Second)
		match, err := s.machine.Console.Expect(once, re)
		stop()
		if err == nil {
			ts.Logf("%s", match)
			return
		}
		if ctx.Err() != nil || errors.Is(err, machine.ErrEnded) {
			ts.Fatalf("%v", err)
		}
	}
}

// menu is the second entry of the loader's menu, which it draws last.
var menu = regexp.MustCompile(`\(recovery\)`)

// choose recovery|nothing: takes that entry in the loader's menu, by the keys that
// a person presses, or only holds the menu.
func (s *stage) choose(ts *testscript.TestScript, args []string) {
	want(ts, args, "recovery|nothing")
	const down = "\x1b[B"
	keys, ok := map[string]string{"recovery": down + "\r", "nothing": down}[args[0]]
	if !ok {
		ts.Fatalf("the menu has no %s", args[0])
	}
	s.await(ts, menu)
	_, err := io.WriteString(s.machine.Console, keys)
	must(ts, err)
}

// wait-exit REASON: the machine ends by itself, for QEMU's reason
// (guest-shutdown, guest-reset, …).
func (s *stage) waitExit(ts *testscript.TestScript, args []string) {
	want(ts, args, "REASON")
	ctx, cancel := within()
	defer cancel()
	select {
	case <-s.machine.Done():
	case <-ctx.Done():
		ts.Fatalf("the machine does not end:\n%s", s.machine.Console.Text())
	}
	exit, err := s.machine.Wait()
	must(ts, err)
	if exit.Reason != args[0] {
		ts.Fatalf("the machine ended by %s, want %s\n%s", exit.Reason, args[0], s.machine.Console.Text())
	}
}

// enrolled: the firmware has left setup mode.
func (s *stage) enrolled(ts *testscript.TestScript, args []string) { s.mode(ts, args, true) }

// setup-mode: the firmware is in setup mode.
func (s *stage) setupMode(ts *testscript.TestScript, args []string) { s.mode(ts, args, false) }

func (s *stage) mode(ts *testscript.TestScript, args []string, enrolled bool) {
	want(ts, args, "")
	got, err := s.folder.Enrolled()
	must(ts, err)
	if got != enrolled {
		ts.Fatalf("keys enrolled: %v, want %v", got, enrolled)
	}
}

// path of a script's file.
func path(ts *testscript.TestScript, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return ts.MkAbs(name)
}
