package declaration

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"cloison/format/service"
)

const folder = "../../image/services/"

func ids(t testing.TB) service.IDs {
	t.Helper()
	text, err := os.ReadFile(folder + "ids")
	if err != nil {
		t.Fatal(err)
	}
	ids, err := service.ParseIDs(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestTree(t *testing.T) {
	files, err := filepath.Glob(folder + "*.toml")
	if err != nil || len(files) == 0 {
		t.Fatal("no declarations", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Parse(text, ids(t))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if s.Name+".toml" != filepath.Base(file) {
			t.Errorf("%s says name = %q", file, s.Name)
		}
	}
}

func TestStrict(t *testing.T) {
	b, err := os.ReadFile(folder + "console.toml")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	// Each field has to be there, lists and tables, too.
	for i, line := range strings.Split(text, "\n") {
		key, _, ok := strings.Cut(line, " =")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		lines := strings.Split(text, "\n")
		lines[i] = ""
		_, err := Parse([]byte(strings.Join(lines, "\n")), ids(t))
		if err == nil || !strings.HasSuffix(err.Error(), key+" is missing") {
			t.Errorf("Parse without %q: %v, want that it is missing", line, err)
		}
	}
	for want, change := range map[string][2]string{
		"unknown key [sudo]":              {"network = ", "sudo = true\nnetwork = "},
		"unknown key [limits swap]":       {"[limits]", "[limits]\nswap = 1"},
		"provides.allow is missing":       {"provides = []", `provides = [{ name = "x", type = "stream", mode = "0666" }]`},
		"devices.ioctls.number is":        {"devices = []", `devices = [{ path = "/dev/x", access = "read", why = "x", ioctls = [{ name = "X" }] }]`},
		"capabilities is not a list":      {"capabilities = []", `capabilities = "CAP_SYS_ADMIN"`},
		"capabilities is not a table":     {"capabilities = []", `capabilities = ["CAP_SYS_ADMIN"]`},
		"no service can have":             {"capabilities = []", `capabilities = [{ name = "CAP_SYS_ADMIN", why = "x" }]`},
		"not a size":                      {`"32 MiB"`, `"32MB"`},
		"no number in image/services/ids": {`"console"`, `"consoles"`},
		"seccomp is missing":              {"[seccomp]", "[secomp]"},
		"line 1":                          {"name", "= name"},
	} {
		_, err := Parse([]byte(strings.Replace(text, change[0], change[1], 1)), ids(t))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse with %q = %v, want %q", change[1], err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	text, err := os.ReadFile(folder + "console.toml")
	if err != nil {
		f.Fatal(err)
	}
	allotted := ids(f)
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Parse(text, allotted)
		if err != nil {
			return
		}
		sealed, err := s.Print()
		if err != nil {
			t.Fatal(err)
		}
		// The sealed form knows no difference between no list and an empty one.
		again, err := service.Parse(sealed)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := again.Print(); err != nil || second != sealed || reflect.DeepEqual(again, &service.Service{}) {
			t.Errorf("Print(Parse(%q)) = %q, %v", sealed, second, err)
		}
	})
}
