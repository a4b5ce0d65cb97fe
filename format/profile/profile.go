// Package profile names the profiles of a Cloison UKI: the two ways in which the
// one signed file can be started. What a .profile section holds is measured by
// systemd-stub into PCR 11 and handed to the initramfs as /.extra/profile; the
// loader's menu shows the title of the second.
//
// It needs nothing but the standard library and cloison/format/osrelease.
//
// Source: systemd-stub(7), "Profiles"; UAPI.5 "Unified Kernel Image".
package profile

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"

	"cloison/format/osrelease"
)

// Profile is one of them.
type Profile int

// The profiles. The zero one gets least from the TPM.
const (
	Recovery Profile = iota // takes the recovery passphrase, and gets nothing from the TPM
	Main
)

// All are the profiles in the order of the file. The loader starts the first,
// unless somebody chooses.
var All = []Profile{Main, Recovery}

var texts = map[Profile]string{
	Main:     "ID=main\n",
	Recovery: "ID=recovery\nTITLE=recovery\n",
}

// String is the content of the section.
func (p Profile) String() string { return texts[p] }

// Parse reads the content of the section.
func Parse(text []byte) (Profile, error) {
	for _, p := range All {
		if string(text) == texts[p] {
			return p, nil
		}
	}
	return Recovery, fmt.Errorf("cannot tell the profile of the UKI: %q", text)
}

// OSRelease is what the .osrel section of the profile says, from that of the
// release. The loader sorts its menu by IMAGE_ID, and starts the first entry:
// the recovery profiles of all releases come after the others.
func (p Profile) OSRelease(of osrelease.Release) osrelease.Release {
	own := append(osrelease.Release(nil), of...)
	for i, f := range own {
		if f.Key == "IMAGE_ID" && p == Recovery {
			own[i].Value += "-recovery"
		}
	}
	return own
}

// PCR12 is what systemd-boot and systemd-stub leave in PCR 12 where they start the
// profile and nothing was handed over from outside the UKI. Of the first profile
// it is zero. To start another one the loader gives the stub the option @n, and
// measures that; the stub measures the number that it takes from it. Both are
// UTF-16 with a closing NUL.
//
// Source: systemd-boot(7) and systemd-stub(7), "TPM PCR Notes"; what version 257
// does.
func (p Profile) PCR12() (value [32]byte) {
	n := slices.Index(All, p)
	if n == 0 {
		return value
	}
	number := strconv.Itoa(n)
	for _, text := range []string{"@" + number, number} {
		var wide []byte
		for _, c := range []byte(text + "\x00") {
			wide = append(wide, c, 0)
		}
		digest := sha256.Sum256(wide)
		value = sha256.Sum256(append(value[:], digest[:]...))
	}
	return value
}
