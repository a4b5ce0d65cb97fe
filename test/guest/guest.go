// Package guest runs the SDK's own tools with this tree's own kernel, in a
// small virtual machine: what needs device-mapper, a file system or swap can be
// held against cryptsetup, dmsetup or e2fsck themselves on any host.
//
// The kernel is started directly: there is no Secure Boot, no TPM and no
// network, and the initramfs holds exactly what the job asks for. It needs a
// cached or buildable kernel, the go command, and QEMU and SeaBIOS of the SDK.
//
// Sources: QEMU's manual (Direct Linux Boot); Linux,
// Documentation/driver-api/early-userspace/buffer-format.rst (archives that
// follow each other).
package guest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"cloison/format/cpio"
	"cloison/host/closure"
	"cloison/host/kernelbuild"
	"cloison/host/machine"
	"cloison/host/progress"
	"cloison/host/sdk"
	"cloison/test/guest/job"
)

// Where a guest has its disks, and what the job's own programs and files are.
const (
	Disks    = job.Disks
	Programs = "/program"
	Files    = "/file"
)

// Options say of what to make guests.
type Options struct {
	Tree, Cache string
	SDK         *sdk.SDK
	Accelerator machine.Accelerator // zero: TCG
	Log         *progress.Log
	Tools       []string // of the SDK: usr/sbin/cryptsetup
}

// Guest is what all guests have in common.
type Guest struct {
	sdk         *sdk.SDK
	accelerator machine.Accelerator
	kernel      string // path of the bzImage
	base        []byte // archive of /init and the tools
}

// Disk is one disk of a guest.
type Disk struct {
	Name     string // it is Disks/Name there; at most 20 bytes
	Path     string // of the image, a multiple of 512 bytes
	Writable bool
}

// Job is what one guest does.
type Job struct {
	Disks    []Disk
	Programs map[string]string // host paths of static programs, by their name below Programs
	Files    map[string][]byte // by their name below Files
	Commands []job.Command
	Memory   int // MiB; 0: 256
}

// New makes what guests are started from.
func New(ctx context.Context, o Options) (*Guest, error) {
	g, err := create(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("cannot make the guest: %w", err)
	}
	return g, nil
}

func create(ctx context.Context, o Options) (*Guest, error) {
	kernel, err := kernelbuild.Open(ctx, kernelbuild.Options{Tree: o.Tree, Hardware: "qemu", Cache: o.Cache, SDK: o.SDK, Log: o.Log})
	if err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp("", "cloison-guest-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	init := filepath.Join(work, "init")
	if err := Compile(ctx, o.Tree, "./test/guest/init", init); err != nil {
		return nil, err
	}
	tools, err := closure.Of(o.SDK.Root, o.Tools...)
	if err != nil {
		return nil, err
	}
	from := map[string]string{"init": init}
	for _, f := range tools {
		from[f.Name] = f.Host
	}
	entries, err := executables(from)
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{"dev", "proc", "run", "sys", "tmp", "mnt"} {
		entries = append(entries, cpio.File{Name: dir})
	}
	base, err := archive(entries)
	if err != nil {
		return nil, err
	}
	return &Guest{sdk: o.SDK, accelerator: o.Accelerator, kernel: kernel.Image, base: base}, nil
}

// Compile makes a static program of a package of the tree.
func Compile(ctx context.Context, tree, packagePath, out string) error {
	c := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", out, packagePath)
	c.Dir, c.Env = tree, append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	if said, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot compile %s: %w\n%s", packagePath, err, said)
	}
	return nil
}

func executables(from map[string]string) ([]cpio.File, error) {
	var entries []cpio.File
	for name, host := range from {
		data, err := os.ReadFile(host)
		if err != nil {
			return nil, err
		}
		entries = append(entries, cpio.File{Name: name, Mode: cpio.Regular | 0o555, Data: data})
	}
	return entries, nil
}

// archive adds the folders that are missing. An entry without a mode is one.
func archive(entries []cpio.File) ([]byte, error) {
	folders := map[string]bool{}
	var all []cpio.File
	for _, e := range entries {
		if e.Mode == 0 {
			folders[e.Name] = true
		} else {
			all = append(all, e)
		}
		for dir := path.Dir(e.Name); dir != "."; dir = path.Dir(dir) {
			folders[dir] = true
		}
	}
	for dir := range folders {
		all = append(all, cpio.File{Name: dir, Mode: cpio.Directory | 0o755})
	}
	return cpio.Archive(all, 0)
}

// Run starts a guest, waits until it has switched itself off, and returns what
// its commands said: of all of them, or of those until the first that failed,
// and then an error.
func (g *Guest) Run(ctx context.Context, j Job) ([]job.Result, error) {
	results, err := g.run(ctx, j)
	if err != nil {
		return results, fmt.Errorf("cannot do the guest's job: %w", err)
	}
	return results, nil
}

func (g *Guest) run(ctx context.Context, j Job) ([]job.Result, error) {
	work, err := os.MkdirTemp("", "cloison-guest-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	own, err := ownFiles(j)
	if err != nil {
		return nil, err
	}
	answer := filepath.Join(work, "answer.img")
	err = errors.Join(
		os.WriteFile(filepath.Join(work, "initrd"), append(g.base[:len(g.base):len(g.base)], own...), 0o600),
		os.WriteFile(answer, nil, 0o600), os.Truncate(answer, job.AnswerSize))
	if err != nil {
		return nil, err
	}
	disks := append([]Disk{{Name: job.Answer, Path: answer, Writable: true}}, j.Disks...)
	var console bytes.Buffer
	step := sdk.Step{
		Args: g.arguments(j, work, disks), Dir: work, Writable: []string{work}, ReadOnly: []string{g.kernel},
		Stdout: &console, Stderr: &console,
	}
	for _, d := range j.Disks {
		if d.Writable {
			step.Writable = append(step.Writable, d.Path)
		} else {
			step.ReadOnly = append(step.ReadOnly, d.Path)
		}
	}
	if g.accelerator.Name == "kvm" {
		step.Devices = []string{"/dev/kvm"}
	}
	if err := g.sdk.Run(ctx, step); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, machine.Plain(console.String()))
	}
	f, err := os.Open(answer)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	report, err := job.Read(f)
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot read the answer: %w\n%s", err, machine.Plain(console.String()))
	case report.Error != "":
		return report.Results, fmt.Errorf("%s\n%s", report.Error, machine.Plain(console.String()))
	case len(report.Results) != len(j.Commands):
		return report.Results, fmt.Errorf("%d results of %d commands", len(report.Results), len(j.Commands))
	}
	return report.Results, nil
}

// ownFiles is the archive of what only this job has.
func ownFiles(j Job) ([]byte, error) {
	text, err := json.Marshal(j.Commands)
	if err != nil {
		return nil, err
	}
	from := map[string]string{}
	for name, host := range j.Programs {
		from[strings.TrimPrefix(Programs, "/")+"/"+name] = host
	}
	entries, err := executables(from)
	if err != nil {
		return nil, err
	}
	entries = append(entries, cpio.File{Name: job.File, Mode: cpio.Regular | 0o400, Data: text})
	for name, data := range j.Files {
		entries = append(entries, cpio.File{Name: strings.TrimPrefix(Files, "/") + "/" + name, Mode: cpio.Regular | 0o400, Data: data})
	}
	return archive(entries)
}

func (g *Guest) arguments(j Job, work string, disks []Disk) []string {
	memory := j.Memory
	if memory == 0 {
		memory = machine.DefaultMemory
	}
	args := []string{
		"qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "q35,vmport=off", "-smp", "2", "-m", strconv.Itoa(memory) + "M",
		"-kernel", g.kernel, "-initrd", filepath.Join(work, "initrd"),
		"-chardev", "stdio,id=serial,signal=off", "-serial", "chardev:serial",
	}
	args = append(args, machine.Processor(g.accelerator)...)
	for _, d := range disks {
		args = append(args,
			"-drive", fmt.Sprintf("if=none,id=%s,format=raw,readonly=%s,file=%s", d.Name, onOff(!d.Writable), strings.ReplaceAll(d.Path, ",", ",,")),
			"-device", fmt.Sprintf("virtio-blk-pci,drive=%s,serial=%s", d.Name, d.Name))
	}
	return args
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}
