// Package pcr predicts the value of TPM register PCR 11, bank SHA-256, that
// a unified kernel image leaves: systemd-stub measures the image's sections,
// then each boot phase is extended by name. It needs nothing but the image's
// sections, so that a policy can be signed before the image ever boots.
//
// Source: systemd-stub(7), "TPM PCR Notes"; systemd-measure(1);
// systemd-pcrphase.service(8); TCG PC Client Platform Firmware Profile 1.06,
// EV_IPL; TPM 2.0 Part 1, section 17.2 (extend).
package pcr

import (
	"crypto/sha256"

	"cloison/format/uki"
)

// The phases of a Cloison boot, in order, with systemd's words.
const (
	EnterInitrd = "enter-initrd" // /init has started
	LeaveInitrd = "leave-initrd" // /init is about to switch root
	SysInit     = "sysinit"      // PID 1 has mounted and set its sysctls
	Ready       = "ready"        // every required service is ready
)

// Measured are the sections that systemd-stub extends into PCR 11, in the
// order in which it does so, whatever their order in the file. The signature
// of the policy (.pcrsig) cannot be part of what it signs.
var Measured = []string{
	".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash",
	".uname", ".sbat", ".pcrpkey", ".profile",
}

// UKI returns PCR 11 after systemd-stub has measured the sections: for each
// one, its name with a closing NUL, then its content. The sections must be
// those of one profile of the finished image, from uki.Profiles: the stub's own
// .sbat counts.
func UKI(sections []uki.Section) [32]byte {
	var p [32]byte
	for _, name := range Measured {
		for _, s := range sections {
			if s.Name == name {
				p = Extend(p, append([]byte(name), 0))
				p = Extend(p, s.Data)
			}
		}
	}
	return p
}

// Extend returns SHA-256(pcr ‖ SHA-256(data)).
func Extend(pcr [32]byte, data []byte) [32]byte {
	digest := sha256.Sum256(data)
	return sha256.Sum256(append(pcr[:], digest[:]...))
}

// Phases extends the names of the phases, in order and without a NUL.
func Phases(pcr [32]byte, phases ...string) [32]byte {
	for _, phase := range phases {
		pcr = Extend(pcr, []byte(phase))
	}
	return pcr
}
