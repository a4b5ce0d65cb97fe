package supervise

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// hardware makes a /sys/class/net; links are names and where they lead.
func hardware(t *testing.T, links map[string]string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "class/net")
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	number := map[string]string{"eth0": "2\n", "eth1": "3\n", "lo": "1\n", "bad": "x\n"}
	for name, to := range links {
		folder := filepath.Join(root, to)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, "ifindex"), []byte(number[name]), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestPorts(t *testing.T) {
	got, err := ports(hardware(t, map[string]string{
		"lo":   "../../devices/virtual/net/lo",
		"eth0": "../../devices/pci0000:00/0000:00:10.0/virtio2/net/eth0",
		"eth1": "../../devices/pci0000:00/0000:00:1c.4/0000:3a:00.1/net/eth1", // behind a bridge
	}))
	if diff := cmp.Diff(map[string]uint32{"0000:00:10.0": 2, "0000:3a:00.1": 3}, got); err != nil || diff != "" {
		t.Errorf("ports: %v, -want +got:\n%s", err, diff)
	}
	for want, links := range map[string]map[string]string{
		"two interfaces are at 0000:00:10.0":              {"eth0": "../../devices/pci0000:00/0000:00:10.0/net/eth0", "eth1": "../../devices/pci0000:00/0000:00:10.0/net/eth1"},
		"cannot tell the number of the interface bad":     {"bad": "../../devices/pci0000:00/0000:00:10.0/net/bad"},
		"cannot list the interfaces":                      nil,
		"cannot tell where the interface bonding_masters": {},
	} {
		root := "/nowhere"
		if links != nil {
			root = hardware(t, links)
		}
		if len(links) == 0 && links != nil {
			if err := os.WriteFile(filepath.Join(root, "bonding_masters"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := ports(root); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ports = %v, %v, want %s", got, err, want)
		}
	}
}
