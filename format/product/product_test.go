package product

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"

	"cloison/format/network"
)

const whole = `name = "gateway"
title = "Gateway"
services = ["console", "logd"]
[release]
version = "1.20.3"
security_version = 7
floor = 5
date = 2026-11-23
[disk]
esp = 1024
slot = 256
state = 512
swap = 64
[state]
unlock = "tpm"
[[networks]]
name = "outer"
why = "strangers"
interfaces = [{ name = "wan0", port = "0000:00:10.0" }]
[[assertions]]
assert = "never console -> network:*"
why = "it needs none"
`

func TestParse(t *testing.T) {
	got, err := Parse([]byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	want := Product{
		"gateway", "Gateway",
		[]string{"console", "logd"},
		[]network.Network{{Name: "outer", Why: "strangers", Interfaces: []network.Interface{{Name: "wan0", Port: "0000:00:10.0"}}}},
		Release{"1.20.3", 7, 5, toml.LocalDate{Year: 2026, Month: 11, Day: 23}},
		Disk{1024, 256, 512, 64},
		State{TPM},
		[]Assertion{{"never console -> network:*", "it needs none"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Parse, -want +got:\n%s", diff)
	}
	if got, want := got.Release.Epoch(), int64(1795392000); got != want {
		t.Errorf("Epoch() = %d, want %d", got, want)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, test := range []struct{ old, new, want string }{
		{"floor = 5", "floor = 8", "release.floor = 8 is above release.security_version = 7: the release would lock itself out"},
		{`title = "Gateway"`, `titel = "Gateway"`, "line 2: unknown key [titel]"},
		{`title = "Gateway"`, ``, "title is missing"},
		{`"gateway"`, `"../gateway"`, `name = "../gateway" is not lower-case letters, digits and hyphens`},
		{`"1.20.3"`, `"1.20"`, `release.version = "1.20" is not X.Y.Z`},
		{`"1.20.3"`, `"1.020.3"`, `release.version = "1.020.3" is not X.Y.Z`},
		{`security_version = 7`, ``, "release.security_version is missing: it counts from 1"},
		{`date = 2026-11-23`, ``, "release.date is missing"},
		{`esp = 1024`, `esp = 1`, "disk.esp = 1 is not between 64 and 4096 MiB"},
		{`slot = 256`, ``, "disk.slot = 0 is not between 16 and 65536 MiB"},
		{`state = 512`, `state = 1`, "disk.state = 1 is not between 64 and 16777216 MiB"},
		{`swap = 64`, "swap = 15", "disk.swap = 15 is neither 0 nor between 16 and 1048576 MiB"},
		{`unlock = "tpm"`, `unlock = "TPM"`, `state.unlock = "TPM" is neither "tpm" nor "passphrase"`},
		{`unlock = "tpm"`, `unlock = "passphrase"`, `release.floor = 5 with state.unlock = "passphrase": without a TPM no machine can keep a floor`},
		{`unlock = "tpm"`, `lock = "tpm"`, "line 15: unknown key [state lock]"},
		{`services = ["console", "logd"]`, ``, "services is missing: an empty list says that there are none"},
		{`"logd"]`, `"../logd"]`, `services has "../logd", which is not a name of image/services, once`},
		{`"logd"]`, `"console"]`, `services has "console", which is not a name of image/services, once`},
		{`-> network:*`, `to network:*`, `assertions: cannot read the assertion "never console to network:*": "to" stands where "->" has to`},
		{`"0000:00:10.0"`, `"eth0"`, `the network outer has the interface wan0 at "eth0", which is not the address of a PCI function like 0000:00:02.0`},
		{`why = "it needs none"`, ``, `assertions: "never console -> network:*" has no reason of one line beside it`},
		// What tests put in the place of PID 1 cannot get into a product.
		{`"logd"]`, `"../../test/boot/rogue"]`, `services has "../../test/boot/rogue", which is not a name of image/services, once`},
	} {
		_, err := Parse([]byte(strings.Replace(whole, test.old, test.new, 1)))
		if err == nil || err.Error() != test.want {
			t.Errorf("Parse with %s for %s = %v, want %s", test.new, test.old, err, test.want)
		}
	}
}

func TestByPassphrase(t *testing.T) {
	for _, test := range []struct {
		state string
		want  bool
	}{{"", false}, {"[state]\nunlock = \"tpm\"\n", false}, {"[state]\nunlock = \"passphrase\"\n", true}} {
		text := strings.NewReplacer("[state]\nunlock = \"tpm\"\n", test.state, "floor = 5", "floor = 0").Replace(whole)
		if p, err := Parse([]byte(text)); err != nil || p.ByPassphrase() != test.want {
			t.Errorf("Parse with %q opens by a passphrase: %t, %v, want %t", test.state, p.ByPassphrase(), err, test.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse(text)
		if err != nil {
			return
		}
		printed, err := toml.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(printed)
		if diff := cmp.Diff(p, again); err != nil || diff != "" {
			t.Errorf("Parse(Marshal(%+v)): %v, -want +got:\n%s", p, err, diff)
		}
	})
}
