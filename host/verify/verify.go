// Package verify checks a finished build from the outside: its folder or its
// disk alone, with nothing trusted but the certificates of the keys. It needs
// no privilege and no tool: nothing is mounted, nothing is run.
//
// What each check holds is in the table that String prints; the formats are
// those of the packages of format.
package verify

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"cloison/format/hint"
	"cloison/format/release"
	"cloison/host/build"
)

// Options say what to check, and whom to believe.
type Options struct {
	Path    string            // folder of a build, or a disk image
	DB      *x509.Certificate // signs loader and UKI
	Release *x509.Certificate // signs the manifest; may be nil where there is only a disk
	// PK and KEK sign what a machine in setup mode enrols. Without them, what is
	// enrolled is compared, and who signed it is not.
	PK, KEK *x509.Certificate
	// Policy signs what a machine's TPM gives the state volume to. Without it,
	// the signature is checked by the key in the image itself.
	Policy *x509.Certificate
}

// Check is one thing that was looked at.
type Check struct {
	Name    string `json:"check"`
	Subject string `json:"subject"`
	OK      bool   `json:"ok"`
	Detail  string `json:"detail,omitempty"`
}

// Names of the checks.
const (
	Manifest      = "manifest"
	ManifestSig   = "manifest signature"
	Digest        = "digest"
	SDKList       = "sdk list"
	Partitions    = "partition table"
	ESP           = "esp"
	ESPFiles      = "esp files"
	Signature     = "signature"
	LoaderConf    = "loader configuration"
	Enrolment     = "key enrolment"
	UKI           = "uki"
	CommandLine   = "command line"
	Profiles      = "profiles"
	PCR11         = "pcr 11"
	TPMPolicy     = "tpm policy"
	Initramfs     = "initramfs"
	Slot          = "slot"
	VerityTree    = "verity tree"
	FEC           = "fec parity"
	FileSystem    = "file system"
	Services      = "services"
	FileTypes     = "no special files"
	SetID         = "no setuid or setgid"
	Writable      = "no writable by others"
	Owner         = "owned by root"
	Attributes    = "no attributes"
	NoInterpreter = "no shell or interpreter"
	NoToolchain   = "no compiler or packager"
	Executables   = "only ELF is executable"
	Hardening     = "hardening"
)

// Report is what was found.
type Report struct {
	Path   string   `json:"path"`
	OK     bool     `json:"ok"`
	Checks []Check  `json:"checks"`
	Notes  []string `json:"notes,omitempty"` // what could not be compared, and why
}

// Failed returns how many checks failed.
func (r *Report) Failed() int {
	failed := 0
	for _, c := range r.Checks {
		if !c.OK {
			failed++
		}
	}
	return failed
}

// String is the report as a table for people.
func (r *Report) String() string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CHECK\tOF\tRESULT\tDETAIL")
	for _, c := range r.Checks {
		result := "ok"
		if !c.OK {
			result = "FAILED"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", c.Name, c.Subject, result, strings.ReplaceAll(c.Detail, "\n", "; "))
	}
	t.Flush() // into memory: cannot fail
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", note)
	}
	if failed := r.Failed(); failed > 0 {
		fmt.Fprintf(&b, "FAILED: %d of %d checks\n", failed, len(r.Checks))
	} else {
		fmt.Fprintf(&b, "ok: all %d checks\n", len(r.Checks))
	}
	return b.String()
}

// verifier holds what one run knows so far.
type verifier struct {
	Options
	report   Report
	manifest *release.Manifest // nil: nothing to compare with
	folder   string            // of the build; "" where there is only a disk
	uki      []byte            // DIR/cloison_VERSION.efi; nil where there is only a disk
}

// record adds one check: err says what is wrong, the detail what was right.
func (v *verifier) record(name, subject string, err error, detail string, args ...any) {
	c := Check{Name: name, Subject: subject, OK: err == nil, Detail: fmt.Sprintf(detail, args...)}
	if err != nil {
		c.Detail = err.Error()
	}
	v.report.Checks = append(v.report.Checks, c)
}

func (v *verifier) note(format string, args ...any) {
	v.report.Notes = append(v.report.Notes, fmt.Sprintf(format, args...))
}

// errNotReached is what a check says that another one's failure made
// impossible: it counts as failed.
func errNotReached(name string) error { return fmt.Errorf("not checked: %s failed", name) }

// Run checks a build. The error is about what could not be looked at at all;
// what is wrong with the build is in the report.
func Run(ctx context.Context, o Options) (*Report, error) {
	v := &verifier{Options: o}
	v.report.Path = o.Path
	if o.DB == nil {
		return nil, errors.New("cannot verify without the db certificate")
	}
	info, err := os.Stat(o.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, hint.Wrap(fmt.Errorf("cannot verify %s: it does not exist", o.Path), "build it first with: cloison build")
	case err != nil:
		return nil, fmt.Errorf("cannot verify: %w", err)
	}
	disk := o.Path
	if info.IsDir() {
		v.folder, disk = o.Path, filepath.Join(o.Path, build.DiskName)
		if o.Release == nil {
			return nil, hint.Wrap(fmt.Errorf("cannot verify %s without the release certificate", o.Path), "name it with --release-key, or a folder of keys with --keys")
		}
		if err := v.build(); err != nil {
			return nil, err
		}
	} else {
		v.note("only a disk: there is no manifest, core.img or UKI file to compare it with")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := v.disk(ctx, disk); err != nil {
		return nil, err
	}
	v.report.OK = v.report.Failed() == 0
	return &v.report, nil
}
