package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"cloison/format/release"
	"cloison/host/build"
	"cloison/host/progress"
	"cloison/host/tree"
)

func newBuildCommand() *cobra.Command {
	var o build.Options
	var asJSON bool
	c := &cobra.Command{
		Use:   "build",
		Short: "Build and sign a system",
		Long: `Build a product for a hardware profile, from the source tree around the current
folder. The result is a folder with disk.img, core.img, cloison_VERSION.efi,
kernel.config, sbom.cdx.json, sdk.lock, manifest.json and its signature.

Without --keys, development keys are made on the first build, outside the
source tree; what they sign says loudly that it is a development build.`,
		Example: `  cloison build
  cloison build --product gateway --hardware qemu --keys ~/keys --locked`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := complete(&o); err != nil {
				return err
			}
			o.Log = progress.To(c.ErrOrStderr())
			result, err := build.Build(c.Context(), o)
			if err != nil {
				return err
			}
			return report(c, result, asJSON)
		},
	}
	addBuildFlags(c, &o)
	c.Flags().BoolVar(&asJSON, "json", false, "print the manifest of what was built")
	return c
}

// addBuildFlags adds the flags that say what to build.
func addBuildFlags(c *cobra.Command, o *build.Options) {
	f := c.Flags()
	f.StringVar(&o.Product, "product", "gateway", "product to build, a folder of image/products")
	f.StringVar(&o.Hardware, "hardware", "qemu", "hardware profile, a folder of kernel/hardware")
	f.StringVar(&o.Out, "out", "", "folder for the result (default out/PRODUCT-HARDWARE in the source tree)")
	f.StringVar(&o.Keys, "keys", "", "folder of keys, made by cloison keys init (default: development keys)")
	f.BoolVar(&o.Locked, "locked", false, "refuse any SDK package but those in sdk/lock")
	f.BoolVar(&o.Refresh, "refresh", false, "ask Debian for newer SDK packages first")
}

// complete fills in what follows from where the user is.
func complete(o *build.Options) (err error) {
	if o.Tree, err = tree.Find("."); err != nil {
		return err
	}
	o.Cache, err = tree.Cache()
	return err
}

func report(c *cobra.Command, result *build.Result, asJSON bool) error {
	text, err := os.ReadFile(filepath.Join(result.Dir, build.ManifestName))
	if err != nil {
		return err
	}
	m, err := release.Parse(text)
	if err != nil {
		return err
	}
	out := c.OutOrStdout()
	if asJSON {
		return json.NewEncoder(out).Encode(m)
	}
	fmt.Fprintf(out, "%s %s for %s in %s\n", m.Product, m.Version, m.Hardware, result.Dir)
	fmt.Fprintf(out, "  core       %6.1f MB  root hash %s\n", float64(m.Core.Size)/1e6, m.Core.RootHash)
	fmt.Fprintf(out, "  UKI        %6.1f MB  PCR 11    %s\n", float64(m.UKI.Size)/1e6, m.UKI.PCR11)
	if result.Same {
		fmt.Fprintln(out, "  the same, bit for bit, as the build that was there")
	}
	return nil
}
