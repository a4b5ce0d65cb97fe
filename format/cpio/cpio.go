// Package cpio writes and reads the archive that the kernel unpacks as its
// initramfs: cpio in the "newc" form. It needs nothing.
//
// Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
package cpio

import (
	"bytes"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// File is one entry. Its parents must be entries too.
type File struct {
	Name string // path without a leading /
	Mode uint32 // type and permissions, as in stat(2)
	Data []byte
}

// Types of an entry, as in stat(2).
const (
	Directory = 0o040000
	Regular   = 0o100000
)

// Archive returns the archive of the files, sorted by name, all owned by
// root and from the same time (seconds since 1970): the same files always
// give the same bytes.
func Archive(files []File, time int64) ([]byte, error) {
	files = slices.SortedFunc(slices.Values(files), func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	var archive bytes.Buffer
	for i, f := range files {
		parent, _, nested := cutLast(f.Name)
		switch {
		case !fs.ValidPath(f.Name) || f.Name == "." || f.Name == trailer || strings.Contains(f.Name, "\x00"):
			return nil, fmt.Errorf("cannot archive %q: not a relative path in its shortest form", f.Name)
		case i > 0 && files[i-1].Name == f.Name:
			return nil, fmt.Errorf("cannot archive %q twice", f.Name)
		case nested && !slices.ContainsFunc(files, func(p File) bool { return p.Name == parent && p.Mode&Directory != 0 }):
			return nil, fmt.Errorf("cannot archive %q without its folder", f.Name)
		}
		entry(&archive, uint32(i+1), f, time)
	}
	entry(&archive, 0, File{Name: trailer}, 0)
	return archive.Bytes(), nil
}

func cutLast(path string) (before, after string, found bool) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path, false
	}
	return path[:i], path[i+1:], true
}

func entry(archive *bytes.Buffer, inode uint32, f File, time int64) {
	links := uint32(1)
	if f.Mode&Directory != 0 {
		links = 2
	}
	// magic ino mode uid gid nlink mtime filesize major minor rmajor rminor namesize check
	fmt.Fprintf(archive, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		inode, f.Mode, 0, 0, links, uint32(time), len(f.Data), 0, 0, 0, 0, len(f.Name)+1, 0)
	archive.WriteString(f.Name + "\x00")
	pad(archive)
	archive.Write(f.Data)
	pad(archive)
}

// pad aligns to four bytes.
func pad(archive *bytes.Buffer) {
	archive.Write(make([]byte, -archive.Len()&3))
}
