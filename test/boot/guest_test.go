package boot

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"cloison/format/luks2"
	"cloison/host/progress"
	"cloison/host/tree"
	"cloison/test/guest"
	"cloison/test/guest/job"
)

// workshop is what looks at a machine's disk from outside: the real cloison
// program, and a guest with the storage tools of the SDK.
type workshop struct {
	cloison string // path
	guest   *guest.Guest
}

func (b *bench) openWorkshop(dir string) (workshop, error) {
	root, err := tree.Find(".")
	if err != nil {
		return workshop{}, err
	}
	cache, err := tree.Cache()
	if err != nil {
		return workshop{}, err
	}
	w := workshop{cloison: filepath.Join(dir, "cloison")}
	if err := guest.Compile(context.Background(), root, "./cmd/cloison", w.cloison); err != nil {
		return workshop{}, err
	}
	w.guest, err = guest.New(context.Background(), guest.Options{
		Tree: root, Cache: cache, SDK: b.sdk, Accelerator: b.accelerator, Log: progress.To(os.Stderr),
		Tools: []string{
			"usr/sbin/cryptsetup", "usr/sbin/integritysetup", "usr/sbin/dmsetup", "usr/sbin/e2fsck",
			"usr/bin/mount", "usr/bin/umount", "usr/bin/cat",
		},
	})
	return w, err
}

// state-check VOLUME BOOTS: the escrow record on the ESP and the integrator's
// key give a passphrase by `cloison recover`. With it plain `cryptsetup open`
// maps the copy of a volume, encrypted and authenticated as documented. e2fsck
// finds nothing, and inside are the machine that the console names and the
// number of good boots.
func (s *stage) stateCheck(ts *testscript.TestScript, args []string) {
	want(ts, args, "VOLUME BOOTS")
	volume := path(ts, args[0])
	uuid := strings.TrimSpace(s.tool(ts, "cryptsetup", "luksUUID", volume))
	s.tool(ts, "cryptsetup", "isLuks", "--type", "luks2", volume)
	dump := s.tool(ts, "cryptsetup", "luksDump", volume)
	for _, wanted := range []string{"cipher: aes-xts-plain64", "integrity: hmac(sha256)", "cloison-tpm2", "cloison-recovery"} {
		if !strings.Contains(dump, wanted) {
			ts.Fatalf("luksDump does not say %q:\n%s", wanted, dump)
		}
	}
	w, err := s.workshop()
	must(ts, err)
	record := ts.MkAbs("escrow.pem")
	must(ts, os.RemoveAll(record))
	s.tool(ts, "mcopy", "-n", "-i", s.esp(ts), "::cloison/escrow/"+uuid+".pem", record)
	recovered := exec.Command(w.cloison, "recover", "--escrow", record, "--key", filepath.Join(s.keys, "recovery.key"))
	passphrase, err := recovered.Output()
	must(ts, err)

	// The superblock of dm-integrity lies behind the header of LUKS.
	const below = luks2.HeaderSize / 512
	info, err := os.Stat(volume)
	must(ts, err)
	open := []string{"/usr/sbin/cryptsetup", "open", guest.Disks + "/state", "state"}
	commands := []struct {
		job.Command
		code int
		says []string
	}{
		{Command: job.Command{Args: []string{
			"/usr/sbin/dmsetup", "create", "below", "--readonly", "--table",
			fmt.Sprintf("0 %d linear %s/state %d", info.Size()/512-below, guest.Disks, below),
		}}},
		{
			Command: job.Command{Args: []string{"/usr/sbin/integritysetup", "dump", "/dev/mapper/below"}},
			says:    []string{`tag_size 32\s`, `sector_size 4096\s`, `log2_interleave_sectors 15\s`},
		},
		{Command: job.Command{Args: []string{"/usr/sbin/dmsetup", "remove", "below"}}},
		{
			Command: job.Command{Args: open, Stdin: []byte(strings.Repeat("wrong-", 8) + "\n"), MayFail: true},
			code:    2, // no permission: cryptsetup(8)
		},
		// The volume may not have been closed. Then this replays the journal of
		// dm-integrity, and mounting that of ext4.
		{Command: job.Command{Args: open, Stdin: passphrase}},
		{
			Command: job.Command{Args: []string{"/usr/sbin/cryptsetup", "status", "state"}},
			says:    []string{`type: +LUKS2`, `cipher: +aes-xts-plain64`, `integrity: +hmac\(sha256\)`, `sector size: +4096`},
		},
		{
			Command: job.Command{Args: []string{"/usr/sbin/dmsetup", "table", "state"}},
			says:    []string{`^0 \d+ crypt capi:authenc\(hmac\(sha256\),xts\(aes\)\)-plain64 :96:\S+ 0 \d+:\d+ 0 2 integrity:32:aead sector_size:4096\s`},
		},
		{
			Command: job.Command{Args: []string{"/usr/sbin/dmsetup", "table", "state_dif"}},
			says:    []string{`^0 \d+ integrity \d+:\d+ 4096 32 J \d+ block_size:4096 `},
		},
		{Command: job.Command{Args: []string{"/usr/bin/mount", "-t", "ext4", "-o", "ro", "/dev/mapper/state", "/mnt"}}},
		{
			Command: job.Command{Args: []string{"/usr/bin/cat", "/mnt/identity/machine-id"}},
			says:    []string{"^" + s.machineID(ts) + "\n$"},
		},
		{
			Command: job.Command{Args: []string{"/usr/bin/cat", "/mnt/boots"}},
			says:    []string{"^" + regexp.QuoteMeta(args[1]) + "\n$"},
		},
		{Command: job.Command{Args: []string{"/usr/bin/umount", "/mnt"}}},
		{Command: job.Command{Args: []string{"/usr/sbin/e2fsck", "-f", "-n", "/dev/mapper/state"}}},
		{Command: job.Command{Args: []string{"/usr/sbin/cryptsetup", "close", "state"}}},
	}
	j := guest.Job{Disks: []guest.Disk{{Name: "state", Path: volume, Writable: true}}}
	for _, c := range commands {
		j.Commands = append(j.Commands, c.Command)
	}
	ctx, cancel := within()
	defer cancel()
	results, err := w.guest.Run(ctx, j)
	must(ts, err)
	for i, c := range commands {
		if results[i].Code != c.code {
			ts.Fatalf("%s: exit %d, want %d: %s", strings.Join(c.Args, " "), results[i].Code, c.code, results[i].Stderr)
		}
		for _, say := range c.says {
			if !regexp.MustCompile(say).Match(results[i].Stdout) {
				ts.Fatalf("%s says no %s:\n%s", strings.Join(c.Args, " "), say, results[i].Stdout)
			}
		}
		ts.Logf("%s\n%s", strings.Join(c.Args, " "), bytes.TrimSpace(results[i].Stdout))
	}
}

var machineLine = regexp.MustCompile(`machine +([0-9a-f]{32}), boots found good: `)

// machineID is what the console last said.
func (s *stage) machineID(ts *testscript.TestScript) string {
	said := machineLine.FindAllStringSubmatch(s.machine.Console.Text(), -1)
	if len(said) == 0 {
		ts.Fatalf("the console did not say which machine it is")
	}
	return said[len(said)-1][1]
}
