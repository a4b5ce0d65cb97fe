package sbom

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"cloison/format/packagelist"
	"cloison/host/program"
)

var packages = []packagelist.Package{
	{Name: "clang-22", Version: "1:22.1", Architecture: "amd64", SHA256: strings.Repeat("1", 64)},
	{Name: "libc6-dev", Version: "2.41-12+deb13u1", Architecture: "amd64", SHA256: strings.Repeat("2", 64)},
	{Name: "libgcc-14-dev", Version: "14.2.0-19", Architecture: "amd64", SHA256: strings.Repeat("3", 64)},
	{Name: "libgcc-s1", Version: "14.2.0-19", Architecture: "amd64", SHA256: strings.Repeat("4", 64)},
	{Name: "linux-source-7.3", Version: "7.3.1-1~bpo13+1", Architecture: "all", SHA256: strings.Repeat("5", 64)},
	{Name: "systemd-boot-efi", Version: "257.9-1", Architecture: "amd64", SHA256: strings.Repeat("6", 64)},
}

// inInitramfs are the packages of cryptsetup and mke2fs, and of their libraries.
var inInitramfs = []string{
	"cryptsetup-bin", "e2fsprogs", "libblkid1", "libc6", "libcap2", "libcom-err2", "libcryptsetup12", "libdevmapper1.02.1", "libext2fs2t64",
	"libjson-c5", "libpcre2-8-0", "libpopt0", "libselinux1", "libssl3t64", "libudev1", "libuuid1", "libzstd1", "zlib1g",
}

func input(t *testing.T) Input {
	t.Helper()
	packages := slices.Clone(packages)
	for _, name := range inInitramfs {
		packages = append(packages, packagelist.Package{Name: name, Version: "1", Architecture: "amd64", SHA256: strings.Repeat("7", 64)})
	}
	path := filepath.Join(t.TempDir(), "init")
	if err := os.WriteFile(path, []byte("a program"), 0o755); err != nil {
		t.Fatal(err)
	}
	info := &debug.BuildInfo{GoVersion: "go1.26.8", Deps: []*debug.Module{
		{Path: "golang.org/x/sys", Version: "v0.49.0", Sum: "h1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="},
	}}
	return Input{
		Product: "gateway", Title: "Cloison gateway", Version: "0.1.0", Hardware: "qemu", Epoch: 1795392000, Packages: packages,
		Programs: map[string]program.Program{"init": {Path: path, Info: info}, "console": {Path: path, Info: info}},
	}
}

// schema compiles CycloneDX's own schema, which its library carries.
func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	for name, file := range map[string]string{
		"bom-1.6.schema.json": "bom-1.6.schema.json", "spdx.schema.json": "spdx.schema.json", "jsf-0.82.schema.json": "jsf-0.82.schemax.json",
	} {
		text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "schema", file))
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := compiler.AddResource("http://cyclonedx.org/schema/"+name, doc); err != nil {
			t.Fatal(err)
		}
	}
	s, err := compiler.Compile("http://cyclonedx.org/schema/bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestMake(t *testing.T) {
	in := input(t)
	text, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema(t).Validate(doc); err != nil {
		t.Errorf("%v in\n%s", err, text)
	}
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(text), cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range *bom.Components {
		got = append(got, c.BOMRef)
	}
	want := []string{
		"cloison:cmd/console@0.1.0",
		"cloison:cmd/init@0.1.0",
		"pkg:deb/debian/libc6-dev@2.41-12%2Bdeb13u1?arch=amd64",
		"pkg:deb/debian/libgcc-14-dev@14.2.0-19?arch=amd64",
		"pkg:deb/debian/linux-source-7.3@7.3.1-1~bpo13%2B1?arch=all",
		"pkg:deb/debian/systemd-boot-efi@257.9-1?arch=amd64",
		"pkg:golang/golang.org/x/sys@v0.49.0",
		"pkg:golang/std@1.26.8",
	}
	needed := []string{want[2], want[3], want[6], want[7]}
	for _, name := range inInitramfs {
		want = append(want, "pkg:deb/debian/"+name+"@1?arch=amd64")
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("components = %q, want %q", got, want)
	}
	if got, want := bom.Metadata.Timestamp, "2026-11-23T00:00:00Z"; got != want {
		t.Errorf("timestamp = %s, want %s", got, want)
	}
	for _, d := range *bom.Dependencies {
		if d.Ref == "cloison:cmd/init@0.1.0" && !slices.Equal(*d.Dependencies, needed) {
			t.Errorf("init depends on %q", *d.Dependencies)
		}
	}
	again, err := Make(in)
	if err != nil || !bytes.Equal(text, again) {
		t.Errorf("Make() a second time = %s, %v, want the same bytes", again, err)
	}
	in.Version = "0.1.1"
	next, err := Make(in)
	if err != nil || bytes.Equal(text, next) || bytes.Contains(next, []byte(bom.SerialNumber)) {
		t.Errorf("Make() of another version = %s, %v, want another serial number", next, err)
	}
}

func TestMakeRefuses(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Input)
		want   string
	}{
		{"no kernel", func(in *Input) {
			in.Packages = slices.DeleteFunc(in.Packages, func(p packagelist.Package) bool { return strings.HasPrefix(p.Name, "linux") })
		}, "cannot list the components of gateway: the SDK has 0 packages linux-source-…, want 1"},
		{"two kernels", func(in *Input) {
			in.Packages = append(in.Packages, packagelist.Package{Name: "linux-source-7.4"})
		}, "cannot list the components of gateway: the SDK has 2 packages linux-source-…, want 1"},
		{"module without a sum", func(in *Input) {
			in.Programs["init"].Info.Deps[0].Sum = ""
		}, `cannot list the components of gateway: cannot name a module of console: module golang.org/x/sys v0.49.0 has no sum: ""`},
	} {
		in := input(t)
		test.change(&in)
		if _, err := Make(in); err == nil || err.Error() != test.want {
			t.Errorf("%s: Make() = %v, want %q", test.name, err, test.want)
		}
	}
}
