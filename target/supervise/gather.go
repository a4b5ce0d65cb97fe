package supervise

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"cloison/linux/efivar"
)

// pcrs is what the status shows.
var pcrs = []PCR{
	{Index: 4, What: "loader and UKI"},
	{Index: 7, What: "Secure Boot keys"},
	{Index: 11, What: "UKI and boot phases"},
	{Index: 12, What: "unsigned additions"},
	{Index: 13, What: "unsigned extensions"},
	{Index: 15, What: "state volume"},
}

// status gathers what is known now; without measured the PCRs are left out.
func (s *supervisor) status(measured bool) (Status, error) {
	st := Status{
		Title: s.release.Get("PRETTY_NAME"), Version: s.facts.Core.Version,
		Product: s.release.Get("CLOISON_PRODUCT"), SecurityVersion: s.release.Get("CLOISON_SECURITY_VERSION"),
		Development: s.facts.Core.Development, RootHash: s.facts.Core.RootHash,
		Slot: s.facts.Slot, Device: s.facts.Device, GPTBackup: s.facts.GPTBackup,
		Initramfs: s.facts.Initramfs, Opened: s.facts.Opened, Unsealed: s.facts.Unsealed, PID1: s.started, Ready: s.ready,
		Repaired: s.repaired, Entry: s.entry, Watchdog: "none: a system that hangs will not restart by itself",
	}
	st.Title = strings.TrimSuffix(strings.TrimSuffix(st.Title, " DEVELOPMENT BUILD"), " "+st.Version)
	if s.watchdog != nil {
		st.Watchdog = fmt.Sprintf("%s, %v", s.watchdog.Identity, s.watchdog.Timeout)
	}
	if err := s.stateStatus(&st); err != nil {
		return Status{}, err
	}
	if measured {
		for _, p := range pcrs {
			if s.tpm == nil {
				break
			}
			var err error
			if p.Value, err = s.tpm.PCR(p.Index); err != nil {
				return Status{}, err
			}
			st.PCRs = append(st.PCRs, p)
		}
		s.loaderTimes(&st)
	}
	now := time.Now()
	for _, h := range s.services {
		row := ServiceStatus{Name: h.title(), Stage: string(h.stage), For: now.Sub(h.since), Restarts: h.restarts, Reason: h.reason, Limit: uint64(h.Limits.Memory)}
		if h.run != nil {
			row.PID = h.run.pid
		}
		usage, err := h.group.Usage()
		if err != nil {
			return Status{}, err
		}
		row.Memory, row.Processes, row.AtMost = usage.Memory, usage.PIDs, uint64(h.Limits.Processes)
		kept, err := s.kept(h.Service)
		if err != nil {
			return Status{}, err
		}
		row.Kept, row.Files = kept.Bytes, kept.Files
		row.MayKeep, row.MayFiles = uint64(h.Limits.State), uint64(h.Limits.StateFiles)
		st.Services = append(st.Services, row)
	}
	meminfo, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return Status{}, fmt.Errorf("cannot tell the memory in use: %w", err)
	}
	total, available, err := memory(string(meminfo), "Mem", "Available")
	if err != nil {
		return Status{}, err
	}
	st.MemoryTotal, st.MemoryUsed = total, total-available
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return Status{}, fmt.Errorf("cannot tell the memory in use: %w", err)
	}
	if st.Own, err = resident(string(statm)); err != nil {
		return Status{}, err
	}
	if s.swap != nil {
		free := uint64(0)
		if st.SwapTotal, free, err = memory(string(meminfo), "Swap", "Free"); err != nil {
			return Status{}, err
		}
		st.Swap, st.SwapUsed = s.swap.Partition, st.SwapTotal-free
	}
	return st, nil
}

// loaderTimes adds what the loader tells of the time before the kernel. It is
// for information, and a loader may not tell.
func (s *supervisor) loaderTimes(st *Status) {
	begin, err1 := s.vars.Read("LoaderTimeInitUSec", efivar.Loader)
	end, err2 := s.vars.Read("LoaderTimeExecUSec", efivar.Loader)
	if err1 != nil || err2 != nil {
		return
	}
	b, err1 := begin.Since()
	e, err2 := end.Since()
	if err1 == nil && err2 == nil && e >= b {
		st.Firmware, st.Loader = b, e-b
	}
}

// resident reads how much memory a process has resident, in KiB, from its statm
// (proc(5)), which counts pages of 4 KiB.
func resident(statm string) (uint64, error) {
	f := strings.Fields(statm)
	if len(f) != 7 {
		return 0, fmt.Errorf("cannot parse /proc/self/statm: %q", statm)
	}
	pages, err := strconv.ParseUint(f[1], 10, 32)
	if err != nil {
		return 0, fmt.Errorf("cannot parse /proc/self/statm: %w", err)
	}
	return pages * 4, nil
}

// memory reads how much there is of a kind of memory (Mem, Swap) and how much of
// it is Available or Free, in KiB, from /proc/meminfo (proc(5)).
func memory(meminfo, kind, left string) (total, available uint64, err error) {
	found, all, rest := 0, kind+"Total:", kind+left+":"
	for line := range strings.Lines(meminfo) {
		f := strings.Fields(line)
		if len(f) != 3 || f[2] != "kB" || f[0] != all && f[0] != rest {
			continue
		}
		n, err := strconv.ParseUint(f[1], 10, 53)
		if err != nil {
			return 0, 0, fmt.Errorf("cannot parse /proc/meminfo: %w", err)
		}
		if found++; f[0] == all {
			total = n
		} else {
			available = n
		}
	}
	if found != 2 || available > total {
		return 0, 0, fmt.Errorf("cannot parse /proc/meminfo: no %s and %s", all, rest)
	}
	return total, available, nil
}
