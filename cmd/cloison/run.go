package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"cloison/format/hint"
	"cloison/host/build"
	"cloison/host/machine"
	"cloison/host/progress"
)

type runOptions struct {
	build  build.Options
	fresh  bool
	memory int
}

func newRunCommand() *cobra.Command {
	var o runOptions
	c := &cobra.Command{
		Use:   "run",
		Short: "Run a product in a machine with Secure Boot and a TPM",
		Long: `Run a product in a machine with Secure Boot and a TPM, and attach the terminal
to its serial console. What is missing or has changed is built first.

The machine has its own copy of the disk, its firmware variables and its TPM in
DIR/machine. On its first boot the firmware is in setup mode: the loader enrols
the keys from the disk and reboots into Secure Boot. When the image has changed
since, the copy is made again, and keys and TPM stay, as on a real machine.

Ctrl-] leaves the console and ends the machine. Without a terminal the console
is streamed until the machine powers off.`,
		Example: `  cloison run
  cloison run --fresh --memory 1024
  cloison run --out /tmp/trial --keys ~/keys`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return o.run(c.Context(), c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	addBuildFlags(c, &o.build)
	c.Flags().BoolVar(&o.fresh, "fresh", false, "forget the machine: new firmware, new TPM, pristine disk")
	c.Flags().IntVar(&o.memory, "memory", machine.DefaultMemory, "the machine's memory in MiB")
	return c
}

func (o runOptions) run(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) error {
	if err := complete(&o.build); err != nil {
		return err
	}
	o.build.Log = progress.To(stderr)
	result, err := build.Build(ctx, o.build)
	if err != nil {
		return err
	}
	s, image := result.SDK, filepath.Join(result.Dir, build.DiskName)
	folder, err := machine.OpenFolder(filepath.Join(result.Dir, "machine"))
	if err != nil {
		return err
	}
	defer folder.Close()
	if o.fresh {
		if err := folder.Reset(); err != nil {
			return err
		}
	}
	if err := folder.Prepare(s, image); err != nil {
		return err
	}
	enrolled, err := folder.Enrolled()
	if err != nil {
		return hint.Wrap(err, "cloison run --fresh starts with new firmware")
	}
	accelerator, err := machine.Probe(ctx, s)
	if err != nil {
		return err
	}

	lines := &lineEnds{w: stderr}
	say := func(stage string) { fmt.Fprintf(lines, "cloison: %s\n", stage) }
	say("accelerator: " + accelerator.String())
	if enrolled {
		say("starting TPM and firmware, with the keys enrolled before")
	} else {
		say("starting TPM and firmware in setup mode: the first boot enrols the keys")
	}
	m, err := machine.Start(ctx, machine.Config{SDK: s, Folder: folder, Memory: o.memory, Accelerator: accelerator})
	if err != nil {
		return err
	}
	defer m.Close()

	if f, ok := stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		say("serial console attached; Ctrl-] leaves and ends the machine")
		before, err := term.MakeRaw(int(f.Fd()))
		if err != nil {
			return fmt.Errorf("cannot set the terminal to raw mode: %w", err)
		}
		lines.raw = true
		defer func() {
			term.Restore(int(f.Fd()), before)
			fmt.Fprintln(stderr)
		}()
	}
	return m.Attach(ctx, stdin, stdout, say)
}

// lineEnds writes \r\n for \n while the terminal is raw.
type lineEnds struct {
	w   io.Writer
	raw bool
}

func (l *lineEnds) Write(p []byte) (int, error) {
	text := p
	if l.raw {
		text = bytes.ReplaceAll(p, []byte("\n"), []byte("\r\n"))
	}
	_, err := l.w.Write(text)
	return len(p), err
}
