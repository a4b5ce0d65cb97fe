package boot

import (
	"errors"
	"fmt"

	"cloison/format/gpt"
	"cloison/linux/block"
)

// grow makes the state partition, the last one, reach to the end of its disk: an
// image is smaller than the disks that it is copied to. Power may fail at any
// point: the table is the old or the new one.
func grow(name string, say func(string, ...any)) error {
	disks, err := block.Disks()
	if err != nil {
		return err
	}
	for _, disk := range disks {
		if disk.Name == name {
			return growOn(disk, say)
		}
	}
	return fmt.Errorf("cannot find disk %s again", name)
}

func growOn(disk block.Disk, say func(string, ...any)) error {
	dev, err := block.Open(block.Node(disk.Name))
	if err != nil {
		return err
	}
	defer dev.Close() // only read from
	table, err := gpt.Read(dev, disk.Size, disk.SectorSize)
	if err != nil {
		return err
	}
	for _, p := range table.Partitions {
		if p.Type != gpt.State {
			continue
		}
		grown, pieces, err := gpt.Grow(dev, disk.Size, disk.SectorSize, p.Number)
		if err != nil {
			return err
		}
		for _, piece := range pieces {
			if err := block.Write(block.Node(disk.Name), piece.Data, piece.Offset); err != nil {
				return err
			}
		}
		if grown.Size == p.Size {
			return nil
		}
		say("state volume: its partition grows from %d to %d MiB", p.Size>>20, grown.Size>>20)
		return block.Resize(disk.Name, p.Number, grown.Start, grown.Size)
	}
	return errors.New("cannot find the state partition again")
}
