package main

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"cloison/format/hint"
	"cloison/host/build"
	"cloison/host/keys"
	"cloison/host/verify"
)

func newVerifyCommand() *cobra.Command {
	var folder, db, releaseKey string
	var asJSON bool
	c := &cobra.Command{
		Use:   "verify DIR|disk.img",
		Short: "Check a finished build from the outside",
		Long: `Check a finished build, a folder or a disk alone, from the outside: signatures,
digests, partition table, EFI system partition, command line, PCR 11 and what is signed for
the TPM, verity tree and parity, and every file of the core: no setuid, no shell or interpreter,
nothing writable by others, every program hardened.

Nothing is trusted but certificates: db.pem and release.pem (and PK.pem,
KEK.pem and policy.pem where they are) of the folder --keys, which needs no private key, or
those named with --certificate and --release-key. Without either, the
development keys are meant. The exit code is 1 when anything fails.`,
		Example: `  cloison verify out/gateway-qemu
  cloison verify --keys ~/keys/fleet out/gateway-qemu
  cloison verify --certificate db.pem --json disk.img`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o, err := trusted(folder, db, releaseKey)
			if err != nil {
				return err
			}
			o.Path = args[0]
			r, err := verify.Run(c.Context(), o)
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(c.OutOrStdout())
				e.SetIndent("", "  ")
				err = e.Encode(r)
			} else {
				_, err = fmt.Fprint(c.OutOrStdout(), r)
			}
			if err == nil && !r.OK {
				err = fmt.Errorf("%s does not verify: %d of %d checks failed", o.Path, r.Failed(), len(r.Checks))
			}
			return err
		},
	}
	c.Flags().StringVar(&folder, "keys", "", "folder with db.pem and release.pem (default: development keys)")
	c.Flags().StringVar(&db, "certificate", "", "certificate of the db key, PEM")
	c.Flags().StringVar(&releaseKey, "release-key", "", "certificate of the release key, PEM")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.MarkFlagsMutuallyExclusive("keys", "certificate")
	c.MarkFlagsMutuallyExclusive("keys", "release-key")
	return c
}

// trusted reads the certificates that are believed.
func trusted(folder, db, releaseKey string) (o verify.Options, err error) {
	if db != "" || releaseKey != "" {
		if db == "" {
			return o, hint.Wrap(errors.New("cannot verify without the certificate of the db key"), "name it with --certificate db.pem")
		}
		if o.DB, err = certificate(db); err != nil || releaseKey == "" {
			return o, err
		}
		o.Release, err = certificate(releaseKey)
		return o, err
	}
	if folder == "" {
		if folder, err = build.DevelopmentKeys(); err != nil {
			return o, err
		}
	}
	for _, one := range []struct {
		role     keys.Role
		to       **x509.Certificate
		optional bool
	}{{keys.DB, &o.DB, false}, {keys.Release, &o.Release, false}, {keys.PK, &o.PK, true}, {keys.KEK, &o.KEK, true}, {keys.Policy, &o.Policy, true}} {
		cert, err := certificate(filepath.Join(folder, string(one.role)+".pem"))
		if one.optional && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return o, err
		}
		*one.to = cert
	}
	return o, nil
}

func certificate(path string) (*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, hint.Wrap(fmt.Errorf("cannot read a certificate: %w", err), "name the folder of the keys that signed the build with --keys")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read a certificate: %w", err)
	}
	return keys.ParseCertificate(path, data)
}
