package supervise

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	format "cloison/format/efivar"
	"cloison/linux/efivar"
	"cloison/target/esp"
	"cloison/target/refusal"
)

// markGood takes the loader's counter off the entry that was booted: it has
// proved itself. It returns the entry's name from now on, or "" where the
// loader counts nothing.
func markGood(vars refusal.Variables, espNode string) (name string, err error) {
	v, err := vars.Read("LoaderBootCountPath", efivar.Loader)
	if errors.Is(err, efivar.ErrMissing) {
		return "", nil
	}
	var path string
	if err == nil {
		path, err = v.Text()
	}
	var counted format.Counted
	if err == nil {
		counted, err = format.CountPath(path)
	}
	if err == nil {
		err = esp.With(espNode, func(dir string) error { return uncount(dir, counted) })
	}
	if err != nil {
		return "", fmt.Errorf("cannot mark the boot good: %w", err)
	}
	return counted.GoodName(), nil
}

// uncount renames the entry and makes it last. An entry that already has its
// good name, and no other, was renamed by a boot that was cut off after it.
func uncount(folder string, c format.Counted) error {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close() // a folder
	from, to := c.Folder+"/"+c.Name(), c.Folder+"/"+c.GoodName()
	_, errOld := root.Lstat(from)
	_, errNew := root.Lstat(to)
	switch {
	case errors.Is(errOld, fs.ErrNotExist) && errNew == nil:
	case errOld != nil:
		return errOld
	case errNew == nil:
		return fmt.Errorf("both %s and %s exist", from, to)
	default:
		if err := root.Rename(from, to); err != nil {
			return err
		}
	}
	return errors.Join(fsync(root, to), fsync(root, c.Folder))
}

func fsync(root *os.Root, name string) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
