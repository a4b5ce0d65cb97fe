// Package sbom lists what is in a built product, as a CycloneDX document: the
// kernel, the boot loader, Cloison's programs, and every module and library
// linked into them. What only builds is not in the product and not in the list:
// the manifest has it. It needs the programs and the SDK's list of packages.
//
// Source: CycloneDX 1.6 (ECMA-424); Package URL specification.
package sbom

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"cloison/format/packagelist"
	"cloison/host/program"
)

// Input is what a product was made of.
type Input struct {
	Product  string // its name: gateway
	Title    string // one line for people
	Version  string // of the release
	Hardware string // hardware profile
	Epoch    int64  // seconds since 1970: the time of the document
	// Packages is the whole list of the SDK; Make picks those that end up in
	// the product.
	Packages []packagelist.Package
	// Programs are those of the core and of the initramfs, by name.
	Programs map[string]program.Program
}

// part is a package of the SDK of which something is in the product. Name is
// matched as a prefix where it ends in "-", because the package's name holds
// its version.
type part struct {
	name, suffix string
	kind         cdx.ComponentType
	licence      string // SPDX expression
	description  string
	linked       bool // into every program
}

// parts are all of them. See package program and package bootimage for what
// takes them.
var parts = []part{
	{name: "linux-source-", kind: cdx.ComponentTypeOS, licence: "GPL-2.0-only", description: "source of the kernel in the unified kernel image"},
	{name: "systemd-boot-efi", kind: cdx.ComponentTypeFirmware, licence: "LGPL-2.1-or-later", description: "boot loader, and the stub of the unified kernel image"},
	{name: "libc6-dev", kind: cdx.ComponentTypeLibrary, licence: "LGPL-2.1-or-later", description: "start-up code and static libc of the programs", linked: true},
	{name: "libgcc-", suffix: "-dev", kind: cdx.ComponentTypeLibrary, licence: "GPL-3.0-or-later WITH GCC-exception-3.1", description: "start-up code and libgcc of the programs", linked: true},
	// The state volume's programs, and what they are linked with (package
	// bootimage, Tools).
	{name: "cryptsetup-bin", kind: cdx.ComponentTypeApplication, licence: "GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception", description: "cryptsetup, which opens the state volume"},
	{name: "e2fsprogs", kind: cdx.ComponentTypeApplication, licence: "GPL-2.0-only", description: "mke2fs, which makes the state volume's file system"},
	{name: "libcryptsetup12", kind: cdx.ComponentTypeLibrary, licence: "GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception", description: "library of cryptsetup or mke2fs"},
	{name: "libssl3t64", kind: cdx.ComponentTypeLibrary, licence: "Apache-2.0", description: "library of cryptsetup or mke2fs"},
	{name: "libdevmapper1.02.1", kind: cdx.ComponentTypeLibrary, licence: "LGPL-2.1-only", description: "library of cryptsetup or mke2fs"},
	{name: "libjson-c5", kind: cdx.ComponentTypeLibrary, licence: "MIT", description: "library of cryptsetup or mke2fs"},
	{name: "libblkid1", kind: cdx.ComponentTypeLibrary, licence: "LGPL-2.1-or-later", description: "library of cryptsetup or mke2fs"},
	{name: "libuuid1", kind: cdx.ComponentTypeLibrary, licence: "BSD-3-Clause", description: "library of cryptsetup or mke2fs"},
	{name: "libpopt0", kind: cdx.ComponentTypeLibrary, licence: "MIT", description: "library of cryptsetup or mke2fs"},
	{name: "libudev1", kind: cdx.ComponentTypeLibrary, licence: "LGPL-2.1-or-later", description: "library of cryptsetup or mke2fs"},
	{name: "libcap2", kind: cdx.ComponentTypeLibrary, licence: "BSD-3-Clause OR GPL-2.0-only", description: "library of cryptsetup or mke2fs"},
	{name: "libselinux1", kind: cdx.ComponentTypeLibrary, licence: "libselinux-1.0", description: "library of cryptsetup or mke2fs"},
	{name: "libpcre2-8-0", kind: cdx.ComponentTypeLibrary, licence: "BSD-3-Clause", description: "library of cryptsetup or mke2fs"},
	{name: "libext2fs2t64", kind: cdx.ComponentTypeLibrary, licence: "LGPL-2.0-only", description: "library of cryptsetup or mke2fs"},
	{name: "libcom-err2", kind: cdx.ComponentTypeLibrary, licence: "MIT", description: "library of cryptsetup or mke2fs"},
	{name: "zlib1g", kind: cdx.ComponentTypeLibrary, licence: "Zlib", description: "library of cryptsetup or mke2fs"},
	{name: "libzstd1", kind: cdx.ComponentTypeLibrary, licence: "BSD-3-Clause OR GPL-2.0-only", description: "library of cryptsetup or mke2fs"},
	{name: "libc6", kind: cdx.ComponentTypeLibrary, licence: "LGPL-2.1-or-later", description: "library of cryptsetup or mke2fs"},
}

// Make returns the document. The same input gives the same bytes.
func Make(in Input) ([]byte, error) {
	text, err := document(in)
	if err != nil {
		return nil, fmt.Errorf("cannot list the components of %s: %w", in.Product, err)
	}
	return text, nil
}

// list is the document as it grows: components and what each depends on.
type list struct {
	components map[string]cdx.Component
	needs      map[string][]string
}

func (l list) add(c cdx.Component, by ...string) {
	l.components[c.BOMRef] = c
	for _, user := range by {
		if !slices.Contains(l.needs[user], c.BOMRef) {
			l.needs[user] = append(l.needs[user], c.BOMRef)
		}
	}
}

func document(in Input) ([]byte, error) {
	root := cdx.Component{
		BOMRef: "cloison:" + in.Product + "@" + in.Version, Type: cdx.ComponentTypeOS, Name: "cloison-" + in.Product,
		Version: in.Version, Description: in.Title, Licenses: licence("Apache-2.0"),
		Properties: &[]cdx.Property{{Name: "cloison:hardware", Value: in.Hardware}},
	}
	l := list{map[string]cdx.Component{}, map[string][]string{}}
	names := slices.Sorted(maps.Keys(in.Programs))
	for _, name := range names {
		if err := l.program(name, in.Version, in.Programs[name], root.BOMRef); err != nil {
			return nil, err
		}
	}
	for _, p := range parts {
		found, err := p.find(in.Packages)
		if err != nil {
			return nil, err
		}
		users := []string{root.BOMRef}
		if p.linked {
			users = nil
			for _, name := range names {
				users = append(users, programRef(name, in.Version))
			}
		}
		l.add(p.component(found), users...)
	}
	return encode(root, l, in)
}

func programRef(name, version string) string { return "cloison:cmd/" + name + "@" + version }

// program adds one program, and what the compiler recorded in it.
func (l list) program(name, version string, p program.Program, root string) error {
	data, err := os.ReadFile(p.Path)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	info := p.Info
	if info == nil {
		if info, err = buildinfo.Read(bytes.NewReader(data)); err != nil {
			return fmt.Errorf("cannot read what %s is built from: %w", name, err)
		}
	}
	ref := programRef(name, version)
	l.add(cdx.Component{
		BOMRef: ref, Type: cdx.ComponentTypeApplication, Name: "cloison/cmd/" + name, Version: version,
		Hashes: hashes(hex.EncodeToString(sum[:])), Licenses: licence("Apache-2.0"),
	}, root)
	goVersion, _, _ := strings.Cut(strings.TrimPrefix(info.GoVersion, "go"), " ")
	l.add(cdx.Component{
		BOMRef: "pkg:golang/std@" + goVersion, Type: cdx.ComponentTypeLibrary, Name: "std", Version: goVersion,
		Description: "Go's standard library and runtime", Licenses: licence("BSD-3-Clause"), PackageURL: "pkg:golang/std@" + goVersion,
	}, ref)
	for _, dep := range info.Deps {
		c, err := module(dep)
		if err != nil {
			return fmt.Errorf("cannot name a module of %s: %w", name, err)
		}
		l.add(c, ref)
	}
	return nil
}

// module is a Go module; its hash is the one of go.sum, over the tree of its
// files (golang.org/x/mod/sumdb/dirhash), not over an archive.
func module(m *debug.Module) (cdx.Component, error) {
	if m.Replace != nil {
		m = m.Replace
	}
	text, isH1 := strings.CutPrefix(m.Sum, "h1:")
	sum, err := base64.StdEncoding.DecodeString(text)
	if !isH1 || err != nil || len(sum) != sha256.Size {
		return cdx.Component{}, fmt.Errorf("module %s %s has no sum: %q", m.Path, m.Version, m.Sum)
	}
	// Of the letters that a version may have, only + needs escaping.
	url := "pkg:golang/" + m.Path + "@" + strings.ReplaceAll(m.Version, "+", "%2B")
	return cdx.Component{
		BOMRef: url, Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version,
		Hashes: hashes(hex.EncodeToString(sum)), PackageURL: url,
	}, nil
}

// find returns the one package that the part stands for.
func (p part) find(packages []packagelist.Package) (packagelist.Package, error) {
	var found []packagelist.Package
	for _, candidate := range packages {
		rest, ok := strings.CutPrefix(candidate.Name, p.name)
		if ok && (rest == "" || strings.HasSuffix(p.name, "-") && strings.HasSuffix(rest, p.suffix) && numeric(strings.TrimSuffix(rest, p.suffix))) {
			found = append(found, candidate)
		}
	}
	if len(found) != 1 {
		return packagelist.Package{}, fmt.Errorf("the SDK has %d packages %s…%s, want 1", len(found), p.name, p.suffix)
	}
	return found[0], nil
}

// numeric reports whether s is a version in the name of a package: 14, 7.3.
func numeric(s string) bool {
	return s != "" && strings.Trim(s, "0123456789.") == ""
}

func (p part) component(found packagelist.Package) cdx.Component {
	escape := strings.NewReplacer("+", "%2B", ":", "%3A")
	url := "pkg:deb/debian/" + found.Name + "@" + escape.Replace(found.Version) + "?arch=" + found.Architecture
	return cdx.Component{
		BOMRef: url, Type: p.kind, Name: found.Name, Version: found.Version, Description: p.description,
		Hashes: hashes(found.SHA256), Licenses: licence(p.licence), PackageURL: url,
	}
}

func hashes(sha256 string) *[]cdx.Hash {
	return &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: sha256}}
}

// licence wraps an SPDX expression; a lone identifier has a form of its own.
func licence(expression string) *cdx.Licenses {
	if strings.Contains(expression, " ") {
		return &cdx.Licenses{{Expression: expression}}
	}
	return &cdx.Licenses{{License: &cdx.License{ID: expression}}}
}

func encode(root cdx.Component, l list, in Input) ([]byte, error) {
	bom := cdx.NewBOM()
	bom.SerialNumber = serial(in)
	bom.Metadata = &cdx.Metadata{
		Timestamp: time.Unix(in.Epoch, 0).UTC().Format(time.RFC3339),
		Tools: &cdx.ToolsChoice{Components: &[]cdx.Component{{
			Type: cdx.ComponentTypeApplication, Name: "cloison", Version: in.Version,
		}}},
		Component: &root,
	}
	var components []cdx.Component
	dependencies := []cdx.Dependency{}
	depends := func(ref string) {
		d := cdx.Dependency{Ref: ref}
		if needs := slices.Sorted(slices.Values(l.needs[ref])); len(needs) > 0 {
			d.Dependencies = &needs
		}
		dependencies = append(dependencies, d)
	}
	depends(root.BOMRef)
	for _, ref := range slices.Sorted(maps.Keys(l.components)) {
		components = append(components, l.components[ref])
		depends(ref)
	}
	bom.Components, bom.Dependencies = &components, &dependencies
	var text bytes.Buffer
	encoder := cdx.NewBOMEncoder(&text, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false)
	if err := encoder.EncodeVersion(bom, cdx.SpecVersion1_6); err != nil {
		return nil, err
	}
	return text.Bytes(), nil
}

// serial is a UUID of version 8, derived: RFC 9562, section 5.8.
func serial(in Input) string {
	h := sha256.New()
	io.WriteString(h, strings.Join([]string{"cloison sbom", in.Product, in.Version, in.Hardware}, "\x00"))
	u := h.Sum(nil)[:16]
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
