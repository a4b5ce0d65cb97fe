// Package closure finds the files that C programs of the SDK need to run, and
// nothing else: the programs, their ELF interpreter, and the libraries that
// they name, those that these name, and so on. Plug-ins that a program would
// look for while it runs are left out on purpose.
//
// Source: System V ABI, Edition 4.1, chapter 5 (PT_INTERP, DT_NEEDED); ld.so(8).
package closure

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"cloison/format/elfhardening"
)

// File is one file of a closure.
type File struct {
	Name string // where it must stand, a path relative to the root: usr/sbin/cryptsetup
	Host string // where it is on this host, no symbolic link
}

// libraries is where the dynamic linker of Debian on x86-64 looks by itself.
var libraries = []string{"usr/lib/x86_64-linux-gnu", "usr/lib"}

// Of returns the closure of the programs, paths relative to root (usr/sbin/x),
// sorted by name.
func Of(root string, programs ...string) ([]File, error) {
	c := closure{root: root, files: map[string]string{}}
	for _, p := range programs {
		if err := c.add(p); err != nil {
			return nil, fmt.Errorf("cannot find what %s needs: %w", p, err)
		}
	}
	var files []File
	for name, host := range c.files {
		files = append(files, File{name, host})
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return files, nil
}

type closure struct {
	root  string
	files map[string]string
}

// add adds the file name and all that it needs.
func (c *closure) add(name string) error {
	if _, ok := c.files[name]; ok {
		return nil
	}
	host, err := c.resolve(name)
	if err != nil {
		return err
	}
	c.files[name] = host
	interpreter, needed, err := read(host)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if interpreter != "" {
		if err := c.add(strings.TrimPrefix(interpreter, "/")); err != nil {
			return err
		}
	}
	for _, soname := range needed {
		library, err := c.find(soname)
		if err != nil {
			return fmt.Errorf("%s needs %s: %w", name, soname, err)
		}
		if library == "" {
			continue
		}
		if err := c.add(library); err != nil {
			return err
		}
	}
	return nil
}

// find returns where a library stands, or "" for the dynamic linker itself,
// which is in memory before anybody asks for it by name.
func (c *closure) find(soname string) (string, error) {
	if strings.ContainsRune(soname, '/') {
		return "", errors.New("is a path")
	}
	for name := range c.files {
		if path.Base(name) == soname && path.Dir(name) == "lib64" {
			return "", nil
		}
	}
	for _, dir := range libraries {
		name := path.Join(dir, soname)
		_, err := c.resolve(name)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return name, err
		}
	}
	return "", fs.ErrNotExist
}

// resolve follows symbolic links, which must not lead out of the root. In the
// SDK /lib64 is usr/lib64.
func (c *closure) resolve(name string) (string, error) {
	at := name
	if strings.HasPrefix(at, "lib64/") {
		at = "usr/" + at
	}
	root, err := filepath.EvalSymlinks(c.root)
	if err != nil {
		return "", err
	}
	host, err := filepath.EvalSymlinks(filepath.Join(root, at))
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(host, root+string(filepath.Separator)) {
		return "", fmt.Errorf("%s leads out of the SDK", name)
	}
	return host, nil
}

// read returns what the dynamic linker would read. A library path of the
// program's own is refused: it would be searched on the machine, too.
func read(host string) (interpreter string, needed []string, err error) {
	f, err := os.Open(host)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	program, err := elfhardening.Inspect(f)
	if err != nil {
		return "", nil, err
	}
	if slices.Contains(program.Weaknesses, elfhardening.OwnLibraryPath) {
		return "", nil, errors.New(string(elfhardening.OwnLibraryPath))
	}
	e, err := elf.NewFile(f)
	if err != nil {
		return "", nil, err
	}
	needed, err = e.ImportedLibraries()
	return program.Interpreter, needed, err
}
