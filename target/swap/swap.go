// Package swap gives the kernel a partition to swap to, encrypted by a key that
// lives until the machine is off: it is drawn at each boot and never leaves the
// kernel's memory, so that nothing can be read of it afterwards.
//
// It is not authenticated. A page that was changed on the disk while the machine
// runs comes back as noise: docs/decisions/0013-swap.md.
//
// It needs device-mapper with crypt, the kernel's keyring, and CONFIG_SWAP.
package swap

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"

	format "cloison/format/swap"
	"cloison/linux/block"
	"cloison/linux/devicemapper"
	"cloison/linux/swap"
)

// Mapping is the device's name for device-mapper.
const Mapping = "swap"

// Area is what the kernel swaps to.
type Area struct {
	Partition string // node
	Size      uint64 // bytes
	Node      string // of the mapped device
}

// Open draws a key and lets the kernel swap to the partition under it. What was
// on the partition is lost.
func Open(partition string) (Area, error) {
	a, err := open(partition)
	if err != nil {
		return Area{}, fmt.Errorf("swap on %s: %w", partition, err)
	}
	return a, nil
}

func open(partition string) (a Area, err error) {
	a = Area{Partition: partition}
	if a.Size, err = size(partition); err != nil {
		return a, err
	}
	a.Size -= a.Size % format.PageSize
	header, err := format.Header(a.Size)
	if err != nil {
		return a, err
	}
	key := new([devicemapper.KeySize]byte)
	_, _ = rand.Read(key[:]) // never fails: the program ends instead (crypto/rand)
	if a.Node, err = devicemapper.CreateEncrypted(Mapping, "CLOISON-"+Mapping, partition, a.Size, key); err != nil {
		return a, err
	}
	if err = block.Write(a.Node, header, 0); err == nil {
		err = swap.On(a.Node)
	}
	if err != nil {
		return a, errors.Join(err, devicemapper.Remove(Mapping))
	}
	return a, nil
}

// Close brings everything back into memory and forgets the key.
func (a Area) Close() error {
	err := swap.Off(a.Node)
	if err == nil {
		err = devicemapper.Remove(Mapping)
	}
	if err != nil {
		return fmt.Errorf("swap on %s: %w", a.Partition, err)
	}
	return nil
}

func size(node string) (uint64, error) {
	f, err := os.Open(node)
	if err != nil {
		return 0, err
	}
	defer f.Close() // only read from
	n, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, fmt.Errorf("cannot tell its size: %w", err)
	}
	return uint64(n), nil
}
