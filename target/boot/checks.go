package boot

import (
	"errors"
	"fmt"
	"io/fs"

	"cloison/format/profile"
	"cloison/linux/efivar"
	"cloison/target/refusal"
)

// tree is all that may be in the initramfs when it starts, and what it is.
// systemd-stub(7) adds files below /.extra: the four named here come from the
// signed UKI itself; add-ons, credentials, sysexts and confexts do not.
var tree = map[string]fs.FileMode{
	".":                              fs.ModeDir,
	"init":                           0,
	"cmdline":                        0,
	"recovery.pub":                   0,
	"os-release":                     0,
	"dev":                            fs.ModeDir, // dev, dev/console and root are in every kernel's
	"dev/console":                    fs.ModeDevice | fs.ModeCharDevice,
	"root":                           fs.ModeDir,
	"proc":                           fs.ModeDir,
	"sys":                            fs.ModeDir,
	"run":                            fs.ModeDir,
	"sysroot":                        fs.ModeDir,
	"usr":                            fs.ModeDir, // usr and lib64 are empty: the core's tools appear there
	"lib64":                          fs.ModeDir,
	".extra":                         fs.ModeDir,
	".extra/os-release":              0,
	".extra/profile":                 0,
	".extra/tpm2-pcr-signature.json": 0,
	".extra/tpm2-pcr-public-key.pem": 0,
}

// checkTree refuses whatever was added to the initramfs.
func checkTree(root fs.FS) error {
	return fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("cannot look through the initramfs: %w", err)
		}
		kind, ok := tree[path]
		if !ok {
			return fmt.Errorf("unsigned file /%s was added to the initramfs", path)
		}
		if d.Type() != kind {
			return fmt.Errorf("/%s of the initramfs is a %v, not a %v", path, d.Type(), kind)
		}
		return nil
	})
}

// off takes the name in, which alone may start an error with a capital.
const off = "%s is off: the firmware has checked nothing"

// checkSecureBoot refuses firmware that does not check signatures, or lets
// anybody enrol keys.
func checkSecureBoot(vars refusal.Variables) error {
	enabled, err := flag(vars, "SecureBoot")
	if err != nil {
		return err
	}
	setup, err := flag(vars, "SetupMode")
	if err != nil {
		return err
	}
	switch {
	case !enabled:
		return fmt.Errorf(off, "Secure Boot")
	case setup:
		return errors.New("the firmware is in setup mode: anybody can enrol keys")
	}
	return nil
}

func flag(vars refusal.Variables, name string) (bool, error) {
	v, err := vars.Read(name, efivar.Global)
	if err != nil {
		return false, err
	}
	on, err := v.Flag()
	if err != nil {
		return false, fmt.Errorf("cannot trust %s: %w", name, err)
	}
	return on, nil
}

// pcrs is the part of a TPM that the checks need.
type pcrs interface {
	PCR(index int) ([32]byte, error)
}

// checkUnsigned refuses a boot into which something was put from outside the
// UKI: the PCRs into which systemd-stub(7) measures that must be what the choice
// of the profile alone makes of them.
func checkUnsigned(t pcrs, chosen profile.Profile) error {
	for _, u := range []struct {
		index int
		want  [32]byte
		what  string
	}{
		{12, chosen.PCR12(), "a command line, an add-on or a credential that nobody signed"},
		{13, [32]byte{}, "a system extension that nobody signed"},
	} {
		value, err := t.PCR(u.index)
		if err != nil {
			return err
		}
		if value == u.want {
			continue
		}
		want := "zero"
		if u.want != [32]byte{} {
			want = fmt.Sprintf("%x", u.want)
		}
		return fmt.Errorf("PCR %d is %x, not %s: %s was handed to the boot", u.index, value, want, u.what)
	}
	return nil
}
