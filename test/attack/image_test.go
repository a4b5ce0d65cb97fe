package attack

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cloison/host/build"
	"cloison/host/build/buildtest"
	"cloison/host/keys"
	"cloison/test/attack/siege"
)

// mains are programs of the attacked image alone: they are in no other tree.
var mains = map[string]string{
	"init":  "siege.Init",
	"siege": "siege.Main",
	"probe": "launcher.Main",
}

// image builds the default product with the siege beside PID 1 and the probe
// beside each service, from a changed copy of the tree.
func image(t *testing.T) (dir string) {
	t.Helper()
	o, work := buildtest.Options(t), filepath.Join(t.TempDir(), "tree")
	for _, top := range []string{"cmd", "format", "host", "image", "kernel", "linux", "sdk", "target", "test"} {
		if err := os.CopyFS(filepath.Join(work, top), os.DirFS(filepath.Join(o.Tree, top))); err != nil {
			t.Fatal(err)
		}
	}
	put := func(name, text string) {
		t.Helper()
		path := filepath.Join(work, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	get := func(name string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(o.Tree, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	put("go.mod", get("go.mod"))
	put("go.sum", get("go.sum"))
	for name, call := range mains {
		room, _, _ := strings.Cut(call, ".")
		put("cmd/"+name+"/main.go", "package main\n\nimport \"cloison/test/attack/"+room+"\"\n\nfunc main() { "+call+"() }\n")
	}
	product, err := build.ReadProduct(o.Tree, o.Product)
	if err != nil {
		t.Fatal(err)
	}
	ids, listed := get("image/services/ids"), slices.Clone(product.Services)
	for i, name := range append(product.Services, "probe", "siege") {
		as := siege.Prefix + name
		declaration := get("test/attack/testdata/as-probe.toml")
		switch name {
		case "probe":
		case "siege":
			declaration = strings.ReplaceAll(declaration, "probe", name)
		default:
			if declaration, err = inPlaceOf(name, get("image/services/"+name+".toml")); err != nil {
				t.Fatal(err)
			}
		}
		put("image/services/"+as+".toml", declaration)
		ids += fmt.Sprintf("%s %d\n", as, 950+i)
		listed = append(listed, as)
	}
	put("image/services/ids", ids)
	text, err := replace(get("image/products/"+o.Product+"/product.toml"), "services", fmt.Sprintf("[%q]", strings.Join(listed, `", "`)))
	if err != nil {
		t.Fatal(err)
	}
	// What the product asserts is about services that are here twice.
	text, _, _ = strings.Cut(text, "[[assertions]]")
	put("image/products/"+o.Product+"/product.toml", strings.ReplaceAll(text, `\"`, `"`))

	o.Out = filepath.Join(o.Tree, "out/test-attack")
	if o.Keys, err = build.DevelopmentKeys(); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.OpenDir(o.Keys); err != nil {
		t.Fatal(err)
	}
	o.Tree = work
	if _, err := build.Build(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	return o.Out
}

// inPlaceOf turns a service's declaration into that of the probe in the same box.
// What others would see of it is left out: its sockets and descriptors.
func inPlaceOf(name, declaration string) (string, error) {
	var err error
	for _, change := range [][2]string{
		{"name", fmt.Sprintf("%q", siege.Prefix+name)},
		{"program", `"/usr/lib/cloison/probe"`},
		{"stdio", `"log"`},
		{"given", "[]"},
		{"provides", "[]"},
		{"uses", "[]"},
		{"after", "[]"},
		{"needs", "[]"},
		{"required", "false"},
		{"ready", `"started"`},
		{"watchdog", `"none"`},
		{"restart", `"never"`},
		{"delay", `"none"`},
		{"longest", `"none"`},
	} {
		if declaration, err = replace(declaration, change[0], change[1]); err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
	}
	return declaration, nil
}

// replace gives a key of a TOML text another value. A list may have many lines.
func replace(text, key, value string) (string, error) {
	form := regexp.MustCompile(`(?m)^` + key + ` = (\[\n(?s:.*?)^\]|.*)$`)
	if n := len(form.FindAllString(text, -1)); n != 1 {
		return "", fmt.Errorf("there are %d lines %s = …, want one", n, key)
	}
	return form.ReplaceAllLiteralString(text, key+" = "+value), nil
}
