// Package core makes core.img, what a slot holds: an EROFS file system,
// uncompressed, then its dm-verity tree, then Reed-Solomon parity over both.
// It needs mkfs.erofs from the SDK.
//
// Source: mkfs.erofs(1); packages verity and fec.
package core

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"cloison/format/fec"
	"cloison/format/verity"
	"cloison/host/sdk"
)

// Roots is the number of parity bytes in a codeword of 255: any one block
// out of 253 that stand far apart can be lost.
const Roots = 2

// Image is a finished core.
type Image struct {
	Path       string
	Size       uint64 // bytes
	Tree       *verity.Tree
	HashOffset uint64 // bytes, of the verity superblock
	FECOffset  uint64 // bytes
}

// File is one file of the core.
type File struct {
	Name string      // path without a leading /
	Mode fs.FileMode // a folder has always 0755: the file system is read-only, and whoever builds it must be able to fill and delete it
	Data []byte      // of a regular file
	From string      // or the host path to copy it from
}

// Make builds the image of the files at out. work is an empty folder.
func Make(ctx context.Context, s *sdk.SDK, id Identity, files []File, work, out string) (*Image, error) {
	root := filepath.Join(work, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return nil, err
	}
	placed := map[origin]string{}
	for _, f := range files {
		if err := place(root, f, placed); err != nil {
			return nil, fmt.Errorf("cannot place /%s: %w", f.Name, err)
		}
	}
	if err := openFolders(root); err != nil {
		return nil, err
	}
	uuid := id.UUID("erofs")
	err := s.Run(ctx, sdk.Step{
		Args: []string{
			"mkfs.erofs", "--quiet", "-T", strconv.FormatInt(id.Epoch, 10), "--all-root", "--all-time", "-b", strconv.Itoa(verity.BlockSize),
			"-U", fmt.Sprintf("%x-%x-%x-%x-%x", uuid[:4], uuid[4:6], uuid[6:8], uuid[8:10], uuid[10:]),
			"-x", "-1", "/out/core", "/root",
		},
		Inputs:  []sdk.Bind{{Host: root, Inside: "/root"}},
		Outputs: []sdk.Bind{{Host: work, Inside: "/out"}},
	})
	if err != nil {
		return nil, err
	}
	return protect(filepath.Join(work, "core"), out, id)
}

// place puts one file below root. What is copied from the same file twice is one
// file with two names: its blocks are in the image once. placed has the first.
func place(root string, f File, placed map[origin]string) error {
	at := filepath.Join(root, filepath.FromSlash(path.Clean("/"+f.Name)))
	if f.Mode.IsDir() {
		return os.MkdirAll(at, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	data := f.Data
	if f.From != "" {
		first, ok := placed[origin{f.From, f.Mode}]
		if ok {
			return os.Link(first, at)
		}
		placed[origin{f.From, f.Mode}] = at
		var err error
		if data, err = os.ReadFile(f.From); err != nil {
			return err
		}
	}
	return errors.Join(os.WriteFile(at, data, 0o600), os.Chmod(at, f.Mode.Perm()))
}

// origin is what makes two files of the core the same.
type origin struct {
	from string
	mode fs.FileMode
}

// openFolders gives the folders their mode, whatever the umask made of it.
func openFolders(root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return os.Chmod(path, 0o755)
	})
}

// protect appends the verity tree and the parity to a file system.
func protect(filesystem, out string, id Identity) (*Image, error) {
	if err := os.Rename(filesystem, out); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(out, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	blocks := (uint64(info.Size()) + verity.BlockSize - 1) / verity.BlockSize
	image := &Image{Path: out, HashOffset: blocks * verity.BlockSize}
	if err := f.Truncate(int64(image.HashOffset)); err != nil {
		return nil, err
	}
	if image.Tree, err = verity.Build(f, blocks, id.salt(), id.UUID("verity")); err != nil {
		return nil, err
	}
	if _, err := f.WriteAt(image.Tree.Hashes, int64(image.HashOffset)); err != nil {
		return nil, err
	}
	image.FECOffset = image.HashOffset + uint64(len(image.Tree.Hashes))
	hashes := io.NewSectionReader(f, int64(image.HashOffset), int64(len(image.Tree.Hashes)))
	parity, err := fec.Encode(verity.Covered(f, hashes, blocks), verity.CoveredBlocks(blocks), Roots)
	if err != nil {
		return nil, err
	}
	if _, err := f.WriteAt(parity, int64(image.FECOffset)); err != nil {
		return nil, err
	}
	image.Size = image.FECOffset + uint64(len(parity))
	return image, errors.Join(f.Sync(), f.Close())
}
