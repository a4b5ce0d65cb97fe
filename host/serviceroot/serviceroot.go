// Package serviceroot lists what the core has of a service: its sealed
// declaration, and its root, which holds its program, what that needs, and what
// the launcher mounts on. It needs the programs that were compiled, and for
// those of the SDK its tree.
//
// Source: packages service and closure.
package serviceroot

import (
	"fmt"
	"io/fs"
	"path"
	"strings"

	"cloison/format/service"
	"cloison/host/closure"
	"cloison/host/core"
)

// Modes of what is in a root. A program can be executed and not read: so the
// kernel keeps the process undumpable (execve(2), ptrace(2)).
const (
	programMode = 0o511
	linkerMode  = 0o555 // the kernel executes it for the program
	fileMode    = 0o444
)

// Files returns the files of one service. compiled has the programs of ours by
// their names; sdk is the SDK's root folder.
func Files(s *service.Service, compiled map[string]string, sdk string) ([]core.File, error) {
	files, err := of(s, compiled, sdk)
	if err != nil {
		return nil, fmt.Errorf("cannot make the root of service %s: %w", s.Name, err)
	}
	return files, nil
}

func of(s *service.Service, compiled map[string]string, sdk string) ([]core.File, error) {
	sealed, err := s.Print()
	if err != nil {
		return nil, err
	}
	root := strings.TrimPrefix(service.RootPath(s.Name), "/")
	files := []core.File{
		{Name: strings.TrimPrefix(service.SealedPath(s.Name), "/"), Mode: fileMode, Data: []byte(sealed)},
		{Name: root, Mode: fs.ModeDir},
	}
	folders, empty := s.Places()
	for _, p := range folders {
		files = append(files, core.File{Name: root + p, Mode: fs.ModeDir})
	}
	for _, p := range empty {
		files = append(files, core.File{Name: root + p, Mode: fileMode})
	}
	if name, ours := s.Ours(); ours {
		from, ok := compiled[name]
		if !ok {
			return nil, fmt.Errorf("internal error: %s was not compiled", name)
		}
		return append(files, core.File{Name: root + s.Program, Mode: programMode, From: from}), nil
	}
	var wanted []string
	for _, p := range append([]string{s.Program}, s.Files...) {
		wanted = append(wanted, strings.TrimPrefix(p, "/"))
	}
	needed, err := closure.Of(sdk, wanted...)
	if err != nil {
		return nil, err
	}
	for _, f := range needed {
		mode := fs.FileMode(fileMode)
		switch {
		case "/"+f.Name == s.Program:
			mode = programMode
		case path.Dir(f.Name) == "lib64":
			mode = linkerMode
		}
		files = append(files, core.File{Name: root + "/" + f.Name, Mode: mode, From: f.Host})
	}
	return files, nil
}
