package boot

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	format "cloison/format/efivar"
	"cloison/format/profile"
	"cloison/linux/efivar"
)

func TestCheckTree(t *testing.T) {
	good := func() fstest.MapFS {
		return fstest.MapFS{
			"init": {Mode: 0o755}, "cmdline": {Mode: 0o444}, "dev": {Mode: fs.ModeDir | 0o755},
			"usr": {Mode: fs.ModeDir | 0o555}, "lib64": {Mode: fs.ModeDir | 0o555},
			"dev/console":                    {Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600},
			"root":                           {Mode: fs.ModeDir | 0o700},
			".extra/os-release":              {Mode: 0o444},
			".extra/tpm2-pcr-signature.json": {Mode: 0o444},
		}
	}
	if err := checkTree(good()); err != nil {
		t.Errorf("checkTree(good) = %v, want nil", err)
	}
	for path, mode := range map[string]fs.FileMode{
		".extra/credentials/x.cred":        0o444,
		".extra/global_credentials/x.cred": 0o444,
		".extra/sysext/x.raw":              0o444,
		".extra/confext/x.raw":             0o444,
		"etc/x":                            0o444,
		"usr/bin/sh":                       0o755,
		"usr/sbin/cryptsetup":              0o555,
		"lib64":                            fs.ModeSymlink | 0o777,
		"cmdline":                          fs.ModeSymlink | 0o777,
		"init":                             fs.ModeDir | 0o755,
		"root/x":                           0o444,
	} {
		tree := good()
		tree[path] = &fstest.MapFile{Mode: mode}
		if err := checkTree(tree); err == nil {
			t.Errorf("checkTree with %s (%v) = nil, want a refusal", path, mode)
		}
	}
}

type variables map[string]format.Variable

func (v variables) Read(name, vendor string) (format.Variable, error) {
	x, ok := v[name]
	if !ok || vendor != efivar.Global {
		return format.Variable{}, fmt.Errorf("cannot read %s: %w", name, efivar.ErrMissing)
	}
	return x, nil
}

func TestCheckSecureBoot(t *testing.T) {
	on, off := format.Variable{Attributes: 6, Data: []byte{1}}, format.Variable{Attributes: 6, Data: []byte{0}}
	stored := format.Variable{Attributes: 7, Data: []byte{1}}
	for _, test := range []struct {
		vars variables
		want string
	}{
		{variables{"SecureBoot": on, "SetupMode": off}, ""},
		{variables{"SecureBoot": off, "SetupMode": off}, "Secure Boot is off"},
		{variables{"SecureBoot": off, "SetupMode": on}, "Secure Boot is off"},
		{variables{"SecureBoot": on, "SetupMode": on}, "setup mode"},
		{variables{"SecureBoot": stored, "SetupMode": off}, "cannot trust SecureBoot"},
		{variables{"SecureBoot": {Attributes: 6}, "SetupMode": off}, "cannot trust SecureBoot"},
		{variables{"SetupMode": off}, "cannot read SecureBoot"},
		{variables{"SecureBoot": on}, "cannot read SetupMode"},
	} {
		err := checkSecureBoot(test.vars)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("checkSecureBoot(%v) = %v, want %q", test.vars, err, test.want)
		}
	}
}

type registers map[int][32]byte

func (r registers) PCR(index int) ([32]byte, error) {
	v, ok := r[index]
	if !ok {
		return v, fmt.Errorf("cannot read PCR %d", index)
	}
	return v, nil
}

func TestCheckUnsigned(t *testing.T) {
	recovery := profile.Recovery.PCR12()
	for _, test := range []struct {
		r      registers
		chosen profile.Profile
		want   string
	}{
		{registers{12: {}, 13: {}}, profile.Main, ""},
		{registers{12: {31: 1}, 13: {}}, profile.Main, "PCR 12 is 0000000000000000000000000000000000000000000000000000000000000001, not zero"},
		{registers{12: {}, 13: {1}}, profile.Main, "PCR 13"},
		{registers{12: {}}, profile.Main, "cannot read PCR 13"},
		{registers{13: {}}, profile.Main, "cannot read PCR 12"},
		{registers{12: recovery, 13: {}}, profile.Recovery, ""},
		{registers{12: recovery, 13: {}}, profile.Main, "not zero"},
		{registers{12: {}, 13: {}}, profile.Recovery, fmt.Sprintf("not %x", recovery)},
		{registers{12: recovery, 13: {1}}, profile.Recovery, "PCR 13"},
	} {
		err := checkUnsigned(test.r, test.chosen)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("checkUnsigned(%v, %q) = %v, want %q", test.r, test.chosen, err, test.want)
		}
	}
}
