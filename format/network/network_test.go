package network

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cloison/format/service"
)

func sample() []Network {
	return []Network{
		{"outer", "the side of strangers", []Interface{{"wan0", "0000:00:10.0"}, {"wan1", "0000:00:10.7"}}},
		{"inner", "services that talk to each other", nil},
	}
}

const printed = `cloison networks 1
network outer the side of strangers
interface wan0 0000:00:10.0
interface wan1 0000:00:10.7
network inner services that talk to each other
`

func TestPrint(t *testing.T) {
	got, err := Print(sample())
	if err != nil || got != printed {
		t.Errorf("Print = %s, %v, want %s", got, err, printed)
	}
	all, err := Parse(printed)
	if diff := cmp.Diff(sample(), all); err != nil || diff != "" {
		t.Errorf("Parse: %v, -want +got:\n%s", err, diff)
	}
	if none, err := Parse(heading); err != nil || none != nil {
		t.Errorf("Parse of none = %v, %v", none, err)
	}
}

func TestCheck(t *testing.T) {
	for want, change := range map[string]func([]Network){
		"the name \"\"":              func(n []Network) { n[0].Name = "" },
		"the name \"none\"":          func(n []Network) { n[0].Name = "none" },
		"the name \"../x\"":          func(n []Network) { n[0].Name = "../x" },
		"two networks are called":    func(n []Network) { n[1].Name = "outer" },
		"no reason":                  func(n []Network) { n[0].Why = "" },
		"reason of one line":         func(n []Network) { n[0].Why = "a\nb" },
		`interface ""`:               func(n []Network) { n[0].Interfaces[0].Name = "" },
		`interface "lo"`:             func(n []Network) { n[0].Interfaces[0].Name = "lo" },
		`interface "sixteen-letters`: func(n []Network) { n[0].Interfaces[0].Name = "sixteen-letters-" },
		"two interfaces wan1":        func(n []Network) { n[0].Interfaces[0].Name = "wan1" },
		`wan0 at "eth0"`:             func(n []Network) { n[0].Interfaces[0].Port = "eth0" },
		`wan0 at "0000:00:1F.0"`:     func(n []Network) { n[0].Interfaces[0].Port = "0000:00:1F.0" },
		`wan0 at "0000:00:1f.8"`:     func(n []Network) { n[0].Interfaces[0].Port = "0000:00:1f.8" },
		`wan0 at "0000:00-1f.0"`:     func(n []Network) { n[0].Interfaces[0].Port = "0000:00-1f.0" },
		"in the networks outer and inner": func(n []Network) {
			n[1].Interfaces = []Interface{{"lan0", "0000:00:10.0"}}
		},
	} {
		n := sample()
		change(n)
		if err := Check(n); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Check = %v, want %s", err, want)
		}
		if text, err := Print(n); err == nil {
			t.Errorf("Print of what is wrong (%s) = %s", want, text)
		}
	}
}

func TestCheckServices(t *testing.T) {
	services := []*service.Service{{Name: "a", Network: service.None}, {Name: "b", Network: "inner"}}
	if err := CheckServices(services, sample()); err != nil {
		t.Error(err)
	}
	services[1].Network = "outside"
	if err := CheckServices(services, sample()); err == nil || err.Error() != "service b is to be in the network outside, which the product does not have" {
		t.Errorf("CheckServices = %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		"", "cloison networks 2\n", strings.TrimSuffix(printed, "\n"), printed + "\n", printed + "x\n",
		heading + "interface wan0 0000:00:10.0\n", heading + "network outer\n", heading + "network  outer x\n",
		printed + "network outer again\n", heading + strings.Repeat("#", maxText),
	} {
		if all, err := Parse(text); err == nil {
			t.Errorf("Parse(%.60q) = %v", text, all)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(printed)
	f.Add(heading)
	f.Fuzz(func(t *testing.T, text string) {
		all, err := Parse(text)
		if err != nil {
			return
		}
		if again, err := Print(all); err != nil || again != text {
			t.Errorf("Print(Parse(%q)) = %q, %v", text, again, err)
		}
	})
}
