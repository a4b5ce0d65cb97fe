// Package program builds Go programs of this source tree for the machine:
// static position-independent executables with full RELRO, the same bytes on
// every host. The compiler is the Go toolchain that go.mod pins; linking
// happens in the SDK. It needs the go command, and the module proxy when the
// toolchain or a module is missing.
//
// Source: go help build, cmd/link, ld.lld(1).
package program

import (
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"cloison/format/hint"
	"cloison/host/progress"
	"cloison/host/sdk"
)

// Options say where to build.
type Options struct {
	Tree  string // the source tree
	Cache string // folder of the compiler's cache
	SDK   *sdk.SDK
	Log   *progress.Log
}

// Program is a finished one.
type Program struct {
	Path string // on the host
	Info *buildinfo.BuildInfo
}

// Toolchain is the compiler and the modules, as the host keeps them.
type Toolchain struct {
	GOROOT     string
	GOMODCACHE string
	Version    string // go1.X.Y
	SHA256     string // of compiler and linker, lower-case hex
}

// Build compiles cmd/NAME for each name and leaves the programs in dir. A name
// may be a path from cmd; the program is called as its last part.
func Build(ctx context.Context, o Options, chain Toolchain, dir string, names ...string) (map[string]Program, error) {
	stage := o.Log.Start("compile %s", strings.Join(names, ", "))
	programs, err := build(ctx, o, chain, dir, names)
	if err != nil {
		stage.Fail()
		return nil, err
	}
	stage.Done("")
	return programs, nil
}

func build(ctx context.Context, o Options, chain Toolchain, dir string, names []string) (map[string]Program, error) {
	goCache := filepath.Join(o.Cache, "go")
	if err := errors.Join(os.MkdirAll(goCache, 0o755), os.MkdirAll(dir, 0o755)); err != nil {
		return nil, err
	}
	args := []string{
		"/go/root/bin/go", "build", "-o", "/out/", "-trimpath", "-buildvcs=false", "-buildmode=pie", "-mod=readonly",
		"-tags", "netgo,osusergo",
		// No build ID: the linker derives it from paths.
		"-ldflags", `-s -w -buildid= -linkmode=external -extldflags "-static-pie -fuse-ld=lld -Wl,-z,relro,-z,now,-z,noexecstack,--build-id=none,--pack-dyn-relocs=relr"`,
	}
	args = append(args, folders(names)...)
	err := o.SDK.Run(ctx, sdk.Step{
		Args: args,
		Dir:  "/source",
		Env: []string{
			"GOROOT=/go/root", "GOMODCACHE=/go/mod", "GOCACHE=/go/cache", "GOTOOLCHAIN=local", "GOPROXY=off", "GOFLAGS=", "GOENV=off",
			"GOTELEMETRY=off", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1", "CGO_ENABLED=1", "CC=clang-22", "CGO_CFLAGS=-O2 -fstack-protector-strong -fPIE",
		},
		Inputs:  []sdk.Bind{{Host: chain.GOROOT, Inside: "/go/root"}, {Host: chain.GOMODCACHE, Inside: "/go/mod"}, {Host: o.Tree, Inside: "/source"}},
		Outputs: []sdk.Bind{{Host: goCache, Inside: "/go/cache"}, {Host: dir, Inside: "/out"}},
	})
	if err != nil {
		return nil, err
	}
	programs := map[string]Program{}
	for _, name := range names {
		path := filepath.Join(dir, filepath.Base(name))
		info, err := buildinfo.ReadFile(path)
		if err != nil {
			return nil, err
		}
		programs[name] = Program{path, info}
	}
	return programs, nil
}

// Fetch has the go command get, outside the SDK where there is a network,
// what a build of the named programs inside will need: the exact toolchain
// and every module, both checked against go.sum and the checksum database.
func Fetch(ctx context.Context, tree string, names ...string) (Toolchain, error) {
	module, err := os.ReadFile(filepath.Join(tree, "go.mod"))
	if err != nil {
		return Toolchain{}, err
	}
	var chain Toolchain
	for line := range strings.Lines(string(module)) {
		if name, ok := strings.CutPrefix(line, "toolchain "); ok {
			chain.Version = strings.TrimSpace(name)
		}
	}
	if chain.Version == "" {
		return Toolchain{}, errors.New("cannot find the toolchain line in go.mod")
	}
	command := func(args ...string) ([]byte, error) {
		c := exec.CommandContext(ctx, "go", args...)
		c.Dir = tree
		c.Env = append(os.Environ(), "GOTOOLCHAIN="+chain.Version, "GOFLAGS=")
		out, err := c.Output()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("cannot run go %s: %w\n  %s", args[0], err, strings.TrimSpace(string(exit.Stderr)))
			return nil, hint.Wrap(err, "the Go toolchain %s and the modules of go.sum come from the Go module proxy: check the network and GOPROXY", chain.Version)
		}
		return out, err
	}
	text, err := command("env", "-json", "GOROOT", "GOMODCACHE")
	if err != nil {
		return Toolchain{}, err
	}
	if err := json.Unmarshal(text, &chain); err != nil {
		return Toolchain{}, err
	}
	if _, err := command(append([]string{"list", "-deps"}, folders(names)...)...); err != nil {
		return Toolchain{}, err
	}
	sum := sha256.New()
	for _, tool := range []string{"compile", "link"} {
		data, err := os.ReadFile(filepath.Join(chain.GOROOT, "pkg/tool/linux_amd64", tool))
		if err != nil {
			return Toolchain{}, err
		}
		sum.Write(data)
	}
	chain.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return chain, os.MkdirAll(chain.GOMODCACHE, 0o755)
}

func folders(names []string) []string {
	var folders []string
	for _, name := range names {
		folders = append(folders, "./cmd/"+name)
	}
	return folders
}
