package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"cloison/host/build"
	"cloison/host/flows"
	"cloison/host/tree"
)

func newFlowsCommand() *cobra.Command {
	var name string
	var check, svg, dot, asJSON bool
	c := &cobra.Command{
		Use:   "flows",
		Short: "Show what can flow where between the services of a product",
		Long: `Show the graph that the declarations of a product's services make: services,
sockets, networks, devices, shared files, and who holds which capability. What is not in
it the launcher refuses. A build checks what the product asserts about it.

Without a flag, a table. --check says nothing when all assertions hold; the exit code
is 1 when one is broken, whatever is printed.`,
		Example: `  cloison flows
  cloison flows --check
  cloison flows --product gateway --svg > gateway.svg`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			root, err := tree.Find(".")
			if err != nil {
				return err
			}
			p, err := build.ReadProduct(root, name)
			if err != nil {
				return err
			}
			services, err := flows.Services(root, p)
			if err != nil {
				return err
			}
			r, err := flows.Of(p, services)
			if err != nil {
				return err
			}
			var text string
			switch {
			case check:
			case svg:
				text = r.Graph.SVG(r.Title)
			case dot:
				text = r.Graph.DOT(r.Title)
			case asJSON:
				b, err := r.Graph.JSON(r.Title, r.Verdicts)
				if err != nil {
					return err
				}
				text = string(b)
			default:
				text = r.Graph.Table(r.Verdicts)
			}
			if _, err := fmt.Fprint(c.OutOrStdout(), text); err != nil {
				return err
			}
			return r.Err()
		},
	}
	c.Flags().StringVar(&name, "product", "gateway", "product, a folder of image/products")
	c.Flags().BoolVar(&check, "check", false, "print nothing but a broken assertion")
	c.Flags().BoolVar(&svg, "svg", false, "print a picture")
	c.Flags().BoolVar(&dot, "dot", false, "print it for graphviz")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.MarkFlagsMutuallyExclusive("check", "svg", "dot", "json")
	return c
}
