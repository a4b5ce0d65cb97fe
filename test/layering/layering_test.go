package layering

import (
	"encoding/json"
	"errors"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cloison/host/tree"
)

var update = flag.Bool("update", false, "write the golden lists of what target programs link")

const module = "cloison/"

// listed is what go list says of a package.
type listed struct {
	ImportPath   string
	Name         string
	Dir          string
	Standard     bool
	GoFiles      []string
	CgoFiles     []string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// list runs go list as the target's build does: with cgo for the start-up
// code, and without any package that would use it for itself.
func list(t *testing.T, args ...string) []listed {
	t.Helper()
	root, err := tree.Find(".")
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("go", append([]string{"list", "-json", "-tags", "netgo,osusergo"}, args...)...)
	c.Dir, c.Env = root, append(os.Environ(), "CGO_ENABLED=1", "GOOS=linux", "GOARCH=amd64")
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []listed
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// floors may import downwards, and rooms of their own floor.
var floors = map[string][]string{
	"cmd":    {"host", "target", "linux", "format"},
	"host":   {"host", "linux", "format"},
	"target": {"target", "linux", "format"},
	"linux":  {"linux", "format"},
	"format": {"format"},
	"test":   {"test", "host", "target", "linux", "format"},
	"bench":  {"bench", "test", "host", "target", "linux", "format"},
}

func floor(importPath string) string {
	name, own := strings.CutPrefix(importPath, module)
	if !own {
		return ""
	}
	name, _, _ = strings.Cut(name, "/")
	return name
}

func TestFloors(t *testing.T) {
	for _, p := range list(t, "./...") {
		own := floor(p.ImportPath)
		allowed, known := floors[own]
		if !known {
			t.Errorf("%s stands on no floor: a newcomer could not find it", p.ImportPath)
		}
		for _, i := range p.Imports {
			if f := floor(i); f != "" && !slices.Contains(allowed, f) {
				t.Errorf("%s imports %s: data flows cmd → host or target → linux → format, never upwards, and the workshop and the machine do not know each other", p.ImportPath, i)
			}
		}
		if own == "cmd" && reaches(p.Imports, "host") && reaches(p.Imports, "target") {
			t.Errorf("%s imports both host and target: a program is of the workshop or of the machine", p.ImportPath)
		}
	}
}

func reaches(imports []string, name string) bool {
	return slices.ContainsFunc(imports, func(i string) bool { return floor(i) == name })
}

func TestFormatIsPure(t *testing.T) {
	for _, p := range list(t, "./format/...") {
		for _, i := range p.Imports {
			if i == "os" || i == "net" || strings.HasPrefix(i, "os/") || strings.HasPrefix(i, "net/") || i == "syscall" {
				t.Errorf("%s imports %s: format takes bytes and gives values, so that it can be fuzzed and used anywhere", p.ImportPath, i)
			}
		}
		eachFile(t, p, func(name string, file *ast.File) {
			ast.Inspect(file, func(n ast.Node) bool {
				selector, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := selector.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "NewTimer", "NewTicker"}, selector.Sel.Name) {
					t.Errorf("%s reads the clock with time.%s: times are arguments in format", name, selector.Sel.Name)
				}
				return true
			})
		})
	}
}

func TestOnlyLinuxTouchesTheKernel(t *testing.T) {
	for _, p := range list(t, "./...") {
		for _, i := range p.Imports {
			// An attacker does not go through our wrappers; its package is in no
			// image but that of its test.
			attacker := p.ImportPath == module+"test/attack/probe"
			if (i == "golang.org/x/sys/unix" || i == "unsafe") && floor(p.ImportPath) != "linux" && !attacker {
				t.Errorf("%s imports %s: raw kernel interfaces stand behind linux, where they are reviewed", p.ImportPath, i)
			}
		}
	}
}

func TestTestHelpersStayInTests(t *testing.T) {
	packages := list(t, "./...")
	for _, p := range packages {
		for _, i := range p.Imports {
			if floor(i) != "" && strings.HasSuffix(i, "test") && !strings.HasSuffix(p.ImportPath, "test") {
				t.Errorf("%s imports %s outside its tests: a test helper must not end up in a program", p.ImportPath, i)
			}
		}
		if dir, name := path.Split(p.ImportPath); floor(p.ImportPath) != "test" && strings.HasSuffix(name, "test") {
			if want := path.Base(dir) + "test"; name != want {
				t.Errorf("%s should be called %s: a test helper of x lives in x/xtest", p.ImportPath, want)
			}
		}
	}
}

func TestRoomsHaveNames(t *testing.T) {
	for _, p := range list(t, "./...") {
		for part := range strings.SplitSeq(p.ImportPath, "/") {
			if slices.Contains([]string{"util", "utils", "common", "helper", "helpers", "misc", "pkg", "internal", "lib"}, part) {
				t.Errorf("%s: %s says nothing of what is inside", p.ImportPath, part)
			}
		}
	}
}

func TestOnePackageDoc(t *testing.T) {
	for _, p := range list(t, "./...") {
		docs := 0
		eachFile(t, p, func(_ string, file *ast.File) {
			if file.Doc != nil {
				docs++
			}
		})
		if len(p.GoFiles)+len(p.CgoFiles) > 0 && docs != 1 {
			t.Errorf("%s has %d package docs, want exactly one", p.ImportPath, docs)
		}
	}
}

func TestMainIsADoor(t *testing.T) {
	const most = 15
	for _, p := range list(t, "./...") {
		if p.Name != "main" {
			continue
		}
		eachFile(t, p, func(name string, file *ast.File) {
			for _, d := range file.Decls {
				f, ok := d.(*ast.FuncDecl)
				if !ok || f.Name.Name != "main" {
					continue
				}
				if lines := positions.Position(f.End()).Line - positions.Position(f.Pos()).Line - 1; lines > most {
					t.Errorf("%s: main has %d lines, at most %d: a program is a function that a test can call", name, lines, most)
				}
			}
		})
	}
}

var positions = token.NewFileSet()

func eachFile(t *testing.T, p listed, see func(name string, file *ast.File)) {
	t.Helper()
	for _, name := range slices.Concat(p.GoFiles, p.CgoFiles) {
		file, err := parser.ParseFile(positions, filepath.Join(p.Dir, name), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		see(p.ImportPath+"/"+name, file)
	}
}

// targetPrograms are the folders of cmd whose programs run on the machine.
func targetPrograms(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, p := range list(t, "./cmd/...") {
		if p.ImportPath != module+"cmd/cloison" {
			names = append(names, path.Base(p.ImportPath))
		}
	}
	if !slices.Contains(names, "init") || !slices.Contains(names, "initramfs") {
		t.Fatalf("target programs are %q: init and initramfs are missing", names)
	}
	return names
}

// privileged programs run with rights that a parser of network data must not
// have beside it.
var privileged = []string{"initramfs", "init", "launch"}

func TestWhatTargetProgramsLink(t *testing.T) {
	for _, name := range targetPrograms(t) {
		var links []string
		for _, p := range list(t, "-deps", "./cmd/"+name) {
			links = append(links, p.ImportPath)
			if slices.Contains(privileged, name) && (p.ImportPath == "net/http" || p.ImportPath == "crypto/tls") {
				t.Errorf("cmd/%s links %s: a privileged program does not speak to networks", name, p.ImportPath)
			}
			if len(p.CgoFiles) > 0 && p.ImportPath != "runtime/cgo" {
				t.Errorf("cmd/%s links the cgo package %s: target programs have no C of their own", name, p.ImportPath)
			}
			if floor(p.ImportPath) == "host" {
				t.Errorf("cmd/%s links %s: the workshop does not belong on the machine", name, p.ImportPath)
			}
		}
		slices.Sort(links)
		golden := filepath.Join("testdata/links", name+".txt")
		got := strings.Join(links, "\n") + "\n"
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("cmd/%s links other packages than testdata/links says (go test ./test/layering -update, and say why in the commit), -want +got:\n%s", name, diff)
		}
	}
}
