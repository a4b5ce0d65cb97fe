package supervise

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"cloison/format/network"
	"cloison/format/rtnetlink"
	"cloison/format/service"
	"cloison/linux/namespace"
	"cloison/linux/netlink"
)

// interfaces is where the kernel lists the interfaces of the initial network
// namespace, and where their hardware sits.
const interfaces = "/sys/class/net"

// makeNetworks makes the network namespaces of the product, with their loopback
// interfaces, and moves into each the interfaces that belong there. What no
// network names stays behind, switched off, where no service is. An interface
// that is missing is missed by its network alone: what is not there lets nothing
// through.
func (s *supervisor) makeNetworks() error {
	text, err := os.ReadFile(network.Path)
	if err != nil {
		return fmt.Errorf("cannot read the networks of the product: %w", err)
	}
	if s.networks, err = network.Parse(string(text)); err != nil || len(s.networks) == 0 {
		return err
	}
	at, err := ports(interfaces)
	if err != nil {
		return err
	}
	here, err := netlink.Open()
	if err != nil {
		return err
	}
	for _, n := range s.networks {
		kept := filepath.Join(service.Networks, n.Name)
		if err := namespace.KeepNetwork(kept, prepareNetwork); err != nil {
			return errors.Join(err, here.Close())
		}
		there, err := os.Open(kept)
		if err != nil {
			return errors.Join(fmt.Errorf("cannot open the network %s: %w", n.Name, err), here.Close())
		}
		said := []string{}
		for _, i := range n.Interfaces {
			index, ok := at[i.Port]
			if !ok {
				said = append(said, fmt.Sprintf("%s is missing: no interface at %s", i.Name, i.Port))
				continue
			}
			if err := here.Move(index, i.Name, there); err != nil {
				return errors.Join(err, there.Close(), here.Close())
			}
			said = append(said, fmt.Sprintf("%s at %s", i.Name, i.Port))
		}
		if len(said) == 0 {
			said = []string{"no interfaces"}
		}
		s.say("network %s: %s", n.Name, strings.Join(said, ", "))
		if err := there.Close(); err != nil {
			return errors.Join(err, here.Close())
		}
	}
	return here.Close()
}

// loopback is the index of the first interface of each network namespace.
const loopback = 1

// prepareNetwork is done in a new network namespace.
func prepareNetwork() error {
	if err := setSysctls("/proc/sys", networkSysctls); err != nil {
		return err
	}
	s, err := netlink.Open()
	if err != nil {
		return err
	}
	if _, err = s.Do(rtnetlink.SetUp(loopback, true)); err != nil {
		err = fmt.Errorf("cannot switch on the loopback interface: %w", err)
	}
	return errors.Join(err, s.Close())
}

// ports tells which interface sits at which PCI function, by its index. root is
// /sys/class/net: each entry leads to a folder below that of the hardware, such as
// ../../devices/pci0000:00/0000:00:02.0/virtio1/net/eth0.
func ports(root string) (map[string]uint32, error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("cannot list the interfaces: %w", err)
	}
	found := map[string]uint32{}
	for _, e := range entries {
		to, err := os.Readlink(filepath.Join(root, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("cannot tell where the interface %s is: %w", e.Name(), err)
		}
		port := portOf(to)
		if port == "" {
			continue // no hardware: lo
		}
		text, err := os.ReadFile(filepath.Join(root, e.Name(), "ifindex"))
		if err != nil {
			return nil, fmt.Errorf("cannot tell the number of the interface %s: %w", e.Name(), err)
		}
		index, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 31)
		if err != nil {
			return nil, fmt.Errorf("cannot tell the number of the interface %s: %w", e.Name(), err)
		}
		// One function with several interfaces has no name for each of them.
		if _, twice := found[port]; twice {
			return nil, fmt.Errorf("two interfaces are at %s", port)
		}
		found[port] = uint32(index)
	}
	return found, nil
}

// portOf returns the PCI function that is nearest to an interface: bridges stand
// before it in the path.
func portOf(link string) string {
	port := ""
	for part := range strings.SplitSeq(link, "/") {
		if network.IsPort(part) {
			port = part
		}
	}
	return port
}
