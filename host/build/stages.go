package build

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"cloison/format/cmdline"
	"cloison/format/network"
	"cloison/format/osrelease"
	"cloison/format/packagelist"
	"cloison/format/release"
	"cloison/host/bootimage"
	"cloison/host/core"
	"cloison/host/disk"
	"cloison/host/kernelbuild"
	"cloison/host/keys"
	"cloison/host/program"
	"cloison/host/sbom"
	"cloison/host/sdk"
	"cloison/host/serviceroot"
	"cloison/linux/file"
)

// loaderConfig is systemd-boot's: see loader.conf(5).
const loaderConfig = `# The menu shows for a second: any key keeps it. It chooses among signed
# images only, and changes nothing about them.
timeout 1
editor no
auto-firmware no
# In setup mode, and only then, enrol the keys of loader/keys/auto.
secure-boot-enroll force
`

// tries is how often a new release may fail to become ready.
const tries = 3

// run makes everything in order; each stage needs what the one before made.
func (b *builder) run(ctx context.Context) (err error) {
	b.result = filepath.Join(b.work, "result")
	if err := os.Mkdir(b.result, 0o755); err != nil {
		return err
	}
	names := b.programs()
	if b.chain, err = program.Fetch(ctx, b.Tree, names...); err != nil {
		return err
	}
	if b.sdk, err = sdk.Open(ctx, sdk.Options{Tree: b.Tree, Cache: b.Cache, Locked: b.Locked, Refresh: b.Refresh, Log: b.Log}); err != nil {
		return err
	}
	if err := b.sdk.Check(ctx); err != nil {
		return err
	}
	if b.kernel, err = kernelbuild.Open(ctx, kernelbuild.Options{Tree: b.Tree, Hardware: b.Hardware, Cache: b.Cache, SDK: b.sdk, Log: b.Log}); err != nil {
		return err
	}
	programs, err := program.Build(ctx, program.Options{Tree: b.Tree, Cache: b.Cache, SDK: b.sdk, Log: b.Log}, b.chain,
		filepath.Join(b.work, "programs"), names...)
	if err != nil {
		return err
	}
	stage := b.Log.Start("assemble the image")
	if err := b.assemble(ctx, programs); err != nil {
		stage.Fail()
		return err
	}
	stage.Done("%s", b.product.Release.Version)
	return nil
}

func (b *builder) assemble(ctx context.Context, programs map[string]program.Program) error {
	id := core.Identity{Product: b.product.Name, Version: b.product.Release.Version, Epoch: b.product.Release.Epoch()}
	image, err := b.core(ctx, id, programs)
	if err != nil {
		return fmt.Errorf("cannot make the core: %w", err)
	}
	signed := b.kernel.Cmdline + " " + cmdline.Core{
		Version: id.Version, RootHash: image.Tree.Root, Salt: image.Tree.Salt, DataBlocks: image.Tree.DataBlocks,
		HashOffset: image.HashOffset, FECOffset: image.FECOffset, FECRoots: core.Roots,
		Swap: b.product.Disk.Swap > 0, Passphrase: b.product.ByPassphrase(), Development: b.store.Development(),
	}.String()
	recovery, err := b.store.Recovery()
	if err != nil {
		return err
	}
	files := map[string][]byte{"cmdline": []byte(signed), "recovery.pub": recovery, "os-release": []byte(b.osRelease())}
	initramfs, err := bootimage.Initramfs(programs["initramfs"].Path, files, id.Epoch)
	if err != nil {
		return fmt.Errorf("cannot make the initramfs: %w", err)
	}
	boot, err := bootimage.Make(b.sdk, b.store, bootimage.Parts{
		Kernel: b.kernel.Image, Release: b.kernel.Release, Initramfs: initramfs, Cmdline: signed, OSRelease: b.osRelease(),
		SecurityVersion: b.product.Release.SecurityVersion, Floor: b.product.Release.Floor,
		Passphrase: b.product.ByPassphrase(),
	})
	if err != nil {
		return err
	}
	loader, err := bootimage.Loader(b.sdk, b.store)
	if err != nil {
		return err
	}
	auth, err := keys.AuthFiles(b.store, time.Unix(id.Epoch, 0).UTC())
	if err != nil {
		return fmt.Errorf("cannot sign the Secure Boot keys: %w", err)
	}
	counted := strings.TrimSuffix(UKIName(id.Version), ".efi") + "+" + strconv.Itoa(tries) + ".efi"
	esp := map[string][]byte{
		"EFI/BOOT/BOOTX64.EFI": loader,
		"EFI/Linux/" + counted: boot.Data,
		"loader/loader.conf":   []byte(loaderConfig),
	}
	for name, data := range auth.Files() {
		esp["loader/keys/auto/"+name] = data
	}
	if err := disk.Make(disk.Plan(b.product.Disk), id.UUID, id.Epoch, esp, image.Path, filepath.Join(b.result, DiskName)); err != nil {
		return fmt.Errorf("cannot make the disk: %w", err)
	}
	config, err := os.ReadFile(b.kernel.Config)
	if err != nil {
		return err
	}
	bill, err := b.bill(programs)
	if err != nil {
		return fmt.Errorf("cannot make the SBOM: %w", err)
	}
	err = errors.Join(
		os.WriteFile(filepath.Join(b.result, UKIName(id.Version)), boot.Data, 0o644),
		os.WriteFile(filepath.Join(b.result, ConfigName), config, 0o644),
		os.WriteFile(filepath.Join(b.result, SBOMName), bill, 0o644),
		os.WriteFile(filepath.Join(b.result, LockName), packagelist.Print(b.sdk.Packages), 0o644))
	if err != nil {
		return err
	}
	return b.manifest(id, image, boot, signed, programs)
}

// programs are the folders of cmd that a build compiles: PID 1, what comes before
// it, the launcher, and the programs of the services.
func (b *builder) programs() []string {
	names := []string{"initramfs", "init", "launch"}
	for _, s := range b.services {
		if name, ours := s.Ours(); ours && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// core places the files of the system and makes its image.
func (b *builder) core(ctx context.Context, id core.Identity, programs map[string]program.Program) (*core.Image, error) {
	files := []core.File{
		{Name: "usr/lib/os-release", Mode: 0o444, Data: []byte(b.osRelease())},
		{Name: "etc/os-release", Mode: 0o444, Data: []byte(b.osRelease())},
	}
	// Where PID 1 mounts.
	for _, dir := range []string{"dev", "proc", "run", "sys", "tmp", "efi", "state"} {
		files = append(files, core.File{Name: dir, Mode: fs.ModeDir})
	}
	networks, err := network.Print(b.product.Networks)
	if err != nil {
		return nil, err
	}
	files = append(files, core.File{Name: strings.TrimPrefix(network.Path, "/"), Mode: 0o444, Data: []byte(networks)})
	compiled := map[string]string{}
	for name, p := range programs {
		compiled[name] = p.Path
	}
	for _, name := range []string{"init", "launch"} {
		files = append(files, core.File{Name: "usr/lib/cloison/" + name, Mode: 0o555, From: compiled[name]})
	}
	for _, s := range b.services {
		root, err := serviceroot.Files(s, compiled, b.sdk.Root)
		if err != nil {
			return nil, err
		}
		files = append(files, root...)
	}
	tools, err := core.Tools(b.sdk)
	if err != nil {
		return nil, err
	}
	files = append(files, tools...)
	work := filepath.Join(b.work, "core")
	if err := os.Mkdir(work, 0o755); err != nil {
		return nil, err
	}
	return core.Make(ctx, b.sdk, id, files, work, filepath.Join(b.result, CoreName))
}

// osRelease is what the system says it is: in the core, and in the UKI where
// the loader's menu reads it.
func (b *builder) osRelease() string {
	r := b.product.Release
	fields := osrelease.Release{
		{Key: "NAME", Value: "Cloison"},
		{Key: "ID", Value: "cloison"},
		{Key: "VERSION_ID", Value: r.Version},
		{Key: "PRETTY_NAME", Value: b.product.Title + " " + r.Version},
		{Key: "IMAGE_ID", Value: "cloison-" + b.product.Name},
		{Key: "IMAGE_VERSION", Value: r.Version},
		{Key: "CLOISON_PRODUCT", Value: b.product.Name},
		{Key: "CLOISON_HARDWARE", Value: b.Hardware},
		{Key: "CLOISON_SECURITY_VERSION", Value: strconv.FormatUint(r.SecurityVersion, 10)},
	}
	if b.product.ByPassphrase() {
		fields = append(fields, osrelease.Field{Key: "CLOISON_UNLOCK", Value: release.Passphrase})
	}
	if b.store.Development() {
		fields[3].Value += " DEVELOPMENT BUILD"
		fields = append(fields, osrelease.Field{Key: "VARIANT_ID", Value: "development"}, osrelease.Field{Key: "VARIANT", Value: "DEVELOPMENT BUILD"})
	}
	return fields.String()
}

func (b *builder) bill(programs map[string]program.Program) ([]byte, error) {
	return sbom.Make(sbom.Input{
		Product: b.product.Name, Title: b.product.Title, Version: b.product.Release.Version, Hardware: b.Hardware,
		Epoch: b.product.Release.Epoch(), Packages: b.sdk.Packages, Programs: programs,
	})
}

// manifest writes the manifest and its signature.
func (b *builder) manifest(id core.Identity, image *core.Image, boot *bootimage.Image, signed string, programs map[string]program.Program) error {
	coreFile, err := describe(image.Path)
	if err != nil {
		return err
	}
	diskFile, err := describe(filepath.Join(b.result, DiskName))
	if err != nil {
		return err
	}
	configFile, err := describe(filepath.Join(b.result, ConfigName))
	if err != nil {
		return err
	}
	bill, err := describe(filepath.Join(b.result, SBOMName))
	if err != nil {
		return err
	}
	inputs, err := b.inputs(programs)
	if err != nil {
		return err
	}
	uki := sha256.Sum256(boot.Data)
	unlock := release.TPM
	if b.product.ByPassphrase() {
		unlock = release.Passphrase
	}
	m := release.Manifest{
		Version: id.Version, Product: b.product.Name, Hardware: b.Hardware,
		SecurityVersion: b.product.Release.SecurityVersion, SourceDateEpoch: id.Epoch, Development: b.store.Development(), Unlock: unlock,
		Core: release.Core{
			SHA256: coreFile.SHA256, Size: coreFile.Size,
			RootHash: hex.EncodeToString(image.Tree.Root[:]), Salt: hex.EncodeToString(image.Tree.Salt[:]),
			DataBlocks: image.Tree.DataBlocks, HashOffset: image.HashOffset, FECOffset: image.FECOffset, FECRoots: core.Roots,
		},
		UKI: release.UKI{
			SHA256: hex.EncodeToString(uki[:]), Size: uint64(len(boot.Data)), Cmdline: signed,
			Measured: measured(boot.Main), Recovery: measured(boot.Recovery),
		},
		Disk: diskFile, KernelConfig: configFile, SBOM: bill, Inputs: inputs,
	}
	text, err := release.Print(m)
	if err != nil {
		return err
	}
	signature, err := keys.SignDocument(b.store, text)
	if err != nil {
		return fmt.Errorf("cannot sign the manifest: %w", err)
	}
	return errors.Join(
		os.WriteFile(filepath.Join(b.result, ManifestName), text, 0o644),
		os.WriteFile(filepath.Join(b.result, SignedName), signature, 0o644))
}

func measured(from bootimage.Measured) release.Measured {
	m := release.Measured{PCR11: hex.EncodeToString(from.PCR11[:])}
	for _, phase := range from.Phases {
		m.PhasesPCR11 = append(m.PhasesPCR11, release.Phase{Path: phase.Path, PCR11: hex.EncodeToString(phase.PCR11[:])})
	}
	return m
}

// inputs lists what the build was made from: packages of the SDK, the Go
// toolchain, Go modules, and the source tree itself.
func (b *builder) inputs(programs map[string]program.Program) ([]release.Input, error) {
	source, err := digestTree(b.Tree)
	if err != nil {
		return nil, err
	}
	inputs := []release.Input{
		{Name: "cloison", Version: b.product.Release.Version, SHA256: source},
		{Name: "go", Version: b.chain.Version, SHA256: b.chain.SHA256},
	}
	for _, p := range b.sdk.Packages {
		inputs = append(inputs, release.Input{Name: "debian:" + p.Name, Version: p.Version, SHA256: p.SHA256})
	}
	seen := map[string]bool{}
	for _, p := range programs {
		for _, module := range p.Info.Deps {
			if seen[module.Path] {
				continue
			}
			seen[module.Path] = true
			// The checksum of a module is "h1:" and a SHA-256 in base 64.
			sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(module.Sum, "h1:"))
			if err != nil {
				return nil, fmt.Errorf("cannot read the checksum of %s: %w", module.Path, err)
			}
			inputs = append(inputs, release.Input{Name: "go:" + module.Path, Version: module.Version, SHA256: hex.EncodeToString(sum)})
		}
	}
	slices.SortFunc(inputs, func(a, b release.Input) int { return strings.Compare(a.Name, b.Name) })
	return inputs, nil
}

// sources are the parts of the tree that a build reads.
var sources = []string{"go.mod", "go.sum", "cmd", "format", "host", "image", "kernel", "linux", "sdk", "target"}

// digestTree returns one SHA-256 over the names and contents of the sources.
func digestTree(tree string) (string, error) {
	sum := sha256.New()
	for _, top := range sources {
		err := filepath.WalkDir(filepath.Join(tree, top), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			name, err := filepath.Rel(tree, path)
			if err != nil {
				return err
			}
			one, err := describe(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(sum, "%s  %s\n", one.SHA256, name)
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func describe(path string) (release.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return release.File{}, err
	}
	defer f.Close()
	sum := sha256.New()
	size, err := file.Read(sum, f)
	if err != nil {
		return release.File{}, fmt.Errorf("cannot read %s: %w", path, err)
	}
	return release.File{SHA256: hex.EncodeToString(sum.Sum(nil)), Size: uint64(size)}, nil
}
