package bootimage

import (
	"bytes"
	"os"

	"github.com/klauspost/compress/zstd"

	"cloison/format/cpio"
)

// folders is what /init mounts on, and where it has the core's tools appear.
// The kernel unpacks as root, so nothing else is made.
var folders = []string{"dev", "lib64", "proc", "run", "sys", "sysroot", "usr"}

// Initramfs returns the compressed archive: init is the program, the others are
// files at the root.
func Initramfs(init string, files map[string][]byte, epoch int64) ([]byte, error) {
	program, err := os.ReadFile(init)
	if err != nil {
		return nil, err
	}
	entries := []cpio.File{{Name: "init", Mode: cpio.Regular | 0o555, Data: program}}
	for name, data := range files {
		entries = append(entries, cpio.File{Name: name, Mode: cpio.Regular | 0o444, Data: data})
	}
	for _, dir := range folders {
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
