package core

import (
	"path"

	"cloison/host/closure"
	"cloison/host/sdk"
)

// ToolsFolder is the root directory of the C programs that make and open the
// state volume: below it they stand where they stand in the SDK. The initramfs
// runs them, no service can see them.
const ToolsFolder = "usr/lib/cloison/storage"

// tools has no shell in it, and no plug-in of theirs.
var tools = []string{"usr/sbin/cryptsetup", "usr/sbin/mke2fs"}

// Tools returns the two programs, the dynamic linker and their libraries.
func Tools(s *sdk.SDK) ([]File, error) {
	found, err := closure.Of(s.Root, tools...)
	if err != nil {
		return nil, err
	}
	var files []File
	for _, f := range found {
		files = append(files, File{Name: path.Join(ToolsFolder, f.Name), Mode: 0o555, From: f.Host})
	}
	return files, nil
}
