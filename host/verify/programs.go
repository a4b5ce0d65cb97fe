package verify

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"

	"cloison/format/elfhardening"
	"cloison/host/core"
)

// interpreters and toolchain are names of programs that must not be there,
// with or without a version behind them. Names are only half of it: what they
// would be made of is looked for too, by content.
var (
	interpreters = named(`sh|ash|bash|dash|zsh|ksh|mksh|csh|tcsh|fish|rbash|busybox|toybox|` +
		`python|pypy|perl|lua|luajit|tclsh|wish|ruby|irb|node|nodejs|deno|bun|qjs|php|awk|gawk|mawk|nawk|sed|ed|vi|vim|` +
		`guile|scheme|sbcl|java|jshell|mono|pwsh|expect|m4|bc|dc|gdb|gdbserver|strace|ld\.so|ld-linux.*|ld-musl.*`)
	toolchain = named(`gcc|cc|c\+\+|g\+\+|cpp|clang|clang\+\+|tcc|ld|lld|ld\.lld|gold|as|llc|lli|go|gofmt|rustc|cargo|ghc|ocaml|make|cmake|ninja|` +
		`dpkg|apt|apt-get|apt-cache|aptitude|rpm|dnf|yum|zypper|apk|opkg|pacman|snap|flatpak|pip|npm|yarn|gem`)
)

func named(alternatives string) *regexp.Regexp {
	return regexp.MustCompile(`^(` + alternatives + `)(-?[0-9][0-9.]*)?(\.exe)?$`)
}

// tree collects what is wrong with the files of one tree.
type tree struct {
	called                                string
	interpreters, toolchain, notELF, weak problems
	programs                              int
	storage                               bool            // it may have the storage tools
	tools                                 map[string]bool // C programs of services and their libraries, which have a dynamic linker
	unread                                error           // the tree was not read to its end
}

func newTree(called string) *tree { return &tree{called: called, tools: map[string]bool{}} }

// The C programs that a core may have, and where their libraries are.
var (
	toolPrograms = []string{"usr/sbin/cryptsetup", "usr/sbin/mke2fs"}
	toolLinker   = "lib64/ld-linux-x86-64.so.2"
	toolLibrary  = regexp.MustCompile(`^usr/lib/x86_64-linux-gnu/lib[^/]+\.so(\.[0-9.]+)?$`)
)

// isTool reports whether the file is one of Debian's that the core may have: the
// storage tools in their one place, and what services declare.
func (t *tree) isTool(name string) bool {
	if t.tools[name] {
		return true
	}
	name, below := strings.CutPrefix(name, core.ToolsFolder+"/")
	return below && t.storage && (slices.Contains(toolPrograms, name) || name == toolLinker || toolLibrary.MatchString(name))
}

// name looks at the name of anything: links count.
func (t *tree) name(name string) {
	if t.isTool(name) {
		return
	}
	base := path.Base(name)
	if interpreters.MatchString(base) {
		t.interpreters.add("/%s, by its name", name)
	}
	if toolchain.MatchString(base) {
		t.toolchain.add("/%s, by its name", name)
	}
}

// file looks at the name and the content of a regular file.
func (t *tree) file(name string, executable bool, r io.ReaderAt) {
	t.name(name)
	start := make([]byte, 4)
	n, err := r.ReadAt(start, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		t.notELF.add("/%s: %v", name, err)
		return
	}
	start = start[:n]
	switch {
	case bytes.HasPrefix(start, []byte("#!")):
		t.interpreters.add("/%s wants an interpreter: it begins with #!", name)
	case string(start) == elfhardening.Magic:
		t.program(name, r)
		return
	}
	if executable {
		t.notELF.add("/%s", name)
	}
}

func (t *tree) program(name string, r io.ReaderAt) {
	t.programs++
	p, err := elfhardening.Inspect(r)
	if err != nil {
		t.weak.add("/%s: %v", name, err)
		return
	}
	if t.isTool(name) {
		// Debian's programs and libraries: a library has no flag of a PIE, and
		// some bind late.
		p.Weaknesses = slices.DeleteFunc(p.Weaknesses, func(w elfhardening.Weakness) bool {
			return w == elfhardening.NotPIE || w == elfhardening.LazyBinding
		})
		if p.Interpreter == "/"+toolLinker {
			p.Interpreter = ""
		}
	}
	if p.Interpreter != "" {
		t.interpreters.add("/%s wants the interpreter %s", name, p.Interpreter)
	}
	if len(p.Weaknesses) > 0 {
		var list []string
		for _, w := range p.Weaknesses {
			list = append(list, string(w))
		}
		t.weak.add("/%s: %s", name, strings.Join(list, " + "))
	}
}

// record adds the four checks of a tree.
func (t *tree) record(v *verifier) {
	if t.programs == 0 {
		t.weak.add("there is no program at all")
	}
	for _, check := range []struct {
		name   string
		wrong  problems
		detail string
	}{
		{NoInterpreter, t.interpreters, "neither by name nor by content"},
		{NoToolchain, t.toolchain, ""},
		{Executables, t.notELF, ""},
		{Hardening, t.weak, fmt.Sprintf("%d programs: PIE, full RELRO, no executable stack, no text relocations", t.programs)},
	} {
		wrong := check.wrong.err()
		if t.unread != nil && wrong == nil {
			wrong = errNotReached(FileSystem)
		}
		v.record(check.name, t.called, wrong, "%s", check.detail)
	}
}

func join(p []string) string { return strings.Join(p, "; ") }
