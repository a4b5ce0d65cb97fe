// Package hog takes as much of a folder as it gets: first in bytes, then in
// files. It is a service as well, which only tests have images with
// (cloison/host/build/variant); that needs what PID 1 hands a service.
package hog

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"cloison/target/service"
)

// Declaration is that of the service.
//
//go:embed hog.toml
var Declaration string

// folder is where the service keeps things.
const folder = "/state/hog"

// Main is the service: once it has all that it gets it says how much that was,
// and is ready. After a restart it tries again.
func Main() {
	notify, err := service.Notify()
	if err == nil {
		err = eat()
	}
	if err == nil {
		err = notify.Ready()
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGTERM)
	<-ends
}

func eat() error {
	left, err := filepath.Glob(folder + "/hog?*")
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	if err != nil {
		return err
	}
	bytes, stopped := Write(folder)
	fmt.Printf("%d bytes, then %v\n", bytes, stopped)
	files, stopped := Make(folder)
	fmt.Printf("%d files, then %v\n", files, stopped)
	return nil
}

// Most is what it takes at most, in bytes or in files, where nothing stops it.
const Most = 64 << 20

// chunk is how much it writes at a time, in bytes: a block of the file system.
const chunk = 4096

// Write writes one file until it may not, and says how many bytes it has
// written and what stopped it.
func Write(folder string) (bytes int, stopped error) {
	f, err := os.OpenFile(filepath.Join(folder, "hog"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	b := make([]byte, chunk)
	for stopped == nil && bytes < Most {
		n, err := f.Write(b)
		bytes, stopped = bytes+n, err
	}
	// What is not on the disk was not refused by it either.
	return bytes, errors.Join(stopped, f.Sync(), f.Close())
}

// Make makes empty files until it may not.
func Make(folder string) (files int, stopped error) {
	for ; files < Most; files++ {
		f, err := os.OpenFile(filepath.Join(folder, fmt.Sprintf("hog%d", files)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return files, err
		}
		if err := f.Close(); err != nil {
			return files, err
		}
	}
	return files, nil
}
