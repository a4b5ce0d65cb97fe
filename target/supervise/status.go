package supervise

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"cloison/format/bootfacts"
	"cloison/target/seal"
)

// Status is what was verified and measured, for whoever sits at the console and
// for the line that says that the system is ready.
type Status struct {
	Title, Version, Product string
	SecurityVersion         string
	Development             bool
	RootHash                [32]byte
	Slot, Device            string
	GPTBackup               bool
	PCRs                    []PCR
	// Firmware and Loader are how long these two took, 0 where the loader does
	// not tell; the others are since the kernel started.
	Firmware, Loader               time.Duration
	Initramfs, Opened, PID1, Ready time.Duration
	Unsealed                       time.Duration
	State                          StateStatus
	Repaired                       uint64 // blocks
	Watchdog                       string
	Swap                           string // node of its partition, "" where there is none
	SwapUsed, SwapTotal            uint64 // KiB
	MemoryUsed, MemoryTotal        uint64 // KiB
	Own                            uint64 // of the memory in use, what PID 1 has resident, KiB
	Entry                          string // of the loader, "" where it counts nothing
	Services                       []ServiceStatus
}

// ServiceStatus is what is known of one service.
type ServiceStatus struct {
	Name, Stage   string
	For           time.Duration // in this stage
	PID           int           // 0 while it does not run
	Restarts      int
	Memory, Limit uint64 // bytes
	Processes     uint64 // and threads
	AtMost        uint64 // processes and threads
	Kept, MayKeep uint64 // bytes on the state volume
	Files         uint64 // there
	MayFiles      uint64
	Reason        string // of its last end, "" where it has not ended yet
}

// StateStatus is what is known of the state volume. That it is open means that
// PID 1 has checked how it is encrypted.
type StateStatus struct {
	Device, UUID string
	Made         bool // by this boot
	Unlock       bootfacts.Unlock
	Token        string // "0 of 1"
	Recovery     bool   // a recovery passphrase opens it, too
	Machine      string // machine-id
	Boots        uint64 // good ones
	Forged       uint64 // blocks found
	Shared       bool   // what each service keeps is bounded
	TPM          seal.Status
	Changes      string // of the Secure Boot databases, planned
	Passphrase   bool   // the product uses no TPM for it: TPM is empty
	Measured     bool   // there is a TPM, and it was told of the boot
}

// PCR is one value of the SHA-256 bank.
type PCR struct {
	Index int
	What  string
	Value [32]byte
}

const developmentLine = "***  DEVELOPMENT BUILD: signed by keys that prove nothing. DO NOT TRUST IT.  ***"

// String prints it for people, in lines of at most 100 characters.
func (s Status) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", s.Title, s.Version)
	if s.Development {
		fmt.Fprintf(&b, "%s\n", developmentLine)
	}
	b.WriteString("\n")
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-17s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("product", "%s, version %s, security version %s", s.Product, s.Version, s.SecurityVersion)
	row("Secure Boot", "on, setup mode off")
	table := ""
	if s.GPTBackup {
		table = "  (the primary partition table is damaged)"
	}
	row("slot", "%s on %s%s", s.Slot, s.Device, table)
	row("root hash", "%x", s.RootHash)
	for _, p := range s.PCRs {
		row(fmt.Sprintf("PCR %d", p.Index), "%x  %s", p.Value, p.What)
	}
	row("repaired blocks", "%d", s.Repaired)
	s.State.rows(row)
	row("watchdog", "%s", s.Watchdog)
	if s.Entry != "" {
		row("boot entry", "%s, marked good", s.Entry)
	}
	row("memory in use", "%.1f of %.1f MiB, %.1f of them PID 1's", float64(s.MemoryUsed)/1024, float64(s.MemoryTotal)/1024, float64(s.Own)/1024)
	if s.Swap != "" {
		row("swap in use", "%.1f of %.1f MiB on %s, aes-xts-plain64, a key of this boot", float64(s.SwapUsed)/1024, float64(s.SwapTotal)/1024, s.Swap)
	}
	s.services(&b)
	b.WriteString("\n  boot stage           took     since the kernel started\n")
	stage := func(name string, took, at time.Duration, since bool) {
		if !since {
			fmt.Fprintf(&b, "    %-14s %7.3f s\n", name, took.Seconds())
			return
		}
		fmt.Fprintf(&b, "    %-14s %7.3f s   %7.3f s\n", name, took.Seconds(), at.Seconds())
	}
	if s.Firmware > 0 {
		stage("firmware", s.Firmware, 0, false)
		stage("loader", s.Loader, 0, false)
	}
	stage("kernel", s.Initramfs, s.Initramfs, true)
	stage("initramfs", s.Opened-s.Initramfs, s.Opened, true)
	stage("state volume", s.Unsealed-s.Opened, s.Unsealed, true)
	stage("switch of root", s.PID1-s.Unsealed, s.PID1, true)
	stage("PID 1 to ready", s.Ready-s.PID1, s.Ready, true)
	return b.String()
}

// services prints theirs, in the order of their start.
func (s Status) services(b *strings.Builder) {
	b.WriteString("\n  service      stage       for          pid    restarts   memory of limit\n")
	for _, r := range s.Services {
		pid := "-"
		if r.PID != 0 {
			pid = strconv.Itoa(r.PID)
		}
		fmt.Fprintf(b, "    %-10s %-9s %9s %9s %9d %9.1f of %.0f MiB\n", r.Name, r.Stage, r.For.Round(time.Second), pid, r.Restarts,
			float64(r.Memory)/(1<<20), float64(r.Limit)/(1<<20))
		if r.Processes >= r.AtMost {
			fmt.Fprintf(b, "      at its limit of %d processes\n", r.AtMost)
		}
		if s.State.Shared && r.MayKeep > 0 {
			fmt.Fprintf(b, "      keeps %d of %d KiB in %d of %d files\n", r.Kept/1024, r.MayKeep/1024, r.Files, r.MayFiles)
		}
		if r.Reason != "" {
			fmt.Fprintf(b, "      last end: %s\n", r.Reason)
		}
	}
}

// rows prints the volume's part.
func (s StateStatus) rows(row func(name, format string, args ...any)) {
	made := "opened"
	if s.Made {
		made = "made by this boot"
	}
	row("state volume", "%s on %s, %s", s.UUID, s.Device, made)
	row("  encryption", "aes-xts-plain64, 512-bit key, sectors of 4096 bytes")
	row("  authentication", "hmac(sha256), journal; %d forged blocks found", s.Forged)
	limits := "of each service; 5 % are kept for PID 1"
	if !s.Shared {
		limits = "NONE: a release without them has made the volume"
	}
	row("  limits", "%s", limits)
	recovery := "no recovery passphrase"
	if s.Recovery {
		recovery = "the recovery passphrase opens it, too"
	}
	switch {
	case s.Unlock == bootfacts.Recovered && s.Passphrase:
		row("  opened by", "the recovery passphrase, for this boot alone")
	case s.Unlock == bootfacts.Rechosen:
		row("  opened by", "the recovery passphrase; another passphrase was chosen, which opens it from the next boot on")
	case s.Unlock == bootfacts.Passphrase:
		row("  opened by", "a passphrase that was typed; %s", recovery)
	case s.Unlock == bootfacts.Recovered:
		row("  opened by", "the recovery passphrase, for this boot alone: it was not sealed again")
	case s.Unlock == bootfacts.Resealed:
		row("  opened by", "the recovery passphrase; sealed to the TPM again, which opens it from the next boot on")
	default:
		row("  opened by", "the TPM, token %s; %s", s.Token, recovery)
	}
	if s.Passphrase {
		row("  policy", "none: NO rollback floor, NO binding to this machine; a first boot cannot be told from")
		row("", "an emptied disk: whoever holds the disk and the passphrase has the volume")
		row("  planned changes", "%s", s.Changes)
		if s.Measured {
			row("TPM", "measures the boot, keeps nothing of the state volume")
		} else {
			row("TPM", "none: this boot is not measured")
		}
		row("machine", "%s, boots found good: %d", s.Machine, s.Boots)
		return
	}
	row("  policy", "PCR 7 as sealed; PCR 11 in the initramfs, signed; security version %d, floor %d", s.TPM.SecurityVersion, s.TPM.Floor)
	row("  planned changes", "%s", s.Changes)
	tpm := "not provisioned"
	if s.TPM.Provisioned {
		tpm = "provisioned for this volume"
	}
	if !s.TPM.Owned {
		tpm += ", owner or lockout without authorisation"
	}
	if s.TPM.Lockout {
		tpm += ", locked out after wrong authorisations"
	}
	row("TPM", "%s", tpm)
	row("machine", "%s, boots found good: %d", s.Machine, s.Boots)
}

// Marker is the line that says that all is up: "key=value" words after a fixed
// beginning.
func (s Status) Marker() string {
	development := "no"
	if s.Development {
		development = "yes"
	}
	tpm, floor := "seals", strconv.FormatUint(s.State.TPM.Floor, 10)
	if s.State.Passphrase {
		tpm, floor = "none", "none"
		if s.State.Measured {
			tpm = "measures"
		}
	}
	return fmt.Sprintf("cloison: ready version=%s product=%s slot=%s roothash=%x secureboot=on development=%s security_version=%s ready_usec=%d memory_kib=%d repaired=%d state=%s unlock=%s tpm=%s floor=%s watchdog=%q",
		s.Version, s.Product, strings.TrimPrefix(s.Slot, "core-"), s.RootHash, development, s.SecurityVersion,
		s.Ready.Microseconds(), s.MemoryUsed, s.Repaired, s.State.UUID, s.State.Unlock, tpm, floor, s.Watchdog)
}
