// Package network describes the named networks of a product: network namespaces
// that PID 1 makes, and which of the machine's interfaces are in each. It prints
// and parses the form that stands in the verified image for PID 1.
//
// The format is Cloison's own (docs/formats.md). It needs nothing but the
// standard library.
package network

import (
	"fmt"
	"slices"
	"strings"

	"cloison/format/service"
)

// Path is where the build puts the networks in the core.
const Path = "/usr/lib/cloison/networks"

// Network is one network namespace. It has a loopback interface and those that
// are listed, and nothing else.
type Network struct {
	Name       string      `toml:"name"`
	Why        string      `toml:"why"` // one line for people
	Interfaces []Interface `toml:"interfaces"`
}

// Interface is one interface of the machine.
type Interface struct {
	Name string `toml:"name"` // in its network, whatever the kernel called it
	// Port is where its hardware sits: the address of its PCI function, as in
	// 0000:00:02.0.
	Port string `toml:"port"`
}

// reserved are names that mean something else where a network's stands.
var reserved = []string{service.None}

// loopback is there without being listed.
const loopback = "lo"

// maxName is the longest name that the kernel takes for an interface (IFNAMSIZ).
const maxName = 15

// Check says what is wrong with networks: a name or a port that stands twice
// among it. That there are none is right.
func Check(all []Network) error {
	names, ports := map[string]bool{}, map[string]string{}
	for _, n := range all {
		switch {
		case !isName(n.Name, 31) || slices.Contains(reserved, n.Name):
			return fmt.Errorf("networks has the name %q, which is not lower-case letters, digits and hyphens", n.Name)
		case names[n.Name]:
			return fmt.Errorf("two networks are called %s", n.Name)
		case !isLine(n.Why):
			return fmt.Errorf("the network %s has no reason of one line", n.Name)
		}
		names[n.Name] = true
		inside := map[string]bool{}
		for _, i := range n.Interfaces {
			switch {
			case !isName(i.Name, maxName) || i.Name == loopback:
				return fmt.Errorf("the network %s has an interface %q, which is not a name of at most %d lower-case letters, digits and hyphens", n.Name, i.Name, maxName)
			case inside[i.Name]:
				return fmt.Errorf("the network %s has two interfaces %s", n.Name, i.Name)
			case !IsPort(i.Port):
				return fmt.Errorf("the network %s has the interface %s at %q, which is not the address of a PCI function like 0000:00:02.0", n.Name, i.Name, i.Port)
			case ports[i.Port] != "":
				return fmt.Errorf("the interface at %s is to be in the networks %s and %s", i.Port, ports[i.Port], n.Name)
			}
			inside[i.Name], ports[i.Port] = true, n.Name
		}
	}
	return nil
}

// CheckServices says which service is to be in a network that is not among the
// known ones.
func CheckServices(services []*service.Service, known []Network) error {
	for _, s := range services {
		if s.Network != service.None && !slices.ContainsFunc(known, func(n Network) bool { return n.Name == s.Network }) {
			return fmt.Errorf("service %s is to be in the network %s, which the product does not have", s.Name, s.Network)
		}
	}
	return nil
}

func isName(s string, most int) bool {
	return len(s) >= 1 && len(s) <= most && s[0] >= 'a' && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z')
	})
}

func isLine(s string) bool {
	return s != "" && len(s) <= 200 && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// IsPort reports whether s is domain:bus:device.function as sysfs writes it.
func IsPort(s string) bool {
	const form = "xxxx:xx:xx.f"
	if len(s) != len(form) {
		return false
	}
	for i := range len(s) {
		c := s[i]
		var ok bool
		switch form[i] {
		case 'x':
			ok = c >= '0' && c <= '9' || c >= 'a' && c <= 'f'
		case 'f':
			ok = c >= '0' && c <= '7'
		default:
			ok = c == form[i]
		}
		if !ok {
			return false
		}
	}
	return true
}

const heading = "cloison networks 1\n"

// maxText bounds the form, in bytes.
const maxText = 1 << 16

// Print returns the form in the image: a line for each network and, behind it,
// one for each of its interfaces.
func Print(all []Network) (string, error) {
	if err := Check(all); err != nil {
		return "", fmt.Errorf("cannot print networks: %w", err)
	}
	var b strings.Builder
	b.WriteString(heading)
	for _, n := range all {
		fmt.Fprintf(&b, "network %s %s\n", n.Name, n.Why)
		for _, i := range n.Interfaces {
			fmt.Fprintf(&b, "interface %s %s\n", i.Name, i.Port)
		}
	}
	return b.String(), nil
}

// Parse reads that form. It refuses what Print would not have printed.
func Parse(text string) ([]Network, error) {
	rest, ok := strings.CutPrefix(text, heading)
	if !ok || len(text) > maxText {
		return nil, fmt.Errorf("cannot parse networks: they do not begin with %q, or are too long", strings.TrimSpace(heading))
	}
	var all []Network
	for rest != "" {
		line, after, ended := strings.Cut(rest, "\n")
		kind, value, _ := strings.Cut(line, " ")
		name, what, _ := strings.Cut(value, " ")
		switch {
		case !ended:
			return nil, fmt.Errorf("cannot parse networks: the line %q does not end", line)
		case kind == "network":
			all = append(all, Network{Name: name, Why: what})
		case kind == "interface" && len(all) > 0:
			last := &all[len(all)-1]
			last.Interfaces = append(last.Interfaces, Interface{name, what})
		default:
			return nil, fmt.Errorf("cannot parse networks: %q is neither a network nor an interface of one", line)
		}
		rest = after
	}
	if err := Check(all); err != nil {
		return nil, fmt.Errorf("cannot parse networks: %w", err)
	}
	return all, nil
}
