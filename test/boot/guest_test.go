package boot

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
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
			"usr/sbin/cryptsetup", "usr/sbin/integritysetup", "usr/sbin/dmsetup", "usr/sbin/e2fsck", "usr/sbin/tune2fs",
			"usr/sbin/debugfs", "usr/bin/mount", "usr/bin/umount", "usr/bin/cat",
		},
	})
	return w, err
}

// state-check [-passphrase] VOLUME BOOTS: the escrow record on the ESP and the integrator's
// key give a passphrase by `cloison recover`. With it plain `cryptsetup open`
// maps the copy of a volume, encrypted and authenticated as documented. e2fsck
// finds nothing, and inside are the machine that the console names and the
// number of good boots. With -passphrase a person's passphrase opens it, too,
// stretched as documented, and no TPM.
func (s *stage) stateCheck(ts *testscript.TestScript, args []string) {
	header := []string{"cloison-tpm2", "cloison-recovery"}
	if len(args) > 0 && args[0] == "-passphrase" {
		header = []string{"argon2id\n\tTime cost:  4\n\tMemory:     65536\n\tThreads:    1\n", "Tokens:\nDigests:"}
		args = args[1:]
	}
	want(ts, args, "VOLUME BOOTS")
	volume := path(ts, args[0])
	s.tool(ts, "cryptsetup", "isLuks", "--type", "luks2", volume)
	dump := s.tool(ts, "cryptsetup", "luksDump", volume)
	for _, wanted := range append(header, "cipher: aes-xts-plain64", "integrity: hmac(sha256)") {
		if !strings.Contains(dump, wanted) {
			ts.Fatalf("luksDump does not say %q:\n%s", wanted, dump)
		}
	}
	w, err := s.workshop()
	must(ts, err)
	passphrase := s.passphrase(ts, w, volume)

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

// state-unlimited VOLUME: takes ext4's quotas out of a copy of a volume, as
// releases that knew none have made it.
func (s *stage) stateUnlimited(ts *testscript.TestScript, args []string) {
	want(ts, args, "VOLUME")
	w, err := s.workshop()
	must(ts, err)
	volume := path(ts, args[0])
	ctx, cancel := within()
	defer cancel()
	_, err = w.guest.Run(ctx, guest.Job{
		Disks: []guest.Disk{{Name: "state", Path: volume, Writable: true}},
		Commands: []job.Command{
			{Args: []string{"/usr/sbin/cryptsetup", "open", guest.Disks + "/state", "state"}, Stdin: s.passphrase(ts, w, volume)},
			{Args: []string{"/usr/sbin/tune2fs", "-O", "^quota,^project", "/dev/mapper/state"}},
			{Args: []string{"/usr/sbin/e2fsck", "-f", "-n", "/dev/mapper/state"}},
			{Args: []string{"/usr/sbin/cryptsetup", "close", "state"}},
		},
	})
	must(ts, err)
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

// passphrase is what the integrator's key makes of the escrow record on the ESP.
func (s *stage) passphrase(ts *testscript.TestScript, w workshop, volume string) []byte {
	uuid := strings.TrimSpace(s.tool(ts, "cryptsetup", "luksUUID", volume))
	record := ts.MkAbs("escrow.pem")
	must(ts, os.RemoveAll(record))
	s.tool(ts, "mcopy", "-n", "-i", s.esp(ts), "::cloison/escrow/"+uuid+".pem", record)
	recovered := exec.Command(w.cloison, "recover", "--escrow", record, "--key", filepath.Join(s.keys, "recovery.key"))
	passphrase, err := recovered.Output()
	must(ts, err)
	return passphrase
}

// state-find VOLUME FILE NAME: the first block of a file in the copy of a volume
// lies $NAME bytes from the start of the partition.
func (s *stage) stateFind(ts *testscript.TestScript, args []string) {
	want(ts, args, "VOLUME FILE NAME")
	w, err := s.workshop()
	must(ts, err)
	volume := path(ts, args[0])
	ctx, cancel := within()
	defer cancel()
	results, err := w.guest.Run(ctx, guest.Job{
		Disks: []guest.Disk{{Name: "state", Path: volume, Writable: true}},
		Commands: []job.Command{
			{Args: []string{"/usr/sbin/cryptsetup", "open", guest.Disks + "/state", "state"}, Stdin: s.passphrase(ts, w, volume)},
			{Args: []string{"/usr/sbin/debugfs", "-R", "blocks " + args[1], "/dev/mapper/state"}},
			{Args: []string{"/usr/sbin/cryptsetup", "close", "state"}},
		},
	})
	must(ts, err)
	blocks := strings.Fields(string(results[1].Stdout))
	if len(blocks) == 0 {
		ts.Fatalf("debugfs finds no block of %s: %s", args[1], results[1].Stderr)
	}
	f, err := os.Open(volume)
	must(ts, err)
	at, err := place(f, number(ts, blocks[0]))
	must(ts, errors.Join(err, f.Close()))
	ts.Setenv(args[2], strconv.FormatInt(at, 10))
}

// place returns where a block of 4096 bytes of a volume's data lies, from the
// start of the partition: dm-integrity has its superblock and its journal behind
// the header of LUKS, and then areas of tags and their data by turns (Linux,
// drivers/md/dm-integrity.c).
func place(volume io.ReaderAt, block int64) (int64, error) {
	b := make([]byte, 64)
	if _, err := volume.ReadAt(b, luks2.HeaderSize); err != nil {
		return 0, err
	}
	le := binary.LittleEndian
	interleave, tag, sections := b[9], int64(le.Uint16(b[10:])), int64(le.Uint32(b[12:]))
	if string(b[:8]) != "integrt\x00" || tag != 32 || b[28] != 3 {
		return 0, fmt.Errorf("no superblock of dm-integrity with tags of 32 bytes and blocks of 4096: %x", b)
	}
	// A section of the journal has 8 sectors of entries and 8 times 4 entries of
	// 8 sectors: an entry takes 8 + 8 * 8 + 32 bytes of the 504 of a sector.
	const section = 8 + 8*4*8
	data := int64(512) << interleave // of one area
	tags := data / 4096 * tag
	area, within := block*4096/data, block*4096%data
	return luks2.HeaderSize + 512*(8+sections*section) + area*(tags+data) + tags + within, nil
}
