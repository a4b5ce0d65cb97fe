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
	"cloison/format/ext4"
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
	if err := network.CheckServices(services, p.Networks); err != nil {
		return nil, err
	}
	return services, checkRoom(services, p.Disk.State<<20)
}

// checkRoom says whether the state volume has room for all that services may
// keep, even where its partition does not grow: each can fill its share then,
// and the others have theirs all the same. They get half of it at most. The
// other half is for PID 1 and the configuration, and for what LUKS, dm-integrity
// and ext4 need themselves. volume is the size of the partition in the image, in bytes.
func checkRoom(services []*service.Service, volume uint64) error {
	var size, files uint64
	for _, s := range services {
		size += uint64(s.Limits.State)
		files += uint64(s.Limits.StateFiles)
	}
	if most := volume / 2; size > most {
		return fmt.Errorf("services may keep %v of the state volume (limits.state), at most %v is for them: half of its size in the image", service.Size(size), service.Size(most))
	}
	if most := volume / ext4.BytesPerFile / 2; files > most {
		return fmt.Errorf("services may keep %d files on the state volume (limits.state_files), at most %d are for them", files, most)
	}
	return nil
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
