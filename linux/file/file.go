// Package file writes files that are whole or absent, even after a power
// cut, and locks them between processes. It needs Linux.
//
// Source: rename(2), fsync(2), flock(2).
package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// WriteAtomic replaces path by data: temporary file, write, fsync, rename,
// fsync of the folder. Other readers see the old file or the new one.
func WriteAtomic(path string, data []byte, mode os.FileMode) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot write %s: %w", path, errors.Join(err, os.Remove(f.Name())))
		}
	}()
	if _, err = f.Write(data); err == nil {
		err = errors.Join(f.Chmod(mode), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(dir)
}

// SyncDir makes the names in a folder durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Prefetch has the kernel read the file into its page cache, and does not wait
// for it (posix_fadvise(2)).
func Prefetch(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	// Of one request the kernel reads no more than its device takes at once.
	for at := int64(0); err == nil && at < info.Size(); at += window {
		err = unix.Fadvise(int(f.Fd()), at, window, unix.FADV_WILLNEED)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot prefetch %s: %w", path, err), f.Close())
	}
	return f.Close()
}

// window is what a device reads ahead when nobody has set it, in bytes.
const window = 128 << 10

// Lock waits until this process alone holds the lock file at path, or ctx
// ends. The returned function lets go of it; so does the end of the process.
func Lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", path, err)
	}
	locked := make(chan error, 1)
	go func() { locked <- flock(f, unix.LOCK_EX) }()
	select {
	case err := <-locked:
		if err != nil {
			return nil, fmt.Errorf("cannot lock %s: %w", path, errors.Join(err, f.Close()))
		}
		return func() { f.Close() }, nil
	case <-ctx.Done():
		// The goroutine still waits: it closes the file when its turn comes.
		go func() { <-locked; f.Close() }()
		return nil, context.Cause(ctx)
	}
}

// ErrLocked says that another process holds the lock.
var ErrLocked = errors.New("locked by another process")

// TryLock is Lock without waiting: it fails with ErrLocked.
func TryLock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", path, err)
	}
	if err := flock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, fmt.Errorf("cannot lock %s: %w", path, errors.Join(err, f.Close()))
	}
	return func() { f.Close() }, nil
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
