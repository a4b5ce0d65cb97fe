package machine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"cloison/format/hint"
	"cloison/host/sdk"
)

// Folder is what one machine keeps between its runs: the firmware's
// variables (OVMF_VARS.fd), the TPM's state (tpm/) and its disk (disk.img).
// It is locked while it is open.
type Folder struct {
	dir  string
	lock *os.File
}

// OpenFolder opens the folder dir, made if missing, and locks it. It fails
// when another process holds it, and says which.
func OpenFolder(dir string) (*Folder, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot open machine folder: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot open machine folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open machine folder: %w", err)
	}
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder, _ := io.ReadAll(io.LimitReader(lock, 100))
		lock.Close()
		who := strings.TrimSpace(string(holder))
		if who == "" {
			who = "another process"
		}
		return nil, hint.Wrap(fmt.Errorf("cannot use machine %s: %s has it running", dir, who),
			"leave the other one first, or give this one a folder of its own with --out")
	}
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("cannot lock machine folder: %w", err)
	}
	f := &Folder{dir: dir, lock: lock}
	if err := f.sign(); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// sign writes into the lock who holds it.
func (f *Folder) sign() error {
	if err := f.lock.Truncate(0); err != nil {
		return fmt.Errorf("cannot lock machine folder: %w", err)
	}
	if _, err := fmt.Fprintf(f.lock, "process %d\n", os.Getpid()); err != nil {
		return fmt.Errorf("cannot lock machine folder: %w", err)
	}
	return nil
}

// Close unlocks the folder.
func (f *Folder) Close() error { return f.lock.Close() }

// Disk is the path of the machine's own disk, raw.
func (f *Folder) Disk() string { return filepath.Join(f.dir, "disk.img") }

// Vars is the path of the firmware's variable store.
func (f *Folder) Vars() string { return filepath.Join(f.dir, "OVMF_VARS.fd") }

// TPM is the path of the TPM's state folder.
func (f *Folder) TPM() string { return filepath.Join(f.dir, "tpm") }

func (f *Folder) origin() string { return filepath.Join(f.dir, "disk.from.json") }

// Reset forgets everything: the next start is the first one.
func (f *Folder) Reset() error {
	for _, path := range []string{f.Disk(), f.Vars(), f.TPM(), f.origin()} {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("cannot reset machine: %w", err)
		}
	}
	return nil
}

// Prepare makes what is missing: an empty variable store (setup mode), a
// fresh TPM, and a copy of the disk image. The copy is made again when the
// image has changed since, but for the state volume: that stays, with variables
// and TPM, as on a real machine that gets another release. Where its partition
// lies elsewhere in the new image, the machine is a new one.
func (f *Folder) Prepare(s *sdk.SDK, image string) error {
	if _, err := os.Stat(s.Path(firmwareVars)); err != nil {
		return checkTools(s)
	}
	now, err := identify(image)
	if errors.Is(err, fs.ErrNotExist) {
		return hint.Wrap(fmt.Errorf("cannot prepare machine: no disk image: %w", err),
			"build the image first: cloison build")
	}
	if err != nil {
		return fmt.Errorf("cannot prepare machine: %w", err)
	}
	kept, err := f.kept(now, image)
	if err != nil {
		return fmt.Errorf("cannot prepare disk: %w", err)
	}
	if err := os.MkdirAll(f.TPM(), 0o700); err != nil {
		return fmt.Errorf("cannot prepare machine: %w", err)
	}
	if _, err := os.Stat(f.Vars()); errors.Is(err, fs.ErrNotExist) {
		if err := copySparse(f.Vars(), s.Path(firmwareVars)); err != nil {
			return fmt.Errorf("cannot prepare firmware variables: %w", err)
		}
	}
	if f.has(now) {
		return nil
	}
	if err := os.RemoveAll(f.origin()); err != nil {
		return fmt.Errorf("cannot prepare disk: %w", err)
	}
	if err := copySparse(f.Disk(), image, kept...); err != nil {
		err = fmt.Errorf("cannot prepare disk: %w", err)
		if errors.Is(err, syscall.ENOSPC) {
			err = hint.Wrap(err, "the machine works on a copy of the image; free some space in %s", f.dir)
		}
		return err
	}
	record, err := json.Marshal(now)
	if err != nil {
		return fmt.Errorf("internal error: cannot encode the disk's origin: %w", err)
	}
	if err := os.WriteFile(f.origin(), record, 0o600); err != nil {
		return fmt.Errorf("cannot prepare disk: %w", err)
	}
	return nil
}

// kept returns what a copy of the image is to leave of the machine's disk. It
// resets the machine where that is nothing.
func (f *Folder) kept(now identity, image string) ([]extent, error) {
	if f.has(now) {
		return nil, nil
	}
	was, err := stateOf(f.Disk())
	if err != nil || was == nil {
		return nil, err
	}
	becomes, err := stateOf(image)
	if err != nil {
		return nil, err
	}
	if becomes == nil || *becomes != *was {
		return nil, f.Reset()
	}
	return []extent{*was}, nil
}

// identity tells one version of an image file from another.
type identity struct {
	Size    int64  `json:"size"`
	MtimeNs int64  `json:"mtime_ns"`
	Inode   uint64 `json:"inode"`
}

func identify(path string) (identity, error) {
	info, err := os.Stat(path)
	if err != nil {
		return identity{}, err
	}
	id := identity{Size: info.Size(), MtimeNs: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		id.Inode = st.Ino
	}
	return id, nil
}

// has tells whether the machine's disk was made from the image now. A record
// that cannot be read is no record.
func (f *Folder) has(now identity) bool {
	if _, err := os.Stat(f.Disk()); err != nil {
		return false
	}
	text, err := os.ReadFile(f.origin())
	if err != nil {
		return false
	}
	var was identity
	return json.Unmarshal(text, &was) == nil && was == now
}

// Enrolled tells whether the firmware has a platform key, i.e. has left
// setup mode.
func (f *Folder) Enrolled() (bool, error) {
	image, err := os.ReadFile(f.Vars())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot read firmware variables: %w", err)
	}
	variables, err := parseVariables(image)
	if err != nil {
		return false, fmt.Errorf("cannot read firmware variables %s: %w", f.Vars(), err)
	}
	for _, v := range variables {
		if v.Name == "PK" && v.Vendor == efiGlobalVariable && len(v.Data) > 0 {
			return true, nil
		}
	}
	return false, nil
}
