package verify

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/erofs/go-erofs"

	"cloison/format/elfhardening"
	"cloison/format/network"
	"cloison/format/service"
)

// libraryFolders is where the dynamic linker looks inside a service's root.
var libraryFolders = []string{"usr/lib/x86_64-linux-gnu", "usr/lib"}

// services holds the declarations in the core against each other, and each root
// against its declaration: what is needed is there, and nothing else. It tells t
// the files that are C programs and libraries of a service.
func (v *verifier) services(core fs.FS, t *tree) {
	names, err := v.checkServices(core, t)
	v.record(Services, "core", err, "%s: declarations, and roots with what they need and nothing else", strings.Join(names, ", "))
}

func (v *verifier) checkServices(core fs.FS, t *tree) (names []string, err error) {
	folder := strings.TrimPrefix(service.Folder, "/")
	entries, err := fs.ReadDir(core, folder)
	if err != nil {
		return nil, err
	}
	var all []*service.Service
	var wrong problems
	for _, e := range entries {
		s, err := readService(core, e.Name())
		if err != nil {
			wrong.add("/%s/%s: %v", folder, e.Name(), err)
			continue
		}
		all, names = append(all, s), append(names, s.Name)
		if err := checkRoot(core, s, t); err != nil {
			wrong.add("service %s: %v", s.Name, err)
		}
	}
	if err := wrong.err(); err != nil {
		return nil, err
	}
	text, err := fs.ReadFile(core, strings.TrimPrefix(network.Path, "/"))
	if err != nil {
		return nil, err
	}
	networks, err := network.Parse(string(text))
	if err != nil {
		return nil, err
	}
	return names, errors.Join(service.CheckTogether(all), network.CheckServices(all, networks))
}

func readService(core fs.FS, name string) (*service.Service, error) {
	sealed := strings.TrimPrefix(service.SealedPath(name), "/")
	text, err := fs.ReadFile(core, sealed)
	if err != nil {
		return nil, err
	}
	s, err := service.Parse(string(text))
	if err != nil {
		return nil, err
	}
	if s.Name != name {
		return nil, fmt.Errorf("the declaration is of %s", s.Name)
	}
	beside, err := fs.ReadDir(core, path.Dir(sealed))
	if err == nil && len(beside) != 2 {
		err = errors.New("there is more than a declaration and a root")
	}
	return s, err
}

// checkRoot compares the root of a service with what its declaration needs.
func checkRoot(core fs.FS, s *service.Service, t *tree) error {
	root, err := fs.Sub(core, strings.TrimPrefix(service.RootPath(s.Name), "/"))
	if err != nil {
		return err
	}
	program := strings.TrimPrefix(s.Program, "/")
	_, ours := s.Ours()
	if base := path.Base(program); !ours && (interpreters.MatchString(base) || toolchain.MatchString(base)) {
		return fmt.Errorf("its program is %s", s.Program)
	}
	folders, empty := s.Places()
	wantFiles := map[string]bool{program: true}
	for _, f := range empty {
		wantFiles[f[1:]] = true
	}
	if !ours {
		for _, f := range append([]string{s.Program}, s.Files...) {
			if err := need(root, f[1:], wantFiles); err != nil {
				return err
			}
		}
		for f := range wantFiles {
			if !slices.Contains(empty, "/"+f) {
				t.tools[strings.TrimPrefix(service.RootPath(s.Name), "/")+"/"+f] = true
			}
		}
	}
	wantFolders := map[string]bool{".": true}
	for _, f := range folders {
		wantFolders[f[1:]] = true
	}
	for _, f := range slices.Concat(slices.Collect(maps.Keys(wantFiles)), slices.Collect(maps.Keys(wantFolders))) {
		for dir := path.Dir(f); dir != "."; dir = path.Dir(dir) {
			wantFolders[dir] = true
		}
	}
	found := 0
	err = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		found++
		switch {
		case d.IsDir() && wantFolders[name]:
		case d.Type() != 0 || !wantFiles[name]:
			return fmt.Errorf("nobody needs /%s in its root", name)
		case slices.Contains(empty, "/"+name) && info.Size() != 0:
			return fmt.Errorf("/%s stands where a socket is put, and is not empty", name)
		case name == program:
			if inode, ok := info.Sys().(*erofs.Stat); !ok || inode.Mode.Perm() != 0o511 {
				return fmt.Errorf("/%s is %s: one that can be read can be looked into while it runs", name, info.Mode())
			}
		}
		return nil
	})
	if err == nil && found != len(wantFiles)+len(wantFolders) {
		err = fmt.Errorf("its root has %d files and folders, it needs %d", found, len(wantFiles)+len(wantFolders))
	}
	return err
}

// need adds a program or a library, and what the dynamic linker would load for
// it.
func need(root fs.FS, name string, files map[string]bool) error {
	data, err := fs.ReadFile(root, name)
	if err != nil {
		return err
	}
	files[name] = true
	p, err := elfhardening.Inspect(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("/%s: %w", name, err)
	}
	if p.Interpreter != "" {
		files[p.Interpreter[1:]] = true
	}
	e, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("/%s: %w", name, err)
	}
	libraries, err := e.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("/%s: %w", name, err)
	}
	for _, l := range libraries {
		if l == path.Base(toolLinker) {
			continue
		}
		at := slices.IndexFunc(libraryFolders, func(dir string) bool {
			_, err := fs.Stat(root, dir+"/"+l)
			return err == nil
		})
		if at < 0 {
			return fmt.Errorf("/%s needs %s, which is not in the root", name, l)
		}
		if inside := libraryFolders[at] + "/" + l; !files[inside] {
			if err := need(root, inside, files); err != nil {
				return err
			}
		}
	}
	return nil
}
