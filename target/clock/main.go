package clock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"cloison/format/timekeeping"
	"cloison/linux/clock"
	"cloison/target/service"
)

// Where things are in the service's root.
const (
	program       = "/usr/lib/cloison/timed"
	configuration = "/etc/cloison/time.toml"
	folder        = "/state/time"
)

// Main is the program.
func Main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	notifier, err := service.Notify()
	if err == nil {
		err = serve(ctx, "/", clock.System{}, os.Stdout, notifier.Ready)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "cloison: timed: %v\n", err)
		os.Exit(1)
	}
}

// serve runs the service below root until ctx ends. It is ready when the clock is
// certain not to be behind: servers may be long in answering, or there are none.
func serve(ctx context.Context, root string, c Clock, out io.Writer, ready func() error) error {
	config, err := readConfig(filepath.Join(root, configuration))
	if err != nil {
		return err
	}
	date, err := releaseDate(filepath.Join(root, program))
	if err != nil {
		return err
	}
	s := New(Options{
		Clock: c, Config: config, Released: date, Stamp: filepath.Join(root, folder, "stamp"),
		Say: func(line string) { fmt.Fprintln(out, line) }, // nobody is left to hear that the log is closed
	})
	if err := s.Start(); err != nil {
		return err
	}
	fmt.Fprintln(out, s.Status())
	if err := ready(); err != nil {
		return err
	}
	return s.Run(ctx)
}

// readConfig reads the configuration; without the file there are no servers.
func readConfig(path string) (timekeeping.Config, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return timekeeping.Config{}, nil
	}
	var c timekeeping.Config
	if err == nil {
		c, err = timekeeping.ParseConfig(text)
	}
	if err != nil {
		return timekeeping.Config{}, fmt.Errorf("cannot read %s: %w", path, err)
	}
	return c, nil
}

// releaseDate returns the date of the release: every file of the verified image has
// it, this program too.
func releaseDate(program string) (time.Time, error) {
	info, err := os.Stat(program)
	if err != nil {
		return time.Time{}, fmt.Errorf("cannot tell the date of the release: %w", err)
	}
	return info.ModTime(), nil
}
