package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"cloison/format/efisig"
	"cloison/format/hint"
	"cloison/host/keys"
)

func newKeysCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "keys",
		Short: "Make, show and use the signing keys of an installation",
		Long: `Make, show and use the signing keys of an installation.

A folder of keys holds the Secure Boot keys PK, KEK and db, the key that signs
releases and the one that signs TPM policies. Each has a private file NAME.key
(mode 0600) and a certificate NAME.pem. Keep PK.key and KEK.key where only
those who enrol and revoke can reach them.

It also holds recovery.pub, to which machines encrypt the recovery passphrases
of their volumes. Its private part recovery.key is not needed to build: keep it
off line, and never lose it.`,
		Args: cobra.NoArgs,
	}
	c.AddCommand(newKeysInitCommand(), newKeysShowCommand(), newKeysExportCommand(), newKeysRecoveryCommand(), newKeysAllowCommand(), newKeysRevokeCommand())
	return c
}

func newKeysInitCommand() *cobra.Command {
	var development bool
	c := &cobra.Command{
		Use:   "init DIR",
		Short: "Make a new set of keys",
		Long: `Make a new set of keys in DIR, which must not exist or be empty. The folder
appears complete or not at all. Certificates hold for 20 years.`,
		Example: `  cloison keys init ~/keys/fleet
  cloison keys init --development ~/keys/try`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := keys.Init(args[0], development, time.Now()); err != nil {
				return err
			}
			return printKeys(c.OutOrStdout(), args[0], false)
		},
	}
	c.Flags().BoolVar(&development, "development", false, "mark the keys: every build with them says that it is a development build")
	return c
}

func newKeysShowCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "show DIR",
		Short: "Check a set of keys and show what is public of it",
		Example: `  cloison keys show ~/keys/fleet
  cloison keys show --json ~/keys/fleet`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return printKeys(c.OutOrStdout(), args[0], asJSON)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printKeys(w io.Writer, dir string, asJSON bool) error {
	st, err := keys.OpenDir(dir)
	if err != nil {
		return err
	}
	described, err := keys.Describe(st)
	if err != nil {
		return err
	}
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(struct {
			Owner       string             `json:"owner"`
			Development bool               `json:"development"`
			Keys        []keys.Description `json:"keys"`
		}{st.Owner().String(), st.Development(), described})
	}
	var b bytes.Buffer
	if st.Development() {
		fmt.Fprintln(&b, "DEVELOPMENT KEYS: what they sign is a development build.")
	}
	fmt.Fprintf(&b, "owner %s\n", st.Owner())
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ROLE\tKIND\tEXPIRES\tSHA-256 OF THE CERTIFICATE\tSUBJECT")
	for _, d := range described {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", d.Role, d.Kind, d.Expires.Format(time.DateOnly), d.Fingerprint, d.Subject)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err = w.Write(b.Bytes())
	return err
}

func newKeysExportCommand() *cobra.Command {
	var out, at string
	c := &cobra.Command{
		Use:   "export DIR --out FOLDER",
		Short: "Write PK.auth, KEK.auth and db.auth, to enrol on a machine",
		Long: `Write PK.auth, KEK.auth and db.auth, to enrol on a machine in setup mode.
systemd-boot enrols them from loader/keys/NAME of the ESP; firmware menus and
efi-updatevar take them too.`,
		Example: `  cloison keys export ~/keys/fleet --out /media/esp/loader/keys/auto`,
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			when, err := timestamp(at)
			if err != nil {
				return err
			}
			st, err := keys.OpenDir(args[0])
			if err != nil {
				return err
			}
			auth, err := keys.AuthFiles(st, when)
			if err != nil {
				return err
			}
			for name, data := range auth.Files() {
				if err := keys.WriteFile(filepath.Join(out, name), data); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().StringVar(&out, "out", ".", "existing folder for the files")
	timestampFlag(c, &at)
	return c
}

func newKeysRecoveryCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "recovery DIR",
		Short: "Add a recovery key to keys that have none",
		Long: `Add a recovery key to keys that have none: recovery.pub goes into every image
built with them, recovery.key opens what machines have encrypted to it (see
cloison recover). New sets of keys have one from the start.`,
		Example: `  cloison keys recovery ~/keys/fleet`,
		Args:    cobra.ExactArgs(1),
		RunE:    func(_ *cobra.Command, args []string) error { return keys.AddRecovery(args[0]) },
	}
}

func newKeysRevokeCommand() *cobra.Command {
	var images, certificates []string
	var out, at string
	var replace bool
	c := &cobra.Command{
		Use:   "revoke DIR (--image FILE.efi | --certificate FILE.pem)... --out dbx.auth",
		Short: "Forbid images or whoever a certificate stands for, in dbx",
		Long: `Write a signed update of dbx, the firmware's list of what must not start: the
images with these digests, and whatever these certificates signed. The update
adds to the dbx of a running machine. With --replace it is the whole dbx, as
systemd-boot enrols it from loader/keys/NAME/dbx.auth in setup mode.`,
		Example: `  cloison keys revoke ~/keys/fleet --image cloison_0.1.0.efi --out dbx.auth
  cloison keys revoke ~/keys/fleet --certificate stolen-db.pem --replace --out /media/esp/loader/keys/auto/dbx.auth`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			when, err := timestamp(at)
			if err != nil {
				return err
			}
			st, err := keys.OpenDir(args[0])
			if err != nil {
				return err
			}
			r, err := readRevocation(images, certificates)
			if err != nil {
				return err
			}
			data, err := keys.Revoke(st, r, attributes(replace), when)
			if err != nil {
				return err
			}
			return keys.WriteFile(out, data)
		},
	}
	c.Flags().StringArrayVar(&images, "image", nil, "PE image to forbid: a loader or UKI, signed or not (may be repeated)")
	c.Flags().StringArrayVar(&certificates, "certificate", nil, "certificate to forbid, PEM (may be repeated)")
	c.Flags().StringVar(&out, "out", "dbx.auth", "file to write")
	c.Flags().BoolVar(&replace, "replace", false, "write the whole dbx instead of adding to it")
	timestampFlag(c, &at)
	return c
}

func newKeysAllowCommand() *cobra.Command {
	var certificates []string
	var out, at string
	var replace bool
	c := &cobra.Command{
		Use:   "allow DIR --certificate FILE.pem... --out db.auth",
		Short: "Let what a certificate stands for boot, in db",
		Long: `Write a signed update of db, the firmware's list of who signs what may start:
these certificates are added to it. With --replace they are the whole db, and
whoever is not among them signs nothing any more.

On a running machine it is a planned change: put it on the ESP as
cloison/planned/db.auth and restart. The machine takes it only if it starts
with it, and its state volume opens before the change and after it.`,
		Example: `  cloison keys allow ~/keys/fleet --certificate ~/keys/next/db.pem --out db.auth
  cloison keys allow ~/keys/fleet --certificate ~/keys/next/db.pem --replace --out db.auth`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			when, err := timestamp(at)
			if err != nil {
				return err
			}
			st, err := keys.OpenDir(args[0])
			if err != nil {
				return err
			}
			allowed, err := readCertificates("allow", certificates)
			if err != nil {
				return err
			}
			data, err := keys.Allow(st, allowed, attributes(replace), when)
			if err != nil {
				return err
			}
			return keys.WriteFile(out, data)
		},
	}
	c.Flags().StringArrayVar(&certificates, "certificate", nil, "certificate to allow, PEM (may be repeated)")
	c.Flags().StringVar(&out, "out", "db.auth", "file to write")
	c.Flags().BoolVar(&replace, "replace", false, "write the whole db instead of adding to it")
	timestampFlag(c, &at)
	return c
}

func attributes(replace bool) uint32 {
	if replace {
		return efisig.Replace
	}
	return efisig.Append
}

// readCertificates reads each certificate once; what is for the error.
func readCertificates(what string, paths []string) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("cannot %s certificate: %w", what, err)
		}
		cert, err := keys.ParseCertificate(path, data)
		if err != nil {
			return nil, fmt.Errorf("cannot %s certificate: %w", what, err)
		}
		if !slices.ContainsFunc(certs, func(c *x509.Certificate) bool { return c.Equal(cert) }) {
			certs = append(certs, cert)
		}
	}
	return certs, nil
}

func readRevocation(images, certificates []string) (r keys.Revocation, err error) {
	for _, path := range images {
		data, err := os.ReadFile(path)
		if err != nil {
			return r, fmt.Errorf("cannot revoke image: %w", err)
		}
		r.Images = append(r.Images, data)
	}
	r.Certificates, err = readCertificates("revoke", certificates)
	return r, err
}

func timestampFlag(c *cobra.Command, at *string) {
	c.Flags().StringVar(at, "timestamp", "", "time of the change, as 2026-11-23T12:00:00Z (default: now); firmware wants it later than that of the last change")
}

func timestamp(text string) (time.Time, error) {
	if text == "" {
		return time.Now(), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, hint.Wrap(fmt.Errorf("cannot use timestamp %q: %w", text, err), "write it as 2026-11-23T12:00:00Z")
	}
	return t, nil
}
