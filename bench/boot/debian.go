package main

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"cloison/format/hint"
	"cloison/format/product"
	"cloison/format/uki"
	"cloison/host/debian"
	"cloison/host/disk"
	"cloison/host/progress"
	"cloison/host/sdk"
	"cloison/linux/file"
)

// debianSuites are those of an ordinary Debian trixie.
var debianSuites = []string{"trixie", "trixie-updates", "trixie-security"}

// debianKernels are the peers, by their kernels: the one that Debian installs,
// and the one that it builds for virtual machines of clouds.
var debianKernels = []string{"linux-image-amd64", "linux-image-cloud-amd64"}

// debianPackages are what a machine needs besides to boot into systemd, and
// nothing more, beside the essential packages and apt: the initramfs is made by
// Debian's own tool.
var debianPackages = []string{"initramfs-tools", "e2fsprogs", "systemd-sysv", "udev", "dbus"}

// debianCmdline is as quiet as Cloison's: the kernel prints errors only, and
// systemd tells its progress only where something fails.
const debianCmdline = "root=/dev/vda2 rw console=ttyS0,115200 loglevel=4 systemd.show_status=auto"

// The report is a unit that tells when multi-user.target was reached and
// switches the machine off.
var (
	//go:embed report.service
	reportUnit string
	//go:embed report.sh
	reportScript string
)

// finish ends the installation as an installer would, in the shell: $1 is the
// new system. A machine that has a machine-id has no first boot to do.
const finish = `set -eu
printf 'bench\n' > "$1/etc/hostname"
printf '/dev/vda2 / ext4 defaults 0 1\n' > "$1/etc/fstab"
chroot "$1" systemd-machine-id-setup
chroot "$1" passwd --delete root
chroot "$1" systemctl enable report.service
`

// debianSystem is the peer. Its disk is like Cloison's: a unified kernel image
// on the EFI system partition, which the firmware starts, and the system in the
// partition behind it.
type debianSystem struct {
	Disk string `json:"-"` // path

	Version  string `json:"version"`  // of Debian
	Release  string `json:"release"`  // of the kernel
	Packages int    `json:"packages"` // installed
	Files    int64  `json:"files"`    // bytes of all its files
	UKI      int64  `json:"uki"`      // bytes
}

// openDebian returns the peer, made first where it is missing.
func openDebian(ctx context.Context, s *sdk.SDK, cache, kernel string, log *progress.Log) (debianSystem, error) {
	recipe := sha256.Sum256([]byte(strings.Join(debianSuites, " ") + "\n" + kernel + " " + strings.Join(debianPackages, " ") + "\n" + debianCmdline + reportUnit + reportScript + finish))
	dir := filepath.Join(cache, "bench", "debian-"+hex.EncodeToString(recipe[:8]))
	if d, err := readDebian(dir); err == nil {
		return d, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return debianSystem{}, err
	}
	if os.Getuid() != 0 {
		return debianSystem{}, hint.Wrap(errors.New("cannot install the Debian to compare with: that needs root"),
			"run this benchmark as root once: the packages' scripts run in a chroot, and what they leave is cached")
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return debianSystem{}, err
	}
	unlock, err := file.Lock(ctx, dir+".lock")
	if err != nil {
		return debianSystem{}, err
	}
	defer unlock()
	stage := log.Start("install a minimal Debian trixie with %s", kernel)
	err = installDebian(ctx, s, kernel, dir)
	if err != nil {
		stage.Fail()
		return debianSystem{}, fmt.Errorf("cannot install the Debian to compare with: %w", err)
	}
	stage.Done("")
	return readDebian(dir)
}

const factsName = "facts.json"

func readDebian(dir string) (debianSystem, error) {
	text, err := os.ReadFile(filepath.Join(dir, factsName))
	if err != nil {
		return debianSystem{}, err
	}
	d := debianSystem{Disk: filepath.Join(dir, "disk.img")}
	if err := json.Unmarshal(text, &d); err != nil {
		return debianSystem{}, fmt.Errorf("cannot read %s: %w", filepath.Join(dir, factsName), err)
	}
	return d, nil
}

// installDebian installs into a folder beside dir and moves what came out there.
func installDebian(ctx context.Context, s *sdk.SDK, kernel, dir string) error {
	work, err := os.MkdirTemp("", "cloison-bench-debian-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	archive, err := debian.FindArchive(ctx)
	if err != nil {
		return err
	}
	tools, root, result := filepath.Join(work, "tools"), filepath.Join(work, "root"), dir+".part"
	if _, err := debian.Unpack(ctx, archive, debianSuites, []string{"mmdebstrap"}, tools, filepath.Join(work, "apt")); err != nil {
		return err
	}
	unit, script := filepath.Join(work, "report.service"), filepath.Join(work, "report.sh")
	err = errors.Join(os.RemoveAll(result), os.MkdirAll(result, 0o755),
		os.WriteFile(unit, []byte(reportUnit), 0o644), os.WriteFile(script, []byte(reportScript), 0o644))
	if err != nil {
		return err
	}

	// 1. Install, scripts and all: this is a Debian as Debian makes it.
	install := exec.CommandContext(ctx, "perl", filepath.Join(tools, "usr/bin/mmdebstrap"),
		"--mode=root", "--variant=minbase", "--architectures="+debian.Architecture, "--format=directory",
		"--keyring="+debian.Keyring, `--aptopt=APT::Install-Recommends "false"`, "--include="+kernel+","+strings.Join(debianPackages, ","),
		"--customize-hook=upload '"+unit+"' /etc/systemd/system/report.service",
		"--customize-hook=upload '"+script+"' /usr/local/lib/report", "--customize-hook="+finish,
		debianSuites[0], root, "-")
	install.Stdin = strings.NewReader(archive.Sources(debianSuites))
	if err := quietly(install); err != nil {
		return err
	}

	// 2. Learn what it is.
	d := debianSystem{}
	version, err := os.ReadFile(filepath.Join(root, "etc/debian_version"))
	if err != nil {
		return err
	}
	status, err := os.ReadFile(filepath.Join(root, "var/lib/dpkg/status"))
	if err != nil {
		return err
	}
	d.Version, d.Packages = strings.TrimSpace(string(version)), strings.Count(string(status), "\nStatus: install ok installed\n")
	if d.Files, err = size(root); err != nil {
		return err
	}

	// 3. Make the disk.
	unified, release, err := debianUKI(s, root)
	if err != nil {
		return err
	}
	d.Release, d.UKI = release, int64(len(unified))
	slot := filepath.Join(work, "ext4")
	if err := quietly(exec.CommandContext(ctx, "/usr/sbin/mkfs.ext4", "-q", "-d", root, slot, fmt.Sprintf("%dM", debianDisk.Slot))); err != nil {
		return err
	}
	err = disk.Make(disk.Plan(debianDisk), debianGUID, 0, map[string][]byte{"EFI/BOOT/BOOTX64.EFI": unified},
		slot, filepath.Join(result, "disk.img"))
	if err != nil {
		return err
	}
	facts, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(result, factsName), facts, 0o644); err != nil {
		return err
	}
	return os.Rename(result, dir)
}

// debianDisk is large enough for the system and its kernel, in MiB. Every disk
// of ours has a place for state: Debian leaves it alone.
var debianDisk = product.Disk{ESP: 128, Slot: 1024, State: 64}

func debianGUID(what string) [16]byte {
	sum := sha256.Sum256([]byte("cloison bench " + what))
	return [16]byte(sum[:16])
}

// debianUKI puts Debian's kernel and initramfs, as installed in root, behind
// the same stub as Cloison's.
func debianUKI(s *sdk.SDK, root string) (unified []byte, release string, err error) {
	kernels, err := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		return nil, "", fmt.Errorf("internal error: Debian has %d kernels", len(kernels))
	}
	release = strings.TrimPrefix(filepath.Base(kernels[0]), "vmlinuz-")
	kernel, err := os.ReadFile(kernels[0])
	if err != nil {
		return nil, "", err
	}
	initramfs, err := os.ReadFile(filepath.Join(root, "boot/initrd.img-"+release))
	if err != nil {
		return nil, "", err
	}
	stub, err := os.ReadFile(s.Path("usr/lib/systemd/boot/efi/linuxx64.efi.stub"))
	if err != nil {
		return nil, "", err
	}
	unified, err = uki.Build(stub, []uki.Section{
		{Name: ".cmdline", Data: []byte(debianCmdline)},
		{Name: ".uname", Data: []byte(release)},
		{Name: ".initrd", Data: initramfs},
		{Name: ".linux", Data: kernel},
	})
	return unified, release, err
}

// size adds up the regular files below root, in bytes.
func size(root string) (total int64, err error) {
	err = filepath.WalkDir(root, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}

// quietly runs a command and shows what it said only when it fails.
func quietly(command *exec.Cmd) error {
	command.Env = append(os.Environ(), "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	if said, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot run %s: %w\n%s", filepath.Base(command.Path), err, said[max(0, len(said)-4096):])
	}
	return nil
}
