// Package release reads and prints the manifest of a build, manifest.json:
// what was built, from what, and the digests that everything else is checked
// against. It needs nothing; manifest.schema.json beside it is the same
// format as a JSON schema (2020-12).
package release

import (
	"bytes"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Schema is the JSON schema of the manifest.
//
//go:embed manifest.schema.json
var Schema []byte

// Manifest says what a build is. Digests are lower-case hex, sizes and
// offsets are in bytes.
type Manifest struct {
	Version         string  `json:"version"`
	Product         string  `json:"product"`
	Hardware        string  `json:"hardware"`
	SecurityVersion uint64  `json:"security_version"`
	SourceDateEpoch int64   `json:"source_date_epoch"` // seconds since 1970
	Development     bool    `json:"development"`       // signed with keys that nobody guards
	Unlock          string  `json:"unlock"`            // what opens the state volume: TPM or Passphrase
	Core            Core    `json:"core"`
	UKI             UKI     `json:"uki"`
	Disk            File    `json:"disk"`
	KernelConfig    File    `json:"kernel_config"`
	SBOM            File    `json:"sbom"`
	Inputs          []Input `json:"inputs"`
}

// What opens the state volume. By a passphrase, nothing binds it to the machine
// and no floor stops an older release.
const (
	TPM        = "tpm"
	Passphrase = "passphrase"
)

// Core is the image of a slot: file system, verity tree, parity.
type Core struct {
	SHA256     string `json:"sha256"`
	Size       uint64 `json:"size"`
	RootHash   string `json:"root_hash"`
	Salt       string `json:"salt"`
	DataBlocks uint64 `json:"data_blocks"` // of 4096 bytes
	HashOffset uint64 `json:"hash_offset"` // of the verity superblock
	FECOffset  uint64 `json:"fec_offset"`
	FECRoots   uint   `json:"fec_roots"`
}

// UKI is the signed unified kernel image.
type UKI struct {
	SHA256  string `json:"sha256"`
	Size    uint64 `json:"size"`
	Cmdline string `json:"cmdline"` // of the .cmdline section
	Measured
	Recovery Measured `json:"recovery"` // of the recovery profile
}

// Measured is what a profile of the UKI leaves in the TPM: PCR11 is what it
// shows once the system is up, PhasesPCR11 what it shows after each phase on the
// way, the last being PCR11 again.
type Measured struct {
	PCR11       string  `json:"pcr11"`
	PhasesPCR11 []Phase `json:"phases"`
}

// Phase is a value of PCR 11 by the path of phases that leads to it, as
// systemd-measure names it: "enter-initrd:leave-initrd".
type Phase struct {
	Path  string `json:"path"`
	PCR11 string `json:"pcr11"`
}

// File is one whole file of the build.
type File struct {
	SHA256 string `json:"sha256"`
	Size   uint64 `json:"size"`
}

// Input is something that the build was made from.
type Input struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
}

// Parse reads a manifest. Unknown fields, missing ones and values out of
// form are errors.
func Parse(text []byte) (Manifest, error) {
	var m Manifest
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&m); err != nil {
		return Manifest{}, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Manifest{}, errors.New("there is more after the manifest")
	}
	if err := m.check(); err != nil {
		return Manifest{}, err
	}
	return m, nil
}

// Print returns the canonical text of a manifest.
func Print(m Manifest) ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("internal error: the manifest is not valid: %w", err)
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(m); err != nil {
		return nil, err
	}
	return text.Bytes(), nil
}

func (m Manifest) check() error {
	for _, field := range []struct{ name, value string }{
		{"version", m.Version}, {"product", m.Product}, {"hardware", m.Hardware}, {"uki.cmdline", m.UKI.Cmdline},
	} {
		if field.value == "" {
			return fmt.Errorf("%s is missing", field.name)
		}
	}
	digests := []struct{ name, value string }{
		{"core.sha256", m.Core.SHA256},
		{"core.root_hash", m.Core.RootHash},
		{"core.salt", m.Core.Salt},
		{"uki.sha256", m.UKI.SHA256},
		{"uki.pcr11", m.UKI.PCR11},
		{"uki.recovery.pcr11", m.UKI.Recovery.PCR11},
		{"disk.sha256", m.Disk.SHA256},
		{"kernel_config.sha256", m.KernelConfig.SHA256},
		{"sbom.sha256", m.SBOM.SHA256},
	}
	for _, input := range m.Inputs {
		digests = append(digests, struct{ name, value string }{"the sha256 of input " + input.Name, input.SHA256})
	}
	for _, phase := range slices.Concat(m.UKI.PhasesPCR11, m.UKI.Recovery.PhasesPCR11) {
		digests = append(digests, struct{ name, value string }{"the pcr11 of phase " + phase.Path, phase.PCR11})
	}
	for _, digest := range digests {
		raw, err := hex.DecodeString(digest.value)
		if err != nil || len(raw) != 32 || strings.ToLower(digest.value) != digest.value {
			return fmt.Errorf("%s is not 32 bytes in lower-case hex: %q", digest.name, digest.value)
		}
	}
	const block = 4096
	switch {
	case m.SecurityVersion == 0:
		return errors.New("security_version is missing")
	case m.Unlock != TPM && m.Unlock != Passphrase:
		return fmt.Errorf("unlock is neither %q nor %q", TPM, Passphrase)
	case m.SourceDateEpoch <= 0:
		return errors.New("source_date_epoch is missing")
	case m.Core.DataBlocks == 0 || m.Core.HashOffset != m.Core.DataBlocks*block:
		return errors.New("core.hash_offset is not the end of core.data_blocks")
	case m.Core.FECOffset <= m.Core.HashOffset || m.Core.FECOffset >= m.Core.Size || m.Core.FECOffset%block != 0:
		return errors.New("core.fec_offset does not lie between the verity tree and the end of the core")
	case m.Core.FECRoots < 2 || m.Core.FECRoots > 24:
		return errors.New("core.fec_roots is not between 2 and 24")
	case len(m.Inputs) == 0:
		return errors.New("inputs are missing")
	case len(m.UKI.PhasesPCR11) == 0 || len(m.UKI.Recovery.PhasesPCR11) == 0:
		return errors.New("uki.phases are missing")
	}
	return nil
}
