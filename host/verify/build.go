package verify

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"cloison/format/hint"
	"cloison/format/packagelist"
	"cloison/format/release"
	"cloison/host/build"
	"cloison/host/keys"
)

// maxText bounds a manifest, a list or a signature, in bytes.
const maxText = 16 << 20

// build checks what stands beside the disk in the folder of a build.
func (v *verifier) build() error {
	text, err := v.read(build.ManifestName, maxText)
	if err != nil {
		return err
	}
	signature, err := v.read(build.SignedName, maxText)
	if err != nil {
		return err
	}
	v.record(ManifestSig, build.ManifestName, keys.VerifyDocument(v.Release, text, signature), "release key %s", keys.KeyID(v.Release)[:16])
	m, err := release.Parse(text)
	v.record(Manifest, build.ManifestName, err, "%s %s for %s", m.Product, m.Version, m.Hardware)
	if err != nil {
		v.note("there is no manifest to compare the rest with")
		return nil
	}
	v.manifest = &m
	name := build.UKIName(m.Version)
	for _, f := range []struct {
		name string
		want release.File
	}{
		{build.DiskName, m.Disk},
		{build.CoreName, release.File{SHA256: m.Core.SHA256, Size: m.Core.Size}},
		{name, release.File{SHA256: m.UKI.SHA256, Size: m.UKI.Size}},
		{build.ConfigName, m.KernelConfig},
		{build.SBOMName, m.SBOM},
	} {
		got, err := describe(filepath.Join(v.folder, f.name))
		if err != nil {
			return missing(err, f.name)
		}
		if got != f.want {
			err = fmt.Errorf("%d bytes, sha256 %s; the manifest has %d bytes, sha256 %s", got.Size, got.SHA256, f.want.Size, f.want.SHA256)
		}
		v.record(Digest, f.name, err, "%d bytes, sha256 %s", got.Size, got.SHA256)
	}
	if v.uki, err = v.read(name, 1<<30); err != nil {
		return err
	}
	return v.sdkList()
}

// sdkList holds the list of the SDK's packages against the signed inputs.
func (v *verifier) sdkList() error {
	text, err := v.read(build.LockName, maxText)
	if err != nil {
		return err
	}
	list, err := packagelist.Parse(text)
	if err == nil {
		const prefix = "debian:"
		signed := map[string]release.Input{}
		for _, in := range v.manifest.Inputs {
			if strings.HasPrefix(in.Name, prefix) {
				signed[in.Name] = in
			}
		}
		for _, p := range list {
			if got := (release.Input{Name: prefix + p.Name, Version: p.Version, SHA256: p.SHA256}); signed[got.Name] != got {
				err = fmt.Errorf("%s %s is not what the manifest has", p.Name, p.Version)
				break
			}
		}
		if err == nil && len(list) != len(signed) {
			err = fmt.Errorf("%d packages, the manifest has %d", len(list), len(signed))
		}
	}
	v.record(SDKList, build.LockName, err, "%d packages, all in the manifest", len(list))
	return nil
}

// read reads a file of the build, of at most limit bytes.
func (v *verifier) read(name string, limit int64) ([]byte, error) {
	f, err := os.Open(filepath.Join(v.folder, name))
	if err != nil {
		return nil, missing(err, name)
	}
	defer f.Close() // only read from: nothing to lose
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("it has more than %d bytes", limit)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", name, err)
	}
	return data, nil
}

// missing says what to do about a file that cannot be read.
func missing(err error, name string) error {
	wrapped := fmt.Errorf("cannot verify the build: %w", err)
	if errors.Is(err, fs.ErrNotExist) {
		return hint.Wrap(wrapped, "a folder without %s is not a finished build: build it again with cloison build", name)
	}
	return wrapped
}

// describe returns size and digest of a file.
func describe(path string) (release.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return release.File{}, err
	}
	defer f.Close() // only read from: nothing to lose
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	if err != nil {
		return release.File{}, fmt.Errorf("cannot read %s: %w", path, err)
	}
	return release.File{SHA256: hex.EncodeToString(sum.Sum(nil)), Size: uint64(n)}, nil
}
