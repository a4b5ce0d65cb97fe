package boot

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"cloison/format/cmdline"
	"cloison/format/gpt"
	"cloison/format/verity"
	"cloison/linux/block"
	"cloison/linux/uevent"
)

// disks is where slots are looked for.
type disks interface {
	Disks() ([]block.Disk, error)
	Partitions(disk string) ([]block.Partition, error)
	Open(node string) (block.Device, error)
}

// announcements tells when to look again.
type announcements interface {
	Wait(time.Duration) error
}

// slot is the partition that holds the signed core.
type slot struct {
	Label     string // core-a
	Device    string // /dev/vda2
	Disk      string // vda
	ESP       string // on the same disk
	State     string // likewise
	Swap      string // likewise; "" where the signed core does not swap
	GPTBackup bool
}

// waitSlot looks for the slot each time that a device appears, at most for
// limit. The error tells why each candidate was refused.
func waitSlot(d disks, events announcements, core cmdline.Core, limit time.Duration) (slot, error) {
	end := time.Now().Add(limit)
	for {
		s, refused, err := findSlot(d, core)
		if err != nil || s != (slot{}) {
			return s, err
		}
		err = events.Wait(time.Until(end))
		if errors.Is(err, uevent.ErrDeadline) {
			why := strings.Join(refused, "; ")
			if why == "" {
				why = "there is no disk"
			}
			return slot{}, fmt.Errorf("no slot holds root hash %x: %s", core.RootHash, why)
		}
		if err != nil {
			return slot{}, err
		}
	}
}

// findSlot looks once. The zero slot means that there is none yet; refused tells
// why of each candidate.
func findSlot(d disks, core cmdline.Core) (s slot, refused []string, err error) {
	list, err := d.Disks()
	if err != nil {
		return slot{}, nil, err
	}
	for _, disk := range list {
		s, why, err := searchDisk(d, disk, core)
		if err != nil {
			// One unreadable disk must not hide the good one.
			why = []string{fmt.Sprintf("%s: %v", disk.Name, err)}
		}
		if s != (slot{}) {
			return s, nil, nil
		}
		refused = append(refused, why...)
	}
	return slot{}, refused, nil
}

func searchDisk(d disks, disk block.Disk, core cmdline.Core) (found slot, refused []string, err error) {
	dev, err := d.Open(block.Node(disk.Name))
	if err != nil {
		return slot{}, nil, err
	}
	defer dev.Close() // only read from
	table, err := gpt.Read(dev, disk.Size, disk.SectorSize)
	if err != nil {
		return slot{}, nil, err
	}
	kernel, err := d.Partitions(disk.Name)
	if err != nil {
		return slot{}, nil, err
	}
	for _, p := range table.Partitions {
		if p.Type != gpt.Core {
			continue
		}
		name, err := match(p, kernel)
		if err == nil {
			err = holds(d, block.Node(name), p.Size, core)
		}
		if err != nil {
			refused = append(refused, fmt.Sprintf("%s on %s: %v", p.Label, disk.Name, err))
			continue
		}
		esp, err := only(table, gpt.ESP, kernel)
		if err != nil {
			return slot{}, nil, err
		}
		state, err := only(table, gpt.State, kernel)
		if err != nil {
			return slot{}, nil, err
		}
		found := slot{Label: p.Label, Device: block.Node(name), Disk: disk.Name, ESP: block.Node(esp), State: block.Node(state), GPTBackup: table.Backup}
		if core.Swap {
			swap, err := only(table, gpt.Swap, kernel)
			if err != nil {
				return slot{}, nil, err
			}
			found.Swap = block.Node(swap)
		}
		return found, nil, nil
	}
	if refused == nil {
		refused = []string{disk.Name + ": no partition of Cloison's type"}
	}
	return slot{}, refused, nil
}

// match returns the kernel's name of a partition, which must agree with the
// table about where it lies.
func match(p gpt.Partition, kernel []block.Partition) (string, error) {
	for _, k := range kernel {
		if k.Number != p.Number {
			continue
		}
		if k.Start != p.Start || k.Size != p.Size {
			return "", fmt.Errorf("kernel sees %d bytes at %d, the table says %d at %d", k.Size, k.Start, p.Size, p.Start)
		}
		return k.Name, nil
	}
	return "", errors.New("kernel does not see it")
}

func only(t *gpt.Table, kind gpt.GUID, kernel []block.Partition) (string, error) {
	name := ""
	for _, p := range t.Partitions {
		if p.Type != kind {
			continue
		}
		n, err := match(p, kernel)
		if err != nil {
			return "", fmt.Errorf("%s: %w", p.Label, err)
		}
		if name != "" {
			return "", fmt.Errorf("two partitions of type %s", kind)
		}
		name = n
	}
	if name == "" {
		return "", fmt.Errorf("no partition of type %s", kind)
	}
	return name, nil
}

// holds reports, by an error, that the partition cannot be the signed core. Only
// the top of the tree is compared: the kernel checks the rest as it reads.
func holds(d disks, node string, size uint64, core cmdline.Core) error {
	if want := core.Size(); size < want {
		return fmt.Errorf("truncated: %d bytes, the signed core needs %d", size, want)
	}
	dev, err := d.Open(node)
	if err != nil {
		return err
	}
	defer dev.Close() // only read from
	// The superblock, and the top of the tree behind it.
	b := make([]byte, 2*verity.BlockSize)
	if n, err := dev.ReadAt(b, int64(core.HashOffset)); n != len(b) {
		return fmt.Errorf("cannot read the top of its tree: %w", err)
	}
	if verity.MatchesRoot(b[verity.BlockSize:], core.RootHash, core.Salt) {
		return nil
	}
	super, err := verity.ParseSuperblock(b[:verity.BlockSize])
	if err == nil && super.Salt == core.Salt && super.DataBlocks == core.DataBlocks {
		// Parity covers this block, but the kernel cannot use it here: while it
		// repairs a block of the tree it checks data against the same tree, and
		// restarts at the first mismatch (Linux 7.3, fec_read_bufs).
		return errors.New("the top of its tree is damaged")
	}
	return errors.New("holds another core")
}
