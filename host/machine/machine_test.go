package machine_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"cloison/format/hint"
	"cloison/format/product"
	"cloison/host/disk"
	"cloison/host/machine"
	"cloison/host/machine/machinetest"
	"cloison/host/sdk"
	"cloison/host/sdk/sdktest"
)

// deadline is generous: the host may be building a kernel beside the test.
const deadline = 120 * time.Second

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)
	return ctx
}

func start(t *testing.T, c machine.Config) *machine.Machine {
	t.Helper()
	m, err := machine.Start(within(t), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func expect(t *testing.T, m *machine.Machine, re string) {
	t.Helper()
	if _, err := m.Console.Expect(within(t), regexp.MustCompile(re)); err != nil {
		t.Fatal(err)
	}
}

func TestEnrolment(t *testing.T) {
	s := sdktest.Open(t)
	image := machinetest.Disk(t, s, machinetest.Keys(t, s))
	before := read(t, image)
	dir := filepath.Join(t.TempDir(), "machine")
	f := open(t, dir)
	if err := f.Prepare(s, image); err != nil {
		t.Fatal(err)
	}
	wantEnrolled(t, f, false)

	m := start(t, machine.Config{SDK: s, Folder: f})
	expect(t, m, `Custom Secure Boot keys successfully enrolled`)
	expect(t, m, `BdsDxe: starting Boot0001`) // the signed loader, now under Secure Boot
	select {
	case reason := <-m.Resets():
		if reason != "guest-reset" {
			t.Errorf("Resets() gave %q, want guest-reset", reason)
		}
	case <-within(t).Done():
		t.Error("Resets() gave nothing")
	}
	m.Close()
	exit, err := m.Wait()
	if err != nil || exit.Reason != "host-qmp-quit" || exit.Resets != 1 {
		t.Errorf("Wait() = %+v, %v; want host-qmp-quit after one reset", exit, err)
	}
	wantEnrolled(t, f, true)
	if string(read(t, image)) != string(before) {
		t.Error("the run changed the image")
	}

	// The folder is found again with its keys, and they are in force.
	f.Close()
	f = open(t, dir)
	wantEnrolled(t, f, true)
	if err := f.Prepare(s, image); err != nil {
		t.Fatal(err)
	}
	replaceLoader(t, s, f.Disk())
	m = start(t, machine.Config{SDK: s, Folder: f})
	expect(t, m, `BdsDxe: failed to load Boot0001 .*: Access Denied`)
}

func TestTemplate(t *testing.T) {
	s := sdktest.Open(t)
	image := machinetest.Disk(t, s, machinetest.Keys(t, s))
	template, err := machine.NewTemplate(within(t), s, machine.Accelerator{}, filepath.Join(t.TempDir(), "t"), image)
	if err != nil {
		t.Fatal(err)
	}
	defer template.Close()
	f, err := template.Folder(s, filepath.Join(t.TempDir(), "clone"), image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	wantEnrolled(t, f, true)
	replaceLoader(t, s, f.Disk())
	m := start(t, machine.Config{SDK: s, Folder: f})
	expect(t, m, `BdsDxe: failed to load Boot0001 .*: Access Denied`)
}

// An ESP without keys leaves the firmware in setup mode: no template.
func TestTemplateNeedsKeys(t *testing.T) {
	s := sdktest.Open(t)
	image := machinetest.Disk(t, s, machinetest.Keys(t, s))
	dir := filepath.Dir(image)
	if err := s.Run(t.Context(), sdk.Step{
		Args: []string{"mdeltree", "-i", "disk.img@@1M", "::loader"}, Dir: dir, Writable: []string{dir},
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := machine.NewTemplate(ctx, s, machine.Accelerator{}, filepath.Join(t.TempDir(), "t"), image)
	if err == nil {
		t.Error("NewTemplate without keys = nil, want an error")
	}
}

func TestProbe(t *testing.T) {
	s := sdktest.Open(t)
	began := time.Now()
	a, err := machine.Probe(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%v, found in %v", a, time.Since(began))
	if a.Name != "kvm" && a.Name != "tcg" || a.Reason == "" {
		t.Errorf("Probe() = %+v, want kvm or tcg with a reason", a)
	}
}

func TestFolderIsLocked(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir)
	_, err := machine.OpenFolder(dir)
	if err == nil || !strings.Contains(err.Error(), "process ") || hint.Of(err) == "" {
		t.Errorf("OpenFolder of a folder in use = %v, hint %q; want who holds it, and a hint", err, hint.Of(err))
	}
	f.Close()
	open(t, dir)
}

func TestDiskIsCopiedWhenTheImageChanges(t *testing.T) {
	s := sdktest.Open(t)
	f := open(t, t.TempDir())
	image := filepath.Join(t.TempDir(), "disk.img")
	prepare := func(want string) {
		t.Helper()
		if err := f.Prepare(s, image); err != nil {
			t.Fatal(err)
		}
		if got := string(read(t, f.Disk())); got != want {
			t.Errorf("after Prepare the disk is %q, want %q", got, want)
		}
	}
	write(t, image, "one")
	prepare("one")
	write(t, f.Disk(), "written by the guest")
	prepare("written by the guest")
	write(t, filepath.Join(filepath.Dir(image), "new"), "two")
	if err := os.Rename(filepath.Join(filepath.Dir(image), "new"), image); err != nil {
		t.Fatal(err)
	}
	prepare("two")
}

// A changed build reaches the machine as an update would: what it has kept in
// its state volume stays, and so does the TPM that opens it.
func TestStateIsKeptWhenTheImageChanges(t *testing.T) {
	s := sdktest.Open(t)
	f := open(t, t.TempDir())
	image := filepath.Join(t.TempDir(), "disk.img")
	rebuild := func(core string, stateMiB uint64) disk.Layout {
		t.Helper()
		layout := disk.Plan(product.Disk{ESP: 64, Slot: 1, State: stateMiB})
		write(t, filepath.Join(filepath.Dir(image), "core"), core)
		if err := disk.Make(layout, func(string) [16]byte { return [16]byte{1} }, 0, nil, filepath.Join(filepath.Dir(image), "core"), image+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(image+".new", image); err != nil {
			t.Fatal(err)
		}
		if err := f.Prepare(s, image); err != nil {
			t.Fatal(err)
		}
		return layout
	}
	want := func(at int64, want string) {
		t.Helper()
		if got := read(t, f.Disk())[at : at+int64(len(want))]; string(got) != want {
			t.Errorf("after Prepare the disk has %q at %d, want %q", got, at, want)
		}
	}
	tpm := filepath.Join(f.TPM(), "tpm2-00.permall")

	layout := rebuild("one", 2)
	own, err := os.OpenFile(f.Disk(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	for _, at := range []int64{0, layout.State.Size - 4} {
		if _, err := own.WriteAt([]byte("kept"), layout.State.Offset+at); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := own.WriteAt([]byte("lost"), layout.CoreA.Offset); err != nil {
		t.Fatal(err)
	}
	write(t, tpm, "used")

	rebuild("two", 2)
	want(layout.CoreA.Offset, "two")
	want(layout.State.Offset, "kept")
	want(layout.State.Offset+layout.State.Size-4, "kept")
	if got := string(read(t, tpm)); got != "used" {
		t.Errorf("after Prepare the TPM's state is %q, want the one before", got)
	}

	rebuild("three", 3)
	want(layout.CoreA.Offset, "three")
	want(layout.State.Offset, "\x00\x00\x00\x00")
	if _, err := os.Stat(tpm); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("with another layout the TPM's state is still there (%v), want a new machine", err)
	}
}

func TestErrorsAndHints(t *testing.T) {
	s := sdktest.Open(t)
	f := open(t, t.TempDir())
	image := filepath.Join(t.TempDir(), "disk.img")

	err := f.Prepare(s, image)
	wantHint(t, "Prepare without an image", err, "no disk image", "cloison build")
	_, err = machine.Start(t.Context(), machine.Config{SDK: s, Folder: f})
	wantHint(t, "Start without a disk", err, "no disk", "cloison build")

	write(t, image, strings.Repeat("\x00", 1<<20))
	if err := f.Prepare(s, image); err != nil {
		t.Fatal(err)
	}
	_, err = machine.Start(t.Context(), machine.Config{SDK: s, Folder: f, Memory: 1 << 30})
	wantHint(t, "Start with too much memory", err, "MiB are free", "--memory")
	_, err = machine.Start(t.Context(), machine.Config{SDK: s, Folder: f, Memory: 16})
	wantHint(t, "Start with too little memory", err, "too little", "--memory")
	_, err = machine.Start(t.Context(), machine.Config{SDK: s, Folder: f, Extra: []string{"-device", "nonsense"}})
	if err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("Start with a wrong argument = %v, want QEMU's own words", err)
	}
	_, err = machine.Start(t.Context(), machine.Config{SDK: &sdk.SDK{Root: t.TempDir()}, Folder: f})
	wantHint(t, "Start with an empty SDK", err, "the SDK has no", "package list")
}

func TestExpectTellsWhatCameInstead(t *testing.T) {
	s := sdktest.Open(t)
	f := open(t, t.TempDir())
	image := filepath.Join(t.TempDir(), "disk.img")
	write(t, image, strings.Repeat("\x00", 1<<20))
	if err := f.Prepare(s, image); err != nil {
		t.Fatal(err)
	}
	m := start(t, machine.Config{SDK: s, Folder: f})
	expect(t, m, `No bootable option`)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := m.Console.Expect(ctx, regexp.MustCompile("never"))
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "No bootable option") {
		t.Errorf("Expect with a cancelled context = %v, want its cause and the console's tail", err)
	}
	m.Close()
	_, err = m.Console.Expect(t.Context(), regexp.MustCompile("never"))
	if !errors.Is(err, machine.ErrEnded) {
		t.Errorf("Expect after the end = %v, want ErrEnded", err)
	}
}

func open(t *testing.T, dir string) *machine.Folder {
	t.Helper()
	f, err := machine.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func wantEnrolled(t *testing.T, f *machine.Folder, want bool) {
	t.Helper()
	got, err := f.Enrolled()
	if err != nil || got != want {
		t.Errorf("Enrolled() = %v, %v; want %v", got, err, want)
	}
}

func wantHint(t *testing.T, what string, err error, text, advice string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) || !strings.Contains(hint.Of(err), advice) {
		t.Errorf("%s = %v, hint %q; want %q and the hint %q", what, err, hint.Of(err), text, advice)
	}
}

func replaceLoader(t *testing.T, s *sdk.SDK, disk string) {
	t.Helper()
	dir := filepath.Dir(disk)
	if err := s.Run(t.Context(), sdk.Step{
		Args: []string{"mcopy", "-o", "-i", disk + "@@1M", "/usr/lib/systemd/boot/efi/systemd-bootx64.efi", "::EFI/BOOT/BOOTX64.EFI"},
		Dir:  dir, Writable: []string{dir},
	}); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
