package verify

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/erofs/go-erofs"

	"cloison/format/cmdline"
	"cloison/format/fec"
	"cloison/format/gpt"
	"cloison/format/verity"
	"cloison/host/build"
)

// core checks the slot that a signed command line names.
func (v *verifier) core(name string, core cmdline.Core, disk io.ReaderAt, partitions map[string]gpt.Partition) {
	size := core.FECOffset + fec.ParitySize(verity.CoveredBlocks(core.DataBlocks), int(core.FECRoots))
	label, err := findSlot(core, size, disk, partitions)
	if err == nil && v.manifest != nil {
		err = v.sameImage(size, disk, partitions, label)
	}
	v.record(Slot, name, err, "root hash of partition %s", label)
	if _, there := partitions["swap"]; core.Swap && !there {
		v.record(Partitions, name, errors.New("its command line wants a partition swap: there is none"), "")
	}
	if label == "" {
		for _, check := range []string{VerityTree, FEC, FileSystem} {
			v.record(check, name, errNotReached(Slot), "")
		}
		return
	}
	subject, start := "partition "+label, int64(partitions[label].Start)
	image := io.NewSectionReader(disk, start, int64(size))
	hashes := io.NewSectionReader(image, int64(core.HashOffset), int64(core.FECOffset-core.HashOffset))
	err = verity.Verify(image, hashes, core.DataBlocks, core.RootHash, core.Salt)
	v.record(VerityTree, subject, err, "%d blocks under the signed root hash", core.DataBlocks)
	parity := io.NewSectionReader(image, int64(core.FECOffset), int64(size-core.FECOffset))
	covered := verity.CoveredBlocks(core.DataBlocks)
	v.record(FEC, subject, fec.Verify(verity.Covered(image, hashes, core.DataBlocks), covered, parity, int(core.FECRoots)),
		"%d roots over %d blocks", core.FECRoots, covered)
	v.fileSystem(subject, io.NewSectionReader(image, 0, int64(core.HashOffset)))
}

// findSlot returns the label of the slot whose tree has the root hash, as
// /init finds it.
func findSlot(core cmdline.Core, size uint64, disk io.ReaderAt, partitions map[string]gpt.Partition) (string, error) {
	for _, label := range []string{"core-a", "core-b"} {
		p := partitions[label]
		if size > p.Size {
			continue
		}
		top := make([]byte, verity.BlockSize)
		if _, err := disk.ReadAt(top, int64(p.Start+verity.TopBlockOffset(core.DataBlocks, core.HashOffset))); err != nil {
			return "", err
		}
		if verity.MatchesRoot(top, core.RootHash, core.Salt) {
			return label, nil
		}
	}
	return "", fmt.Errorf("no slot has the root hash %x", core.RootHash)
}

// sameImage compares slot a, whole, with core.img.
func (v *verifier) sameImage(size uint64, disk io.ReaderAt, partitions map[string]gpt.Partition, label string) error {
	if label != "core-a" {
		return fmt.Errorf("the core is in partition %s, want core-a", label)
	}
	f, err := os.Open(filepath.Join(v.folder, build.CoreName))
	if err != nil {
		return err
	}
	defer f.Close() // only read from: nothing to lose
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if uint64(info.Size()) != size {
		return fmt.Errorf("%s has %d bytes, the command line describes %d", build.CoreName, info.Size(), size)
	}
	p := partitions[label]
	slot := io.NewSectionReader(disk, int64(p.Start), int64(p.Size))
	const chunk = 1 << 20
	ours, theirs := make([]byte, chunk), make([]byte, chunk)
	for at := int64(0); at < int64(p.Size); at += chunk {
		n, err := slot.ReadAt(ours, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		clear(theirs) // behind the image there is nothing
		if _, err := f.ReadAt(theirs[:n], at); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if !bytes.Equal(ours[:n], theirs[:n]) {
			return fmt.Errorf("it differs from %s between bytes %d and %d", build.CoreName, at, at+int64(n))
		}
	}
	return nil
}

// problems collects what is wrong under one check.
type problems []string

func (p *problems) add(format string, args ...any) { *p = append(*p, fmt.Sprintf(format, args...)) }

// err names the first few.
func (p problems) err() error {
	const shown = 5
	switch {
	case len(p) == 0:
		return nil
	case len(p) > shown:
		return fmt.Errorf("%s, and %d more", join(p[:shown]), len(p)-shown)
	}
	return errors.New(join(p))
}

// fileSystem walks the core.
func (v *verifier) fileSystem(subject string, image io.ReaderAt) {
	root, err := erofs.Open(image)
	if err != nil {
		v.record(FileSystem, subject, err, "")
		return
	}
	var special, setID, writable, owner, attributes problems
	t := newTree("core")
	t.storage = true
	v.services(root, t)
	entries := 0
	err = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		entries++
		info, err := d.Info()
		if err != nil {
			return err
		}
		// Not info.Mode(): go-erofs leaves setuid out of it, and takes the type
		// from the folder, where the kernel takes it from the inode.
		inode, ok := info.Sys().(*erofs.Stat)
		if !ok {
			return fmt.Errorf("internal error: /%s has no inode", name)
		}
		mode := inode.Mode
		kind := mode.Type()
		if kind != d.Type() {
			return fmt.Errorf("/%s: its folder says %s, its inode %s", name, d.Type(), mode)
		}
		if kind != 0 && kind != fs.ModeDir && kind != fs.ModeSymlink {
			special.add("/%s is %s", name, mode)
		}
		if mode&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
			setID.add("/%s is %s", name, mode)
		}
		// A symbolic link has no mode of its own.
		if kind != fs.ModeSymlink && mode&0o022 != 0 {
			writable.add("/%s is %s", name, mode)
		}
		if inode.UID != 0 || inode.GID != 0 {
			owner.add("/%s belongs to %d:%d", name, inode.UID, inode.GID)
		}
		for key := range inode.Xattrs {
			attributes.add("/%s has %s", name, key)
		}
		if kind != 0 {
			t.name(name)
			return nil
		}
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		defer f.Close() // only read from: nothing to lose
		data, err := io.ReadAll(f)
		if err != nil {
			return err
		}
		t.file(name, mode&0o111 != 0, bytes.NewReader(data))
		return nil
	})
	v.record(FileSystem, subject, err, "EROFS, %d files and folders", entries)
	for _, check := range []struct {
		name   string
		wrong  problems
		detail string
	}{
		{FileTypes, special, "regular files, folders and symbolic links"},
		{SetID, setID, ""},
		{Writable, writable, "neither by group nor by others"},
		{Owner, owner, "0:0"},
		{Attributes, attributes, "no file capabilities or other extended attributes"},
	} {
		wrong := check.wrong.err()
		if err != nil && wrong == nil {
			wrong = errNotReached(FileSystem)
		}
		v.record(check.name, "core", wrong, "%s", check.detail)
	}
	t.unread = err
	t.record(v)
}
