package attack

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloison/host/build"
	"cloison/host/build/buildtest"
	"cloison/host/build/variant"
	"cloison/test/attack/siege"
)

// image builds the default product with the siege beside PID 1 and the probe
// beside each service.
func image(t *testing.T) (dir string) {
	t.Helper()
	o := buildtest.Options(t)
	get := func(name string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(o.Tree, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	product, err := build.ReadProduct(o.Tree, o.Product)
	if err != nil {
		t.Fatal(err)
	}
	asProbe := get("test/attack/testdata/as-probe.toml")
	services := map[string]string{
		siege.Prefix + "probe": asProbe,
		siege.Prefix + "siege": strings.ReplaceAll(asProbe, "probe", "siege"),
	}
	for _, name := range product.Services {
		if services[siege.Prefix+name], err = inPlaceOf(name, get("image/services/"+name+".toml")); err != nil {
			t.Fatal(err)
		}
	}
	v := variant.Variant{
		Name: "attack", Services: services,
		Programs: map[string]string{
			"init":  "cloison/test/attack/siege.Init",
			"siege": "cloison/test/attack/siege.Main",
			"probe": "cloison/test/attack/launcher.Main",
		},
		// What the product asserts is about services that are here twice.
		Unasserted: true,
	}
	if dir, err = v.Build(t.Context(), o, filepath.Join(t.TempDir(), "tree")); err != nil {
		t.Fatal(err)
	}
	return dir
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
		if declaration, err = variant.Replace(declaration, change[0], change[1]); err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
	}
	return declaration, nil
}
