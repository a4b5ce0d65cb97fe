package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"cloison/format/config"
	"cloison/linux/file"
)

// What lies in the service's folder. Each file is written to the disk whole
// before the next step.
//
//	history/N      revision N, confirmed
//	pending        a revision that is being applied, or waits for its confirmation
//	running/C      a folder that the owner of the document C sees, read-only
//	  C.toml       what it reads when it starts
//	  C.next       what that is about to become
//	  C.before     what it goes back to
const (
	historyFolder = "history"
	runningFolder = "running"
	pendingFile   = "pending"
)

// maxRevisions is how many revisions are kept; older ones are removed.
const maxRevisions = 100

// store is the service's folder.
type store struct{ folder string }

func (s store) path(parts ...string) string {
	return filepath.Join(append([]string{s.folder}, parts...)...)
}

// prepare makes the folders. Those of running documents are for their owners.
func (s store) prepare() error {
	folders := map[string]os.FileMode{historyFolder: 0o700}
	for _, concern := range config.Concerns() {
		folders[filepath.Join(runningFolder, concern)] = 0o755
	}
	for folder, mode := range folders {
		if err := os.MkdirAll(s.path(folder), mode); err != nil {
			return fmt.Errorf("cannot make the folder of the configuration: %w", err)
		}
		if err := os.Chmod(s.path(folder), mode); err != nil {
			return fmt.Errorf("cannot make the folder of the configuration: %w", err)
		}
	}
	return nil
}

// numbers are those of all revisions, the oldest first.
func (s store) numbers() ([]uint64, error) {
	entries, err := os.ReadDir(s.path(historyFolder))
	if err != nil {
		return nil, fmt.Errorf("cannot read the history: %w", err)
	}
	var all []uint64
	for _, e := range entries {
		if n, err := strconv.ParseUint(e.Name(), 10, 64); err == nil && n > 0 && strconv.FormatUint(n, 10) == e.Name() {
			all = append(all, n)
			continue
		}
		// What a power cut left of a file that was being written.
		if !strings.HasPrefix(e.Name(), ".") {
			return nil, fmt.Errorf("cannot read the history: %q is no revision", e.Name())
		}
		if err := os.Remove(s.path(historyFolder, e.Name())); err != nil {
			return nil, fmt.Errorf("cannot read the history: %w", err)
		}
	}
	slices.Sort(all)
	return all, nil
}

func (s store) revision(number uint64) (config.Revision, error) {
	return s.read(s.path(historyFolder, strconv.FormatUint(number, 10)))
}

// pending returns the revision that was not confirmed, if there is one.
func (s store) pending() (config.Revision, bool, error) {
	r, err := s.read(s.path(pendingFile))
	if errors.Is(err, fs.ErrNotExist) {
		return config.Revision{}, false, nil
	}
	return r, err == nil, err
}

func (s store) read(path string) (config.Revision, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return config.Revision{}, fmt.Errorf("cannot read a revision: %w", err)
	}
	r, err := config.ParseRevision(text)
	if err != nil {
		return config.Revision{}, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// begin keeps that a revision is being applied.
func (s store) begin(r config.Revision) error {
	text, err := r.Print()
	if err != nil {
		return err
	}
	return file.WriteAtomic(s.path(pendingFile), text, 0o600)
}

// keep writes a revision to the history: from here on it is the one.
func (s store) keep(r config.Revision) error {
	text, err := r.Print()
	if err != nil {
		return err
	}
	return file.WriteAtomic(s.path(historyFolder, strconv.FormatUint(r.Number, 10)), text, 0o600)
}

// drop removes what keep may have left of a revision that it failed to keep.
func (s store) drop(number uint64) error {
	if err := os.Remove(s.path(historyFolder, strconv.FormatUint(number, 10))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove revision %d: %w", number, err)
	}
	return nil
}

// end forgets the pending revision.
func (s store) end() error {
	if err := os.Remove(s.path(pendingFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot end a commit: %w", err)
	}
	return file.SyncDir(s.folder)
}

// shrink removes the oldest revisions that are too many.
func (s store) shrink() error {
	all, err := s.numbers()
	if err != nil {
		return err
	}
	for _, n := range all[:max(0, len(all)-maxRevisions)] {
		if err := os.Remove(s.path(historyFolder, strconv.FormatUint(n, 10))); err != nil {
			return fmt.Errorf("cannot shorten the history: %w", err)
		}
	}
	return nil
}

func (s store) running(concern, suffix string) string {
	return s.path(runningFolder, concern, concern+suffix)
}

const (
	nowSuffix    = ".toml"
	nextSuffix   = ".next"
	beforeSuffix = ".before"
)

// stage puts new running documents beside the ones that hold, and a second name
// on these: what follows, there and back, takes no more space on the disk.
func (s store) stage(documents map[string]string) error {
	for concern, text := range documents {
		if err := file.WriteAtomic(s.running(concern, nextSuffix), []byte(text), 0o644); err != nil {
			return err
		}
		before := s.running(concern, beforeSuffix)
		if err := os.Remove(before); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot keep the document %s: %w", concern, err)
		}
		if err := os.Link(s.running(concern, nowSuffix), before); err != nil {
			return fmt.Errorf("cannot keep the document %s: %w", concern, err)
		}
		if err := s.sync(concern); err != nil {
			return err
		}
	}
	return nil
}

// sync makes the names of a concern's documents durable.
func (s store) sync(concern string) error { return file.SyncDir(s.path(runningFolder, concern)) }

// swap makes the staged document of a concern the one that its owner reads.
func (s store) swap(concern string) error { return s.rename(concern, nextSuffix) }

// restore goes back to the document before, if it was left.
func (s store) restore(concern string) error {
	err := s.rename(concern, beforeSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (s store) rename(concern, suffix string) error {
	if err := os.Rename(s.running(concern, suffix), s.running(concern, nowSuffix)); err != nil {
		return fmt.Errorf("cannot change the document %s: %w", concern, err)
	}
	return s.sync(concern)
}

// settle removes what stage left.
func (s store) settle(concerns []string) error {
	for _, concern := range concerns {
		for _, suffix := range []string{nextSuffix, beforeSuffix} {
			if err := os.Remove(s.running(concern, suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("cannot end a commit: %w", err)
			}
		}
		if err := s.sync(concern); err != nil {
			return err
		}
	}
	return nil
}

// run makes the running documents these, after whatever happened before. It
// writes only what is not as it should be: a document that is to be as it was
// before takes no space.
func (s store) run(documents map[string]string) error {
	for concern, text := range documents {
		var err error
		switch {
		case s.is(concern, nowSuffix, text):
		case s.is(concern, beforeSuffix, text):
			err = s.restore(concern)
		default:
			err = file.WriteAtomic(s.running(concern, nowSuffix), []byte(text), 0o644)
		}
		if err != nil {
			return err
		}
		entries, err := os.ReadDir(s.path(runningFolder, concern))
		if err != nil {
			return fmt.Errorf("cannot read the running documents: %w", err)
		}
		for _, e := range entries {
			if e.Name() == concern+nowSuffix {
				continue
			}
			if err := os.Remove(s.path(runningFolder, concern, e.Name())); err != nil {
				return fmt.Errorf("cannot remove what a commit has left: %w", err)
			}
		}
		if err := s.sync(concern); err != nil {
			return err
		}
	}
	return nil
}

// is reports whether a running document is this text.
func (s store) is(concern, suffix, text string) bool {
	b, err := os.ReadFile(s.running(concern, suffix))
	return err == nil && string(b) == text
}
