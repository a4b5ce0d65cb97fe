package supervise

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cloison/format/bootfacts"
	format "cloison/format/efivar"
	"cloison/target/seal"
)

func TestStatus(t *testing.T) {
	s := Status{
		Title: "Cloison gateway", Version: "0.1.0", Product: "gateway", SecurityVersion: "1", Development: true,
		RootHash: [32]byte{0xab}, Slot: "core-a", Device: "/dev/vda2", GPTBackup: true,
		PCRs:      []PCR{{4, "loader and UKI", [32]byte{1}}, {11, "UKI and boot phases", [32]byte{2}}},
		Firmware:  2500 * time.Millisecond,
		Loader:    1200 * time.Millisecond,
		Initramfs: 400 * time.Millisecond, Opened: 600 * time.Millisecond, Unsealed: 650 * time.Millisecond, PID1: 700 * time.Millisecond, Ready: 900 * time.Millisecond,
		Repaired: 3, Watchdog: "i6300ESB timer, 30s", MemoryUsed: 27 * 1024, MemoryTotal: 448 * 1024, Own: 9 * 1024, Entry: "cloison_0.1.0.efi",
		State: StateStatus{
			Device: "/dev/vda4", UUID: "ace2b901-fb15-4954-891c-b292f6d07a49", Made: true, Unlock: bootfacts.TPM, Token: "0 of 1", Recovery: true,
			Machine: "0123456789ab4def8123456789abcdef", Boots: 1, Forged: 2, Shared: true, Changes: "none",
			TPM: seal.Status{Provisioned: true, Owned: true, Floor: 1, SecurityVersion: 2},
		},
		Services: []ServiceStatus{
			{Name: "logd", Stage: "ready", For: 61 * time.Second, PID: 86, Memory: 6 << 20, Limit: 32 << 20, Processes: 23, AtMost: 24, Kept: 1300 << 10, MayKeep: 24 << 20, Files: 2, MayFiles: 64},
			{Name: "console", Stage: "resting", For: 400 * time.Millisecond, Restarts: 2, Limit: 16 << 20, Processes: 24, AtMost: 24, Reason: "signal killed"},
		},
	}
	zeros := strings.Repeat("0", 62)
	want := `Cloison gateway 0.1.0
***  DEVELOPMENT BUILD: signed by keys that prove nothing. DO NOT TRUST IT.  ***

  product           gateway, version 0.1.0, security version 1
  Secure Boot       on, setup mode off
  slot              core-a on /dev/vda2  (the primary partition table is damaged)
  root hash         ab` + zeros + `
  PCR 4             01` + zeros + `  loader and UKI
  PCR 11            02` + zeros + `  UKI and boot phases
  repaired blocks   3
  state volume      ace2b901-fb15-4954-891c-b292f6d07a49 on /dev/vda4, made by this boot
    encryption      aes-xts-plain64, 512-bit key, sectors of 4096 bytes
    authentication  hmac(sha256), journal; 2 forged blocks found
    limits          of each service; 5 % are kept for PID 1
    opened by       the TPM, token 0 of 1; the recovery passphrase opens it, too
    policy          PCR 7 as sealed; PCR 11 in the initramfs, signed; security version 2, floor 1
    planned changes none
  TPM               provisioned for this volume
  machine           0123456789ab4def8123456789abcdef, boots found good: 1
  watchdog          i6300ESB timer, 30s
  boot entry        cloison_0.1.0.efi, marked good
  memory in use     27.0 of 448.0 MiB, 9.0 of them PID 1's

  service      stage       for          pid    restarts   memory of limit
    logd       ready          1m1s        86         0       6.0 of 32 MiB
      keeps 1300 of 24576 KiB in 2 of 64 files
    console    resting          0s         -         2       0.0 of 16 MiB
      at its limit of 24 processes
      last end: signal killed

  boot stage           took     since the kernel started
    firmware         2.500 s
    loader           1.200 s
    kernel           0.400 s     0.400 s
    initramfs        0.200 s     0.600 s
    state volume     0.050 s     0.650 s
    switch of root   0.050 s     0.700 s
    PID 1 to ready   0.200 s     0.900 s
`
	if got := s.String(); got != want {
		t.Errorf("String() =\n%s\nwant\n%s", got, want)
	}
	want = "cloison: ready version=0.1.0 product=gateway slot=a roothash=ab" + zeros +
		" secureboot=on development=yes security_version=1 ready_usec=900000 memory_kib=27648 repaired=3 state=ace2b901-fb15-4954-891c-b292f6d07a49 unlock=tpm tpm=seals floor=1 watchdog=\"i6300ESB timer, 30s\""
	if got := s.Marker(); got != want {
		t.Errorf("Marker() = %s, want %s", got, want)
	}
	s.State.Shared = false
	if got := s.String(); !strings.Contains(got, "\n    limits          NONE: a release without them has made the volume\n") || strings.Contains(got, "keeps") {
		t.Errorf("String() of a volume without quotas =\n%s", got)
	}
	s.Swap, s.SwapUsed, s.SwapTotal = "/dev/vda5", 512, 65532
	if want := "  swap in use       0.5 of 64.0 MiB on /dev/vda5, aes-xts-plain64, a key of this boot\n"; !strings.Contains(s.String(), want) {
		t.Errorf("String() with swap = %s, want %q in it", s, want)
	}
	for unlock, want := range map[bootfacts.Unlock]string{
		bootfacts.Recovered: "for this boot alone: it was not sealed again", bootfacts.Resealed: "sealed to the TPM again",
	} {
		s.State.Unlock = unlock
		if !strings.Contains(s.String(), want) || !strings.Contains(s.Marker(), " unlock="+string(unlock)+" ") {
			t.Errorf("String() and Marker() of a volume opened by %s are\n%s\n%s", unlock, s, s.Marker())
		}
	}
	for _, test := range []struct {
		unlock   bootfacts.Unlock
		measured bool
		says     []string
		marker   string
	}{
		{bootfacts.Passphrase, false, []string{"a passphrase that was typed; the recovery passphrase opens it, too", "NO rollback floor, NO binding to this machine", "none: this boot is not measured"}, " unlock=passphrase tpm=none floor=none "},
		{bootfacts.Passphrase, true, []string{"NO rollback floor", "measures the boot, keeps nothing of the state volume"}, " unlock=passphrase tpm=measures floor=none "},
		{bootfacts.Recovered, false, []string{"the recovery passphrase, for this boot alone\n", "NO rollback floor"}, " unlock=recovery tpm=none floor=none "},
		{bootfacts.Rechosen, false, []string{"another passphrase was chosen"}, " unlock=rechosen tpm=none floor=none "},
	} {
		p := s
		p.State.Passphrase, p.State.Unlock, p.State.Measured, p.State.TPM = true, test.unlock, test.measured, seal.Status{}
		for _, say := range test.says {
			if !strings.Contains(p.String(), say) {
				t.Errorf("String() of a volume opened by %s does not say %q:\n%s", test.unlock, say, p)
			}
		}
		if !strings.Contains(p.Marker(), test.marker) || strings.Contains(p.String(), "provisioned") {
			t.Errorf("String() and Marker() of a volume opened by %s are\n%s\n%s", test.unlock, p, p.Marker())
		}
	}
	s.Development = false
	if strings.Contains(s.String(), "DEVELOPMENT") || !strings.Contains(s.Marker(), "development=no") {
		t.Errorf("String() of a build that is not for development = %s", s)
	}
}

func TestMemory(t *testing.T) {
	for _, test := range []struct {
		in               string
		total, available uint64
		ok               bool
	}{
		{"MemTotal:       458900 kB\nMemFree: 1 kB\nMemAvailable:   400000 kB\n", 458900, 400000, true},
		{"MemTotal:       458900 kB\n", 0, 0, false},
		{"MemTotal: x kB\nMemAvailable: 1 kB\n", 0, 0, false},
		{"MemTotal: 1 kB\nMemAvailable: 2 kB\n", 0, 0, false},
		{"", 0, 0, false},
	} {
		total, available, err := memory(test.in, "Mem", "Available")
		if total != test.total || available != test.available || (err == nil) != test.ok {
			t.Errorf("memory(%q) = %d, %d, %v, want %d, %d, ok %t", test.in, total, available, err, test.total, test.available, test.ok)
		}
	}
	in := "MemTotal: 458900 kB\nSwapCached: 4 kB\nSwapTotal: 65532 kB\nSwapFree: 65020 kB\n"
	if total, free, err := memory(in, "Swap", "Free"); total != 65532 || free != 65020 || err != nil {
		t.Errorf("memory(%q, Swap, Free) = %d, %d, %v, want 65532, 65020", in, total, free, err)
	}
}

func TestResident(t *testing.T) {
	for _, test := range []struct {
		in   string
		want uint64
		ok   bool
	}{
		{"3092 2048 1536 512 0 1024 0\n", 8192, true},
		{"3092 x 1536 512 0 1024 0\n", 0, false},
		{"3092 2048\n", 0, false},
		{"", 0, false},
	} {
		if got, err := resident(test.in); got != test.want || (err == nil) != test.ok {
			t.Errorf("resident(%q) = %d, %v, want %d, ok %t", test.in, got, err, test.want, test.ok)
		}
	}
}

func TestUncount(t *testing.T) {
	counted, err := format.CountPath(`\EFI\Linux\cloison_0.1.0+2-1.efi`)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		files, want string
		ok          bool
	}{
		{"cloison_0.1.0+2-1.efi", "cloison_0.1.0.efi", true},
		{"cloison_0.1.0.efi", "cloison_0.1.0.efi", true}, // cut off after the renaming
		{"cloison_0.1.0+2-1.efi cloison_0.0.9.efi", "cloison_0.0.9.efi cloison_0.1.0.efi", true},
		{"cloison_0.1.0+2-1.efi cloison_0.1.0.efi", "cloison_0.1.0+2-1.efi cloison_0.1.0.efi", false},
		{"", "", false},
	} {
		esp := t.TempDir()
		dir := filepath.Join(esp, "EFI", "Linux")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name := range strings.FieldsSeq(test.files) {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		err := uncount(esp, counted)
		var names []string
		entries, errDir := os.ReadDir(dir)
		if errDir != nil {
			t.Fatal(errDir)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if got := strings.Join(names, " "); got != test.want || (err == nil) != test.ok {
			t.Errorf("uncount(%q) = %q, %v, want %q, ok %t", test.files, got, err, test.want, test.ok)
		}
	}
}

// parameters makes a /proc/sys with every parameter of the table but those in
// missing.
func parameters(t *testing.T, missing ...string) string {
	root := t.TempDir()
	for _, s := range slices.Concat(sysctls, networkSysctls) {
		path := filepath.Join(root, strings.ReplaceAll(s.name, ".", "/"))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range missing {
		if err := os.Remove(filepath.Join(root, strings.ReplaceAll(name, ".", "/"))); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestSysctls(t *testing.T) {
	root := parameters(t, "kernel.io_uring_disabled")
	all := slices.Concat(sysctls, networkSysctls)
	if err := setSysctls(root, all); err != nil {
		t.Errorf("setSysctls = %v, want nil: the parameter may be missing", err)
	}
	for _, s := range all {
		b, err := os.ReadFile(filepath.Join(root, strings.ReplaceAll(s.name, ".", "/")))
		if s.name != "kernel.io_uring_disabled" && (err != nil || string(b) != s.value+"\n") {
			t.Errorf("%s = %q, %v, want %s", s.name, b, err, s.value)
		}
	}
	err := setSysctls(parameters(t, "kernel.kptr_restrict"), all)
	if err == nil || !strings.Contains(err.Error(), "cannot set kernel.kptr_restrict: the kernel has no such parameter") {
		t.Errorf("setSysctls without kernel.kptr_restrict = %v, want an error", err)
	}
}

func TestTablesHaveReasons(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range slices.Concat(sysctls, networkSysctls) {
		if s.why == "" || s.value == "" || seen[s.name] {
			t.Errorf("row %s has no reason, no value, or stands twice", s.name)
		}
		seen[s.name] = true
	}
	for _, m := range mounts {
		if m.why == "" || !strings.Contains(m.options, "nosuid") || !strings.Contains(m.options, "noexec") {
			t.Errorf("mount on %s has no reason, or allows programs", m.at)
		}
	}
}
