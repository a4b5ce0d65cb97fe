package peer_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"cloison/format/gpt"
	"cloison/format/release"
	"cloison/format/uki"
	"cloison/format/verity"
	"cloison/host/build"
	"cloison/host/build/buildtest"
	"cloison/host/sdk"
	"cloison/host/sdk/sdktest"
)

// builtImage is the build of this tree, which these tests only read.
type builtImage struct {
	dir, keys string
	manifest  release.Manifest
}

var theImage struct {
	sync.Once
	builtImage
}

// openImage builds once for all tests.
func openImage(t *testing.T) builtImage {
	t.Helper()
	theImage.Do(func() {
		b := &theImage.builtImage
		b.dir, b.keys = buildtest.Image(t)
		var err error
		if b.manifest, err = release.Parse(readFile(t, b.path(build.ManifestName))); err != nil {
			t.Fatal(err)
		}
	})
	if theImage.manifest.Version == "" {
		t.Fatal("there is no build: see the first test that wanted one")
	}
	return theImage.builtImage
}

func (b builtImage) path(name string) string { return filepath.Join(b.dir, name) }

func (b builtImage) uki() string { return b.path(build.UKIName(b.manifest.Version)) }

// look runs a tool that reads the build, and returns what it printed.
func (b builtImage) look(tools *sdk.SDK, args ...string) (string, error) {
	var out bytes.Buffer
	err := tools.Run(context.Background(), sdk.Step{Args: args, Dir: b.dir, ReadOnly: []string{b.dir, b.keys}, Stdout: &out, Stderr: &out})
	return out.String(), err
}

func (b builtImage) mustLook(t *testing.T, tools *sdk.SDK, args ...string) string {
	t.Helper()
	out, err := b.look(tools, args...)
	if err != nil {
		t.Errorf("%s: %v\n%s", args[0], err, out)
	}
	return out
}

// partition copies a partition of the built disk to a file of dir.
func (b builtImage) partition(t *testing.T, label, dir string) string {
	t.Helper()
	f, err := os.Open(b.path(build.DiskName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	table, err := gpt.Read(f, info.Size(), 512)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(table.Partitions, func(p gpt.Partition) bool { return p.Label == label })
	if i < 0 {
		t.Fatalf("there is no partition %s", label)
	}
	p := table.Partitions[i]
	path := filepath.Join(dir, label)
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := out.Truncate(int64(p.Size)); err != nil {
		t.Fatal(err)
	}
	// Most of a partition is zeros: holes in the copy.
	chunk, zeros := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := int64(0); at < int64(p.Size); at += int64(len(chunk)) {
		n, err := f.ReadAt(chunk[:min(int64(len(chunk)), int64(p.Size)-at)], int64(p.Start)+at)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(chunk[:n], zeros[:n]) {
			if _, err := out.WriteAt(chunk[:n], at); err != nil {
				t.Fatal(err)
			}
		}
	}
	return path
}

// TestImageVerity: veritysetup takes core.img with our root hash, refuses it
// with another, and makes the same tree and parity of the same data.
func TestImageVerity(t *testing.T) {
	tools, b, dir := sdktest.Open(t), openImage(t), t.TempDir()
	c := b.manifest.Core
	image := readFile(t, b.path(build.CoreName))
	ours := verityImage{blocks: c.DataBlocks, root: c.RootHash, bytes: image, hash: int(c.HashOffset), fec: int(c.FECOffset)}
	file := writeFile(t, dir, "core", image)
	for _, withFEC := range []bool{false, true} {
		if out, err := ours.veritysetup(t, tools, "verify", file, withFEC); err != nil || strings.Contains(out, "repairable") {
			t.Errorf("veritysetup verify, parity %v = %v\n%s", withFEC, err, out)
		}
	}
	other := ours
	other.root = strings.Repeat("00", 32)
	if out, err := other.veritysetup(t, tools, "verify", file, false); err == nil {
		t.Errorf("veritysetup verify with another root hash succeeds:\n%s", out)
	}
	super, err := verity.ParseSuperblock(image[c.HashOffset:][:verity.BlockSize])
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir, "core", image[:c.HashOffset])
	u := super.UUID
	out, err := ours.veritysetup(t, tools, "format", file, true, fmt.Sprintf("--data-blocks=%d", c.DataBlocks), "--salt="+c.Salt,
		fmt.Sprintf("--uuid=%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:]))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if theirs := readFile(t, file); !bytes.Equal(theirs, image) {
		t.Errorf("veritysetup format gives another image than core.img:\n%s", out)
	}
}

// TestImageSignatures: sbverify takes loader and UKI with db, and refuses them
// with another certificate.
func TestImageSignatures(t *testing.T) {
	tools, b, dir := sdktest.Open(t), openImage(t), t.TempDir()
	esp := b.partition(t, "esp", dir)
	mustTool(t, tools, dir, "mcopy", "-n", "-i", esp, "::/EFI/BOOT/BOOTX64.EFI", "loader")
	mustTool(t, tools, dir, "mcopy", "-n", "-i", esp, "::/EFI/Linux/cloison_"+b.manifest.Version+"+3.efi", "uki")
	if !bytes.Equal(readFile(t, filepath.Join(dir, "uki")), readFile(t, b.uki())) {
		t.Error("the UKI on the ESP is not the one beside the disk")
	}
	for _, name := range []string{"db.pem", "KEK.pem"} {
		writeFile(t, dir, name, readFile(t, filepath.Join(b.keys, name)))
	}
	for _, image := range []string{"loader", "uki"} {
		mustTool(t, tools, dir, "sbverify", "--cert", "db.pem", image)
		if out, err := tool(tools, dir, "sbverify", "--cert", "KEK.pem", image); err == nil {
			t.Errorf("sbverify of the %s with another certificate succeeds:\n%s", image, out)
		}
	}
}

// TestImagePCR11: systemd-measure predicts the values of the manifest, for each
// profile.
func TestImagePCR11(t *testing.T) {
	tools, b, dir := sdktest.Open(t), openImage(t), t.TempDir()
	sections, err := uki.Parse(readFile(t, b.uki()))
	if err != nil {
		t.Fatal(err)
	}
	profiles := uki.Profiles(sections)
	if len(profiles) != 2 {
		t.Fatalf("the UKI has %d profiles, want 2", len(profiles))
	}
	for i, ours := range []release.Measured{b.manifest.UKI.Measured, b.manifest.UKI.Recovery} {
		var paths []string
		for _, p := range ours.PhasesPCR11 {
			paths = append(paths, p.Path)
		}
		theirs := systemdMeasure(t, tools, dir, profiles[i], paths)
		if !slices.Equal(theirs, ours.PhasesPCR11) {
			t.Errorf("profile %d: systemd-measure gives %v, the manifest has %v", i, theirs, ours.PhasesPCR11)
		}
		if last := theirs[len(theirs)-1].PCR11; last != ours.PCR11 {
			t.Errorf("profile %d: systemd-measure gives %s when ready, the manifest has %s", i, last, ours.PCR11)
		}
	}
}

// TestImageFileSystems: fsck of EROFS and FAT, and sgdisk, find nothing, and
// do find a changed byte.
func TestImageFileSystems(t *testing.T) {
	tools, b, dir := sdktest.Open(t), openImage(t), t.TempDir()
	core := writeFile(t, dir, "core", readFile(t, b.path(build.CoreName))[:b.manifest.Core.HashOffset])
	esp := b.partition(t, "esp", dir)
	disk := writeSparse(t, dir, b.path(build.DiskName))
	for _, test := range []struct {
		file   string
		args   []string
		broken int64  // a byte that this tool notices
		alarm  string // what it prints then, where its exit code stays 0
	}{
		{core, []string{"fsck.erofs", core}, 1024 + 40, "<E>"},
		{esp, []string{"fsck.vfat", "-n", "-V", esp}, 32*512 + 9, ""},
		// sgdisk says "No problems found" below the problems that it has found.
		{disk, []string{"sgdisk", "-v", disk}, 512 + 60, "CRC"},
	} {
		finds := func(out string, err error) bool {
			return err != nil || test.alarm != "" && strings.Contains(out, test.alarm)
		}
		if out, err := tool(tools, dir, test.args...); finds(out, err) {
			t.Errorf("%s = %v, it prints\n%s", test.args[0], err, out)
		}
		flipByte(t, test.file, test.broken)
		if after, err := tool(tools, dir, test.args...); !finds(after, err) {
			t.Errorf("%s of a changed image finds nothing:\n%s", test.args[0], after)
		}
	}
}

func flipByte(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x01
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// writeSparse makes a file as large as the disk with its partition tables
// alone: what sgdisk reads.
func writeSparse(t *testing.T, dir, disk string) string {
	t.Helper()
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "disk")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := out.Truncate(info.Size()); err != nil {
		t.Fatal(err)
	}
	const table = 1 << 20
	for _, at := range []int64{0, info.Size() - table} {
		if _, err := io.Copy(io.NewOffsetWriter(out, at), io.NewSectionReader(f, at, table)); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// TestImagePartitions: sgdisk and mtools see the partitions and files that are
// meant.
func TestImagePartitions(t *testing.T) {
	tools, b, dir := sdktest.Open(t), openImage(t), t.TempDir()
	for i, want := range []struct{ label, kind string }{
		{"esp", gpt.ESP.String()}, {"core-a", gpt.Core.String()}, {"core-b", gpt.Core.String()},
	} {
		out := b.mustLook(t, tools, "sgdisk", "-i", strconv.Itoa(i+1), build.DiskName)
		if !strings.Contains(out, "Partition name: '"+want.label+"'") || !strings.Contains(out, "Partition GUID code: "+strings.ToUpper(want.kind)) {
			t.Errorf("sgdisk -i %d prints\n%s\nwant %s of type %s", i+1, out, want.label, want.kind)
		}
	}
	esp := b.partition(t, "esp", dir)
	files := strings.Fields(mustTool(t, tools, dir, "mdir", "-/", "-b", "-i", esp, "::/"))
	want := []string{
		"::/EFI/BOOT/BOOTX64.EFI", "::/EFI/Linux/cloison_" + b.manifest.Version + "+3.efi",
		"::/loader/keys/auto/KEK.auth", "::/loader/keys/auto/PK.auth", "::/loader/keys/auto/db.auth", "::/loader/loader.conf",
	}
	files = slices.DeleteFunc(files, func(name string) bool { return strings.HasSuffix(name, "/") })
	slices.Sort(files)
	if !slices.Equal(files, want) {
		t.Errorf("mdir shows %q, want %q", files, want)
	}
	slot := readFile(t, b.partition(t, "core-a", dir))
	if sum := hexSHA256(slot[:b.manifest.Core.Size]); sum != b.manifest.Core.SHA256 {
		t.Errorf("sha256 of slot a = %s, want %s", sum, b.manifest.Core.SHA256)
	}
	super, err := verity.ParseSuperblock(slot[b.manifest.Core.HashOffset:][:verity.BlockSize])
	if err != nil || hex.EncodeToString(super.Salt[:]) != b.manifest.Core.Salt {
		t.Errorf("salt of slot a = %x, %v, want %s", super.Salt, err, b.manifest.Core.Salt)
	}
}
