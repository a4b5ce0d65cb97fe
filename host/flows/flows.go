// Package flows reads the services of a product from the source tree, and
// checks what the product asserts about them. It needs only files of the tree;
// the graph and the language are those of package flow.
package flows

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"cloison/format/declaration"
	"cloison/format/flow"
	"cloison/format/hint"
	"cloison/format/nearest"
	"cloison/format/network"
	"cloison/format/product"
	"cloison/format/service"
)

// Services reads the declarations of a product's services, in the product's
// order, and checks that they fit together.
func Services(tree string, p product.Product) ([]*service.Service, error) {
	folder := filepath.Join(tree, "image/services")
	text, err := os.ReadFile(filepath.Join(folder, "ids"))
	if err != nil {
		return nil, err
	}
	ids, err := service.ParseIDs(string(text))
	if err != nil {
		return nil, fmt.Errorf("cannot read image/services/ids: %w", err)
	}
	found, err := filepath.Glob(filepath.Join(folder, "*.toml"))
	if err != nil {
		return nil, err
	}
	var known []string
	for _, path := range found {
		known = append(known, strings.TrimSuffix(filepath.Base(path), ".toml"))
	}
	var services []*service.Service
	for _, name := range p.Services {
		if err := nearest.Check("service", name, known); err != nil {
			return nil, fmt.Errorf("cannot read image/products/%s/product.toml: %w", p.Name, err)
		}
		text, err := os.ReadFile(filepath.Join(folder, name+".toml"))
		if err != nil {
			return nil, err
		}
		s, err := declaration.Parse(text, ids)
		if err != nil {
			return nil, fmt.Errorf("cannot read image/services/%s.toml: %w", name, err)
		}
		if s.Name != name {
			return nil, fmt.Errorf("cannot read image/services/%s.toml: it says name = %q", name, s.Name)
		}
		services = append(services, s)
	}
	if err := service.CheckTogether(services); err != nil {
		return nil, err
	}
	return services, network.CheckServices(services, p.Networks)
}

// Report is the graph of a product and what became of its assertions.
type Report struct {
	Title    string
	Graph    *flow.Graph
	Verdicts []flow.Verdict
	broken   []error
}

// Of makes the report of a product. That an assertion is broken is told by Err; an
// error is one that cannot be judged.
func Of(p product.Product, services []*service.Service) (*Report, error) {
	g, err := flow.New(services, p.Networks...)
	if err != nil {
		return nil, err
	}
	r := &Report{Title: p.Title + ": what can flow where", Graph: g}
	for _, stated := range p.Assertions {
		a, err := flow.ParseAssertion(stated.Assert)
		if err != nil {
			return nil, err
		}
		v := flow.Verdict{Assertion: stated.Assert, Why: stated.Why}
		var broken *flow.BrokenError
		if err := a.Check(g); errors.As(err, &broken) {
			v.Broken = broken.How
			r.broken = append(r.broken, hint.Wrap(err, "it is there for a reason: %s", stated.Why))
		} else if err != nil {
			return nil, err
		}
		r.Verdicts = append(r.Verdicts, v)
	}
	return r, nil
}

// Err is the first assertion that is broken, with what breaks it, or nil.
func (r *Report) Err() error {
	if len(r.broken) == 0 {
		return nil
	}
	return r.broken[0]
}

// Check fails when a product breaks an assertion, and names what breaks it.
func Check(p product.Product, services []*service.Service) error {
	r, err := Of(p, services)
	if err != nil {
		return err
	}
	return r.Err()
}
