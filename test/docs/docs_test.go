package docs

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cloison/host/tree"
)

// document is one Markdown file of the tree.
type document struct {
	name string // from the root of the tree
	text string
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := tree.Find(".")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// notSources are folders that hold what was built, or belongs to git.
var notSources = []string{".git", "bin", "out"}

// files calls see with each source file whose name ends as asked.
func files(t *testing.T, see func(name, text string), ends ...string) {
	t.Helper()
	top := root(t)
	err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(top, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if slices.Contains(notSources, name) {
				return filepath.SkipDir
			}
			return nil
		}
		if !slices.ContainsFunc(ends, func(end string) bool { return strings.HasSuffix(name, end) }) {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		see(name, string(text))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func documents(t *testing.T) []document {
	t.Helper()
	var list []document
	files(t, func(name, text string) { list = append(list, document{name, text}) }, ".md")
	if len(list) < 10 {
		t.Fatalf("%d documents are found: the test looks in the wrong place", len(list))
	}
	return list
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(t), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	fence   = regexp.MustCompile("(?ms)^```[^\n]*\n(.*?)^```")
	link    = regexp.MustCompile(`!?\[[^\]]*\]\(([^)\s]+)\)`)
	quoted  = regexp.MustCompile("`([^`\n]+)`")
	heading = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	scheme  = regexp.MustCompile(`^[a-z]+:`)
)

// prose is a document without its fenced blocks, which hold commands and
// pictures.
func prose(text string) string { return fence.ReplaceAllString(text, "") }

// code returns the lines of the fenced blocks, and what stands in backquotes.
func code(text string) []string {
	var lines []string
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		lines = append(lines, strings.Split(m[1], "\n")...)
	}
	for _, m := range quoted.FindAllStringSubmatch(prose(text), -1) {
		lines = append(lines, m[1])
	}
	return lines
}

// anchor is what a heading can be linked by.
func anchor(title string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(title) {
		switch {
		case r == ' ':
			b.WriteByte('-')
		case r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r > 127:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func TestLinksResolve(t *testing.T) {
	links := 0
	for _, d := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(prose(d.text), -1) {
			if scheme.MatchString(m[1]) {
				continue
			}
			links++
			name, section, _ := strings.Cut(m[1], "#")
			target := d.name
			if name != "" {
				target = filepath.Join(filepath.Dir(d.name), name)
			}
			info, err := os.Stat(filepath.Join(root(t), target))
			if err != nil {
				t.Errorf("%s: link to %s leads nowhere: %v", d.name, m[1], err)
				continue
			}
			if section == "" || info.IsDir() {
				continue
			}
			titles := heading.FindAllStringSubmatch(prose(read(t, target)), -1)
			if !slices.ContainsFunc(titles, func(title []string) bool { return anchor(title[1]) == section }) {
				t.Errorf("%s: link to %s: %s has no such heading", d.name, m[1], target)
			}
		}
	}
	if links == 0 {
		t.Error("no document has a link: the test has checked nothing")
	}
}

func TestMakeTargetsExist(t *testing.T) {
	makefile := read(t, "Makefile")
	named := regexp.MustCompile(`^(?:\$ )?make ([a-z]+)\b`)
	for _, d := range documents(t) {
		for _, line := range code(d.text) {
			m := named.FindStringSubmatch(line)
			if m != nil && !strings.Contains(makefile, "\n"+m[1]+":") {
				t.Errorf("%s: %q: the Makefile has no target %s", d.name, line, m[1])
			}
		}
	}
}

// pages returns the man page of each command, which cloison writes from the
// same source as its help, by "keys init".
func pages(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	for _, args := range [][]string{
		{"go", "build", "-buildvcs=false", "-o", filepath.Join(dir, "cloison"), "./cmd/cloison"},
		{filepath.Join(dir, "cloison"), "man", filepath.Join(dir, "man")},
	} {
		c := exec.Command(args[0], args[1:]...)
		c.Dir, c.Env = root(t), append(os.Environ(), "CGO_ENABLED=0")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	names, err := filepath.Glob(filepath.Join(dir, "man/cloison-*.1"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{"help": ""}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		command := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(name), "cloison-"), ".1")
		found[strings.ReplaceAll(command, "-", " ")] = strings.ReplaceAll(string(text), `\-`, "-")
	}
	return found
}

func TestCommandsExist(t *testing.T) {
	known := pages(t)
	// A command stands at the start of a line, or after what goes before one.
	named := regexp.MustCompile(`^(?:\$ |.*\| *|sudo )?(?:bin/)?cloison ([a-z].*)$`)
	flag := regexp.MustCompile(`(?:^| )(--[a-z][a-z-]*)`)
	commands := 0
	for _, d := range documents(t) {
		for _, line := range code(d.text) {
			m := named.FindStringSubmatch(line)
			if m == nil || strings.Contains(line, "cloison: ") {
				continue
			}
			commands++
			words := strings.Fields(m[1])
			name := words[0]
			if len(words) > 1 {
				if _, ok := known[name+" "+words[1]]; ok {
					name += " " + words[1]
				}
			}
			page, ok := known[name]
			if !ok {
				t.Errorf("%s: %q: there is no command cloison %s", d.name, line, name)
				continue
			}
			for _, f := range flag.FindAllStringSubmatch(m[1], -1) {
				if !strings.Contains(page, f[1]) {
					t.Errorf("%s: %q: cloison %s has no flag %s", d.name, line, name, f[1])
				}
			}
		}
	}
	if commands == 0 {
		t.Error("no document names a command: the test has checked nothing")
	}
}

// A newcomer finds each room in ARCHITECTURE.md.
func TestArchitectureNamesEveryRoom(t *testing.T) {
	text := read(t, "ARCHITECTURE.md")
	c := exec.Command("go", "list", "./...")
	c.Dir = root(t)
	out, err := c.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for name := range strings.FieldsSeq(string(out)) {
		if name = strings.TrimPrefix(name, "cloison/"); !strings.Contains(text, "`"+name+"`") {
			t.Errorf("ARCHITECTURE.md does not name the room %s", name)
		}
	}
}

// What a document names of this tree is there: files and folders, tests, and
// environment variables.
func TestWhatIsNamedExists(t *testing.T) {
	var sources strings.Builder
	files(t, func(_, text string) { sources.WriteString(text) }, ".go", "Makefile")
	all := sources.String()
	path := regexp.MustCompile(`^(?:\./)?((?:bench|cmd|docs|format|host|image|kernel|linux|sdk|target|test)/[A-Za-z0-9_./-]*|Makefile|[A-Z]+\.md)$`)
	function := regexp.MustCompile(`^(?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9]*$`)
	variable := regexp.MustCompile(`^CLOISON_[A-Z_]+$`)
	script := regexp.MustCompile(`^[a-z0-9_]+\.txtar$`)
	for _, d := range documents(t) {
		for _, m := range quoted.FindAllStringSubmatch(prose(d.text), -1) {
			name := m[1]
			switch {
			case path.MatchString(name) && !strings.Contains(name, "NAME") && !strings.Contains(name, "..."):
				name = strings.TrimPrefix(name, "./")
				_, fromRoot := os.Stat(filepath.Join(root(t), name))
				_, beside := os.Stat(filepath.Join(root(t), filepath.Dir(d.name), name))
				if fromRoot != nil && beside != nil {
					t.Errorf("%s names %s, which does not exist", d.name, name)
				}
			case script.MatchString(name):
				if _, err := os.Stat(filepath.Join(root(t), "test/boot/testdata", name)); err != nil {
					t.Errorf("%s names the boot script %s: %v", d.name, name, err)
				}
			case function.MatchString(name) && !strings.Contains(all, "func "+name+"("):
				t.Errorf("%s names the test %s, which does not exist", d.name, name)
			case variable.MatchString(name) && !strings.Contains(all, name):
				t.Errorf("%s names the variable %s, which nothing reads", d.name, name)
			}
		}
	}
}

// The name of ANSSI's system is a trademark: whoever names it says that this
// is not it.
func TestTrademark(t *testing.T) {
	name := regexp.MustCompile(`(?i)clip[ -]?os`)
	files(t, func(file, text string) {
		if !name.MatchString(text) {
			return
		}
		if !strings.HasSuffix(file, ".md") {
			t.Errorf("%s names it: only documents may", file)
		}
		// A line break may stand anywhere.
		flat := strings.Join(strings.Fields(text), " ")
		for _, want := range []string{"independent implementation", "not affiliated with, nor endorsed by, ANSSI", "trademark of the French Republic"} {
			if !strings.Contains(flat, want) {
				t.Errorf("%s names it without the words %q", file, want)
			}
		}
	}, ".md", ".go", ".toml", ".config", ".json", ".svg", "Makefile", "sdk/packages", "cmdline")
}
