package machine

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"cloison/format/hint"
	"cloison/host/sdk"
)

// Template is firmware in which a set of keys has been enrolled, to be
// copied: a machine made from it boots once where a new one boots twice.
type Template struct {
	folder *Folder
}

// NewTemplate boots image in setup mode, in the folder dir, until its loader
// has enrolled the keys of the ESP. It keeps dir locked until Close.
func NewTemplate(ctx context.Context, s *sdk.SDK, a Accelerator, dir, image string) (*Template, error) {
	f, err := OpenFolder(dir)
	if err != nil {
		return nil, err
	}
	t := &Template{f}
	if err := t.enrol(ctx, s, a, image); err != nil {
		f.Close()
		return nil, err
	}
	return t, nil
}

func (t *Template) enrol(ctx context.Context, s *sdk.SDK, a Accelerator, image string) error {
	if err := t.folder.Reset(); err != nil {
		return err
	}
	if err := t.folder.Prepare(s, image); err != nil {
		return err
	}
	m, err := Start(ctx, Config{SDK: s, Folder: t.folder, Accelerator: a, NoReboot: true})
	if err != nil {
		return err
	}
	go m.Unattended(Patience, io.Discard)
	defer m.Close()
	// Done with it, the loader resets the machine, which ends it here. One
	// that boots on or waits at the firmware's prompt ends with ctx.
	exit, err := m.Wait()
	if err != nil {
		return fmt.Errorf("cannot enrol keys: %w\n%s", err, lastLines(m.Console.Text(), 30))
	}
	enrolled, err := t.folder.Enrolled()
	if err != nil {
		return err
	}
	if exit.Reason != "guest-reset" || !enrolled {
		return hint.Wrap(fmt.Errorf("cannot enrol keys: the machine ended (%s) in setup mode\n%s", exit.Reason, lastLines(m.Console.Text(), 30)),
			"the ESP must have loader/keys/auto/{PK,KEK,db}.auth and secure-boot-enroll force in loader/loader.conf")
	}
	return nil
}

// Folder makes a machine folder dir whose firmware has the template's keys,
// with a TPM that nobody has used and a copy of image.
func (t *Template) Folder(s *sdk.SDK, dir, image string) (*Folder, error) {
	f, err := OpenFolder(dir)
	if err != nil {
		return nil, err
	}
	err = f.Reset()
	if err == nil {
		err = copySparse(filepath.Join(f.dir, "OVMF_VARS.fd"), t.folder.Vars())
	}
	if err == nil {
		err = f.Prepare(s, image)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Close unlocks the template's folder.
func (t *Template) Close() error { return t.folder.Close() }
