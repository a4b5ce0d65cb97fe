package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"cloison/host/logcheck"
)

func newLogCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "log",
		Short: "Work with what machines have logged",
	}
	c.AddCommand(newLogVerifyCommand())
	return c
}

func newLogVerifyCommand() *cobra.Command {
	var key string
	var asJSON bool
	c := &cobra.Command{
		Use:   "verify [--key KEY] FILE…",
		Short: "Verify what a machine has logged",
		Long: `Verify files that a machine has exported, or the folder of a whole log: that no
record was changed, removed, inserted or moved since the machine signed it.

The key is the log's public one, one word. Note it when the machine is set up:
without --key the files are verified with the one that they name themselves, and
somebody who wrote them anew would have named another.`,
		Example: `  cloison log verify --key cloison-log-142f3168085badc1+53c58e34+AdYPQh7R… export.jsonl`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, files []string) error {
			r, err := logcheck.Verify(key, files)
			if err != nil {
				return err
			}
			out := c.OutOrStdout()
			if asJSON {
				e := json.NewEncoder(out)
				e.SetIndent("", "  ")
				if err := e.Encode(r); err != nil {
					return err
				}
			} else {
				for _, f := range r.Faults {
					if _, err := fmt.Fprintf(out, "fault  %s: at record %d: %s\n", f.File, f.At, f.What); err != nil {
						return err
					}
				}
			}
			if n := len(r.Faults) + r.More; n > 0 {
				return fmt.Errorf("the log is not what the machine signed: %d faults", n)
			}
			if r.Last == nil {
				return errors.New("no checkpoint covers the records: nothing is proven")
			}
			if asJSON {
				return nil
			}
			if key == "" {
				if _, err := fmt.Fprintf(c.ErrOrStderr(), "signed by %s: compare it with the machine's\n", r.Key); err != nil {
					return err
				}
			}
			_, err = fmt.Fprintf(out, "ok: %s, records %d to %d, %d seen, %d under checkpoints; the last is of %s\n",
				r.Log, r.First, int64(r.End)-1, r.Records, r.Proven-r.First, r.Last.Time.Format(time.RFC3339))
			return err
		},
	}
	c.Flags().StringVar(&key, "key", "", "public key of the log")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
