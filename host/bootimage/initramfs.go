package bootimage

import (
	"bytes"
	"os"
	"path"

	"github.com/klauspost/compress/zstd"

	"cloison/format/cpio"
	"cloison/format/filelist"
	"cloison/host/closure"
	"cloison/host/sdk"
)

// tools are the C programs of the initramfs: they make and open the state
// volume. There is no shell among them, and no plug-in of theirs.
var tools = []string{"usr/sbin/cryptsetup", "usr/sbin/mke2fs"}

// Tools returns what the initramfs takes from the SDK: the two programs, the
// dynamic linker and their libraries.
func Tools(s *sdk.SDK) ([]closure.File, error) { return closure.Of(s.Root, tools...) }

// Initramfs returns the compressed archive: init is the program, the others are
// files at the root; tools stand where they stand in the SDK, and the file
// /tools lists them.
func Initramfs(init string, files map[string][]byte, tools []closure.File, epoch int64) ([]byte, error) {
	program, err := os.ReadFile(init)
	if err != nil {
		return nil, err
	}
	entries := []cpio.File{{Name: "init", Mode: cpio.Regular | 0o555, Data: program}}
	for name, data := range files {
		entries = append(entries, cpio.File{Name: name, Mode: cpio.Regular | 0o444, Data: data})
	}
	// What /init mounts on; the kernel unpacks as root, so nothing else is made.
	folders := map[string]bool{"dev": true, "proc": true, "run": true, "sys": true, "sysroot": true}
	var names []string
	for _, tool := range tools {
		data, err := os.ReadFile(tool.Host)
		if err != nil {
			return nil, err
		}
		entries = append(entries, cpio.File{Name: tool.Name, Mode: cpio.Regular | 0o555, Data: data})
		names = append(names, tool.Name)
		for dir := path.Dir(tool.Name); dir != "."; dir = path.Dir(dir) {
			folders[dir] = true
		}
	}
	list, err := filelist.Print(names)
	if err != nil {
		return nil, err
	}
	entries = append(entries, cpio.File{Name: "tools", Mode: cpio.Regular | 0o444, Data: []byte(list)})
	for dir := range folders {
		entries = append(entries, cpio.File{Name: dir, Mode: cpio.Directory | 0o555})
	}
	archive, err := cpio.Archive(entries, epoch)
	if err != nil {
		return nil, err
	}
	var compressed bytes.Buffer
	// The kernel's decompressor takes windows of 8 MiB at most. One thread:
	// the result must not depend on the number of cores.
	w, err := zstd.NewWriter(&compressed, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithWindowSize(8<<20), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(archive); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return compressed.Bytes(), nil
}
