package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"cloison/host/recover"
)

func newRecoverCommand() *cobra.Command {
	var record, key string
	var asJSON bool
	c := &cobra.Command{
		Use:   "recover --escrow FILE --key FILE",
		Short: "Give back the recovery passphrase of a volume",
		Long: `Give back the recovery passphrase of a volume whose TPM is lost or refuses, from
the record that the machine has left for you: the file is on its EFI system
partition, and its console shows it.

Type the passphrase at a recovery boot, or open the volume anywhere with
cryptsetup open.`,
		Example: `  cloison recover --escrow escrow.pem --key ~/keys/fleet/recovery.key`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := recover.Open(record, key)
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(c.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(map[string]string{"product": r.Product, "release": r.Release, "volume": r.Volume, "passphrase": r.Passphrase})
			}
			fmt.Fprintf(c.ErrOrStderr(), "volume %s, product %s, made by release %s\n", r.Volume, r.Product, r.Release)
			_, err = fmt.Fprintln(c.OutOrStdout(), r.Passphrase)
			return err
		},
	}
	c.Flags().StringVar(&record, "escrow", "", "escrow record of the machine")
	c.Flags().StringVar(&key, "key", "", "private recovery key")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	for _, name := range []string{"escrow", "key"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // the flag is defined above
		}
	}
	return c
}
