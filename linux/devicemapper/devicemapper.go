// Package devicemapper makes mapped devices with the ioctls of
// /dev/mapper/control.
//
// Source: Linux, include/uapi/linux/dm-ioctl.h and
// Documentation/admin-guide/device-mapper/{verity,dm-crypt}.rst. It needs
// CONFIG_BLK_DEV_DM and devtmpfs, which makes the nodes; CONFIG_KEYS for an
// encrypted device.
package devicemapper

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const control = "/dev/mapper/control"

// wantsData is for do alone: the answer carries more than its header.
const wantsData = 1 << 31

// sector is the unit of a table in bytes, whatever the device has.
const sector = 512

// Target is one line of a table, from sector 0 on.
type Target struct {
	Type   string
	Length uint64 // bytes, a multiple of 512
	Params string
}

// Verity is a dm-verity device whose data, tree and parity lie on one
// partition. Offsets are bytes from its start, multiples of 4096.
type Verity struct {
	Device         string // node of the partition
	DataBlocks     uint64 // of 4096 bytes
	HashOffset     uint64 // of the superblock; the tree follows it
	FECOffset      uint64 // of the parity
	FECRoots       uint
	RootHash, Salt [32]byte
}

// Target returns the line for the table. The kernel restarts the machine at the
// first block that neither matches nor can be repaired, and at the first that
// cannot be read: a system that goes on with I/O errors is one that an attacker
// steers block by block.
func (v Verity) Target() Target {
	const block = 4096
	hashStart := v.HashOffset/block + 1
	// Parity covers the data and all from the tree up to the parity itself:
	// what cryptsetup passes when all three share a device.
	covered := v.DataBlocks + v.FECOffset/block - hashStart
	options := []string{
		"restart_on_corruption", "restart_on_error",
		"use_fec_from_device", v.Device,
		"fec_start", strconv.FormatUint(v.FECOffset/block, 10),
		"fec_blocks", strconv.FormatUint(covered, 10),
		"fec_roots", strconv.FormatUint(uint64(v.FECRoots), 10),
	}
	return Target{
		Type:   "verity",
		Length: v.DataBlocks * block,
		Params: fmt.Sprintf("1 %s %s %d %d %d %d sha256 %x %x %d %s", v.Device, v.Device,
			block, block, v.DataBlocks, hashStart, v.RootHash, v.Salt, len(options), strings.Join(options, " ")),
	}
}

// CreateReadOnly makes the device name with one target and returns its node.
// On failure nothing is left.
func CreateReadOnly(name, uuid string, t Target) (node string, err error) {
	return create(name, uuid, t, unix.DM_READONLY_FLAG)
}

func create(name, uuid string, t Target, flags uint32) (node string, err error) {
	defer func() {
		if err != nil {
			node, err = "", fmt.Errorf("cannot make device %s: %w", name, err)
		}
	}()
	if t.Length == 0 || t.Length%sector != 0 || len(t.Type) >= unix.DM_MAX_TYPE_NAME {
		return "", fmt.Errorf("internal error: target %q of %d bytes", t.Type, t.Length)
	}
	c, err := open(name)
	if err != nil {
		return "", err
	}
	defer c.close()
	// 1. The empty device.
	io, _, err := c.do(unix.DM_DEV_CREATE, "create", flags, uuid, nil)
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_, _, undo := c.do(unix.DM_DEV_REMOVE, "remove", 0, "", nil)
			err = errors.Join(err, undo)
		}
	}()
	// 2. Its table, which the target checks.
	if _, _, err = c.do(unix.DM_TABLE_LOAD, "load the table", flags, "", encode(t)); err != nil {
		return "", err
	}
	// 3. Resuming swaps the table in.
	if _, _, err = c.do(unix.DM_DEV_SUSPEND, "resume", flags, "", nil); err != nil {
		return "", err
	}
	return fmt.Sprintf("/dev/dm-%d", unix.Minor(io.Dev)), nil
}

// Remove takes a device that nobody uses away, after all that was written to it
// has reached what is below it.
func Remove(name string) error {
	c, err := open(name)
	if err != nil {
		return fmt.Errorf("cannot remove device %s: %w", name, err)
	}
	defer c.close()
	if _, _, err := c.do(unix.DM_DEV_REMOVE, "remove", 0, "", nil); err != nil {
		return fmt.Errorf("cannot remove device %s: %w", name, err)
	}
	return nil
}

// Status returns the status line of the device's only target.
func Status(name string) (string, error) {
	t, err := ask(name, 0)
	return t.Params, err
}

// Table returns the device's only target as the kernel has it. Keys in the
// kernel's keyring are named in it, not shown.
func Table(name string) (Target, error) { return ask(name, unix.DM_STATUS_TABLE_FLAG) }

func ask(name string, flags uint32) (Target, error) {
	c, err := open(name)
	if err != nil {
		return Target{}, fmt.Errorf("cannot ask device %s: %w", name, err)
	}
	defer c.close()
	io, data, err := c.do(unix.DM_TABLE_STATUS, "status", wantsData|flags, "", make([]byte, 4096))
	if err != nil {
		return Target{}, fmt.Errorf("cannot ask device %s: %w", name, err)
	}
	if io.Target_count != 1 || len(data) <= unix.SizeofDmTargetSpec {
		return Target{}, fmt.Errorf("cannot ask device %s: %d targets", name, io.Target_count)
	}
	kind, _, _ := bytes.Cut(data[24:24+unix.DM_MAX_TYPE_NAME], []byte{0})
	line, _, _ := bytes.Cut(data[unix.SizeofDmTargetSpec:], []byte{0})
	return Target{string(kind), binary.NativeEndian.Uint64(data[8:]) * sector, string(line)}, nil
}

// VerityStatus reads the status line of a verity target: whether a block was
// found corrupted beyond repair, and how many blocks were repaired.
func VerityStatus(line string) (corrupted bool, repaired uint64, err error) {
	state, count, ok := strings.Cut(line, " ")
	if !ok || state != "V" && state != "C" {
		return false, 0, fmt.Errorf("cannot parse the verity status %q", line)
	}
	if repaired, err = strconv.ParseUint(count, 10, 64); err != nil {
		return false, 0, fmt.Errorf("cannot parse the verity status %q: %w", line, err)
	}
	return state == "C", repaired, nil
}

// encode returns the dm_target_spec followed by its parameters, ended by a zero
// and padded to 8 bytes.
func encode(t Target) []byte {
	size := (unix.SizeofDmTargetSpec + len(t.Params) + 1 + 7) &^ 7
	b := make([]byte, size)
	ne := binary.NativeEndian
	ne.PutUint64(b[0:], 0)
	ne.PutUint64(b[8:], t.Length/sector)
	ne.PutUint32(b[16:], 0)
	ne.PutUint32(b[20:], uint32(size)) // from this spec to the next
	copy(b[24:24+unix.DM_MAX_TYPE_NAME], t.Type)
	copy(b[unix.SizeofDmTargetSpec:], t.Params)
	return b
}

type controlFile struct {
	f    *os.File
	name string
}

func open(name string) (controlFile, error) {
	if name == "" || len(name) >= unix.DM_NAME_LEN {
		return controlFile{}, fmt.Errorf("internal error: device name %q", name)
	}
	f, err := os.OpenFile(control, os.O_RDWR, 0)
	return controlFile{f, name}, err
}

func (c controlFile) close() { _ = c.f.Close() } // nothing was written to it

// do sends one ioctl with payload after the header, and returns what came back.
func (c controlFile) do(request uint, what string, flags uint32, uuid string, payload []byte) (unix.DmIoctl, []byte, error) {
	b := make([]byte, unix.SizeofDmIoctl+len(payload))
	h := (*unix.DmIoctl)(unsafe.Pointer(&b[0]))
	h.Version = [3]uint32{unix.DM_VERSION_MAJOR, 0, 0} // the kernel accepts every minor up to its own
	h.Data_size = uint32(len(b))
	h.Data_start = unix.SizeofDmIoctl
	h.Flags = flags &^ wantsData
	if payload != nil {
		h.Target_count = 1
	}
	for i, x := range []byte(c.name) {
		h.Name[i] = x
	}
	if len(uuid) >= len(h.Uuid) {
		return *h, nil, fmt.Errorf("internal error: device uuid %q", uuid)
	}
	for i, x := range []byte(uuid) {
		h.Uuid[i] = x
	}
	copy(b[unix.SizeofDmIoctl:], payload)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, c.f.Fd(), uintptr(request), uintptr(unsafe.Pointer(h))); errno != 0 {
		return *h, nil, fmt.Errorf("cannot %s: %w", what, errno)
	}
	if h.Flags&unix.DM_BUFFER_FULL_FLAG != 0 {
		return *h, nil, fmt.Errorf("cannot %s: answer does not fit", what)
	}
	if flags&wantsData == 0 { // the kernel counts such an answer without its padding
		return *h, nil, nil
	}
	start, end := int(h.Data_start), int(h.Data_size)
	if start < 0 || start > end || end > len(b) {
		return *h, nil, fmt.Errorf("cannot %s: answer of bytes %d to %d of %d", what, start, end, len(b))
	}
	return *h, b[start:end], nil
}
