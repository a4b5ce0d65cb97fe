package verify_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/erofs/go-erofs"
	"github.com/klauspost/compress/zstd"

	"cloison/format/cmdline"
	"cloison/format/cpio"
	"cloison/format/fec"
	"cloison/format/pcr"
	"cloison/format/pcrsig"
	"cloison/format/product"
	"cloison/format/release"
	"cloison/format/uki"
	"cloison/format/verity"
	"cloison/host/build"
	"cloison/host/build/buildtest"
	hostcore "cloison/host/core"
	"cloison/host/disk"
	"cloison/host/keys"
	"cloison/host/sdk"
	"cloison/host/sdk/sdktest"
)

const (
	loaderPath = "EFI/BOOT/BOOTX64.EFI"
	ukiPath    = "EFI/Linux/cloison_0.1.0+3.efi"
	epoch      = 1795392000
)

// original is a real build, taken apart.
type original struct {
	tools    *sdk.SDK
	store    keys.Store
	keys     string
	manifest release.Manifest
	lock     []byte
	files    []entry // of the core
	sections []uki.Section
	init     []cpio.File
	loader   []byte
}

// entry is one file of the core, with everything that a tar can say.
type entry struct {
	tar.Header
	data []byte
}

// changes are made to a build at the point where its maker would make them:
// everything after it is computed and signed anew. So one check alone is left
// to notice.
type changes struct {
	core     func(*[]entry)
	image    func([]byte) // the finished core, before it is copied to the disk
	init     func(*[]cpio.File)
	initrd   func([]byte) []byte
	line     func(string) string
	swap     uint64 // size of the swap partition in MiB
	sections func(*[]uki.Section)
	// keepPolicy leaves what was signed for the TPM of the image before.
	keepPolicy bool
	signed     func([]byte) []byte // the signed UKI
	esp        func(map[string][]byte)
	disk       func([]byte, disk.Layout) // the finished disk
	manifest   func(*release.Manifest)
	after      func(dir string) // what an outsider changes
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	check(t, err)
	return data
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	check(t, os.WriteFile(path, data, 0o644))
}

var theOriginal struct {
	sync.Once
	*original
}

// open takes the build of this tree apart, once for all tests.
func open(t testing.TB) *original {
	t.Helper()
	theOriginal.Do(func() { theOriginal.original = takeApart(t) })
	if theOriginal.original == nil {
		t.Fatal("there is no build: see the first test that wanted one")
	}
	return theOriginal.original
}

func takeApart(t testing.TB) *original {
	t.Helper()
	dir, keysDir := buildtest.Image(t)
	store, err := keys.OpenDir(keysDir)
	check(t, err)
	o := &original{tools: sdktest.Open(t), store: store, keys: keysDir, lock: read(t, filepath.Join(dir, build.LockName))}
	o.manifest, err = release.Parse(read(t, filepath.Join(dir, build.ManifestName)))
	check(t, err)
	all, err := uki.Parse(read(t, filepath.Join(dir, build.UKIName(o.manifest.Version))))
	check(t, err)
	for _, s := range all {
		if s.Name != ".sbat" { // the stub's own
			o.sections = append(o.sections, s)
		}
		if s.Name == ".initrd" {
			r, err := zstd.NewReader(nil)
			check(t, err)
			archive, err := r.DecodeAll(s.Data, nil)
			r.Close()
			check(t, err)
			o.init, _, err = cpio.Read(archive)
			check(t, err)
		}
	}
	o.loader, err = keys.SignPE(store, read(t, o.tools.Path("usr/lib/systemd/boot/efi/systemd-bootx64.efi")))
	check(t, err)
	o.readCore(t, filepath.Join(dir, build.CoreName))
	return o
}

func (o *original) readCore(t testing.TB, path string) {
	t.Helper()
	f, err := os.Open(path)
	check(t, err)
	defer f.Close()
	root, err := erofs.Open(io.NewSectionReader(f, 0, int64(o.manifest.Core.HashOffset)))
	check(t, err)
	check(t, fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		check(t, err)
		info, err := d.Info()
		check(t, err)
		e := entry{Header: tar.Header{Name: name, Mode: int64(info.Mode().Perm()), Typeflag: tar.TypeDir}}
		if !d.IsDir() {
			if strings.HasPrefix(name, hostcore.ToolsFolder) && info.Size() > 1<<20 {
				return nil // the great libraries: each change below costs the parity of all
			}
			e.Typeflag, e.Size = tar.TypeReg, info.Size()
			e.data, err = fs.ReadFile(root, name)
			check(t, err)
		}
		o.files = append(o.files, e)
		return nil
	}))
}

// coreImage makes the image of a core: file system, tree, parity.
func (o *original) coreImage(t testing.TB, files []entry) ([]byte, cmdline.Core) {
	t.Helper()
	work := t.TempDir()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, e := range files {
		e.Size = int64(len(e.data))
		check(t, w.WriteHeader(&e.Header))
		_, err := w.Write(e.data)
		check(t, err)
	}
	check(t, w.Close())
	write(t, filepath.Join(work, "tar"), archive.Bytes())
	check(t, o.tools.Run(context.Background(), sdk.Step{
		Args: []string{"mkfs.erofs", "--quiet", "-T", "0", "-b", "4096", "--tar=f", "core", "tar"}, Dir: work, Writable: []string{work},
	}))
	image := read(t, filepath.Join(work, "core"))
	image = append(image, make([]byte, -len(image)&(verity.BlockSize-1))...)
	blocks := uint64(len(image)) / verity.BlockSize
	tree, err := verity.Build(bytes.NewReader(image), blocks, [32]byte{1}, [16]byte{2})
	check(t, err)
	parity, err := fec.Encode(verity.Covered(bytes.NewReader(image), bytes.NewReader(tree.Hashes), blocks), verity.CoveredBlocks(blocks), 2)
	check(t, err)
	c := cmdline.Core{
		Version: "0.1.0", RootHash: tree.Root, Salt: tree.Salt, DataBlocks: blocks, HashOffset: uint64(len(image)),
		FECOffset: uint64(len(image) + len(tree.Hashes)), FECRoots: 2, Development: true,
	}
	return slices.Concat(image, tree.Hashes, parity), c
}

func compress(t testing.TB, archive []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
	check(t, err)
	return w.EncodeAll(archive, nil)
}

func file(data []byte) release.File {
	sum := sha256.Sum256(data)
	return release.File{SHA256: hex.EncodeToString(sum[:]), Size: uint64(len(data))}
}

// call calls f if it is there.
func call[T any](f func(T), with T) {
	if f != nil {
		f(with)
	}
}

// assemble makes a build with the changes, of the form that cloison build
// leaves but with a smaller disk.
func (o *original) assemble(t testing.TB, c changes) string {
	t.Helper()
	dir, work := t.TempDir(), t.TempDir()
	files := slices.Clone(o.files)
	call(c.core, &files)
	image, parameters := o.coreImage(t, files)
	static, _, _ := strings.Cut(o.manifest.UKI.Cmdline, " cloison.")
	line := static + " " + parameters.String()
	if c.line != nil {
		line = c.line(line)
	}
	signed, sections := o.unified(t, c, line)
	write(t, filepath.Join(dir, build.CoreName), image)
	onDisk := slices.Clone(image)
	call(c.image, onDisk)
	write(t, filepath.Join(work, "core"), onDisk)

	auth, err := keys.AuthFiles(o.store, unix(epoch))
	check(t, err)
	esp := map[string][]byte{loaderPath: o.loader, ukiPath: signed, "loader/loader.conf": []byte("timeout 1\neditor no\n")}
	for name, data := range auth.Files() {
		esp["loader/keys/auto/"+name] = data
	}
	call(c.esp, esp)
	layout := disk.Plan(product.Disk{ESP: 64, Slot: 48, State: 64, Swap: c.swap})
	guid := func(what string) [16]byte { return [16]byte(hashOf(what)) }
	diskPath := filepath.Join(dir, build.DiskName)
	check(t, disk.Make(layout, guid, epoch, esp, filepath.Join(work, "core"), diskPath))
	whole := read(t, diskPath)
	if c.disk != nil {
		c.disk(whole, layout)
		write(t, diskPath, whole)
	}

	m := o.manifest
	coreFile, ukiFile := file(image), file(signed)
	m.Core = release.Core{
		SHA256: coreFile.SHA256, Size: coreFile.Size, RootHash: hex.EncodeToString(parameters.RootHash[:]), Salt: hex.EncodeToString(parameters.Salt[:]),
		DataBlocks: parameters.DataBlocks, HashOffset: parameters.HashOffset, FECOffset: parameters.FECOffset, FECRoots: parameters.FECRoots,
	}
	m.UKI = release.UKI{SHA256: ukiFile.SHA256, Size: ukiFile.Size, Cmdline: line}
	for i, profile := range uki.Profiles(sections) {
		if i > 1 {
			break // the manifest has no place for more
		}
		measured := []*release.Measured{&m.UKI.Measured, &m.UKI.Recovery}[i]
		register := pcr.UKI(profile)
		for i, phase := range []string{"enter-initrd", "leave-initrd", "sysinit", "ready"} {
			register = pcr.Phases(register, phase)
			measured.PCR11 = hex.EncodeToString(register[:])
			path := strings.Join([]string{"enter-initrd", "leave-initrd", "sysinit", "ready"}[:i+1], ":")
			measured.PhasesPCR11 = append(measured.PhasesPCR11, release.Phase{Path: path, PCR11: measured.PCR11})
		}
	}
	if m.UKI.Recovery.PCR11 == "" {
		m.UKI.Recovery = m.UKI.Measured // there is no second profile: only its absence is to be noticed
	}
	m.Disk = file(whole)
	config, bill := []byte("CONFIG_CFI=y\n"), []byte("{}\n")
	m.KernelConfig, m.SBOM = file(config), file(bill)
	write(t, filepath.Join(dir, build.ConfigName), config)
	write(t, filepath.Join(dir, build.SBOMName), bill)
	call(c.manifest, &m)
	text, err := release.Print(m)
	check(t, err)
	signature, err := keys.SignDocument(o.store, text)
	check(t, err)
	write(t, filepath.Join(dir, build.ManifestName), text)
	write(t, filepath.Join(dir, build.SignedName), signature)
	write(t, filepath.Join(dir, build.LockName), o.lock)
	write(t, filepath.Join(dir, build.UKIName(m.Version)), signed)
	call(c.after, dir)
	return dir
}

// signFor signs for the TPM what has become of the sections, with the policy
// key of the store.
func signFor(t testing.TB, st keys.Store, sections []uki.Section) {
	t.Helper()
	public, err := keys.PublicKeyPEM(st, keys.Policy)
	check(t, err)
	set(sections, ".pcrpkey", public)
	tools := sdktest.Open(t)
	unsigned, err := uki.Build(read(t, tools.Path("usr/lib/systemd/boot/efi/linuxx64.efi.stub")), sections)
	check(t, err)
	all, err := uki.Parse(unsigned)
	check(t, err)
	signer, err := st.Signer(keys.Policy)
	check(t, err)
	signed, err := pcrsig.Sign(signer, pcr.Phases(pcr.UKI(uki.Profiles(all)[0]), pcr.EnterInitrd), 1, 0)
	check(t, err)
	set(sections, ".pcrsig", signed.Print())
}

func set(sections []uki.Section, name string, data []byte) {
	for i := range sections {
		if sections[i].Name == name {
			sections[i].Data = data
		}
	}
}

// unified makes the UKI, and returns its sections too.
func (o *original) unified(t testing.TB, c changes, line string) ([]byte, []uki.Section) {
	t.Helper()
	init := slices.Clone(o.init)
	for i := range init {
		if init[i].Name == "cmdline" {
			init[i].Data = []byte(line)
		}
	}
	call(c.init, &init)
	archive, err := cpio.Archive(init, epoch)
	check(t, err)
	initrd := compress(t, archive)
	if c.initrd != nil {
		initrd = c.initrd(initrd)
	}
	sections := slices.Clone(o.sections)
	set(sections, ".cmdline", []byte(line))
	set(sections, ".initrd", initrd)
	call(c.sections, &sections)
	if !c.keepPolicy {
		signFor(t, o.store, sections)
	}
	unsigned, err := uki.Build(read(t, o.tools.Path("usr/lib/systemd/boot/efi/linuxx64.efi.stub")), sections)
	check(t, err)
	signed, err := keys.SignPE(o.store, unsigned)
	check(t, err)
	if c.signed != nil {
		signed = c.signed(unsigned)
	}
	all, err := uki.Parse(signed)
	check(t, err)
	return signed, all
}
