package config

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"cloison/format/hint"
)

// examples have each key of each document.
var examples = map[string]string{
	"system": `hostname = "gate-1.example"
banner = "Property of \"Example\""
idle = "30m"
confirm = "90s"
`,
	"time": `servers = ["ntp.example", "192.0.2.1:123", "2001:db8::1", "[2001:db8::2]:123"]
`,
	"network": `resolvers = ["192.0.2.53", "2001:db8::53"]

[[interface]]
name = "eth0"
method = "static"
addresses = ["192.0.2.2/24", "2001:db8::2/64"]
gateway = "192.0.2.1"
mtu = 1400

[[interface]]
name = "eth1"
method = "dhcp"
`,
	"log": `size = "128 MiB"
age = "90d"

[[collector]]
name = "main"
address = "log.example:6514"
authorities = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
certificate = "-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----\n"
`,
	"access": `revoked = ["SHA256:` + strings.Repeat("a", 43) + `"]
revoked_serials = ["staff:17"]

[ssh]
networks = ["management"]
port = 2222

[[key]]
name = "alice"
role = "admin"
key = "` + aliceKey + `"
sources = ["192.0.2.0/24"]

[[authority]]
name = "staff"
key = "` + staffKey + `"
roles = ["audit", "update"]
principals = ["bob"]

[[password]]
name = "alice"
role = "admin"
hash = "$argon2id$v=19$m=65536,t=3,p=1$` + strings.Repeat("A", 22) + "$" + strings.Repeat("B", 43) + `"
`,
}

const (
	aliceKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGmCP4rRWDFDbwPnwAAA6F8IfxrzDPqbPBiCTSRN6gT1"
	staffKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGmCP4rRWDFDbwPnwAAA6F8IfxrzDPqbPBiCTSRN6gT2"
)

func parsed(t testing.TB, concern, text string) Document {
	t.Helper()
	d, err := Parse(concern, []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestPrintIsCanonical(t *testing.T) {
	for _, concern := range Concerns() {
		d := parsed(t, concern, examples[concern])
		if got := string(Print(d)); got != examples[concern] {
			t.Errorf("Print(Parse(%s)):\n%s", concern, cmp.Diff(examples[concern], got))
		}
		// Each key of the format is in the example, so that nothing is left untested.
		for _, key := range paths("", reflect.TypeOf(d).Elem()) {
			at := concern + "." + key
			found := false
			for _, c := range Diff(concern, concerns[row(concern)].empty(), d) {
				found = found || concern+"."+withoutNames(c.Key) == at
			}
			if !found {
				t.Errorf("the example has no %s", at)
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, test := range []struct{ concern, text, want, advice string }{
		{"system", "hostnam = \"x\"\n", `system: line 1: unknown key "hostnam"`, "did you mean hostname?"},
		{"system", "\nhostname = 7\n", "system: line 2: ", ""},
		{"system", "hostname = \"\"\n", "system: line 1: hostname is empty", ""},
		{"system", "# c\nhostname = \"-x\"\n", `system: line 2: hostname = "-x" is not a host name`, ""},
		{"system", "hostname = \"a\"\nhostname = \"b\"\n", "system: line 2: ", ""},
		{"system", "idle = \"0s\"\n", `idle = "0s" is not a duration`, ""},
		{"system", "banner = \"a\\nb\"\n", `banner = "a\nb" is not one line`, ""},
		{"systm", "", `unknown document "systm"`, "did you mean system?"},
		{"time", "servers = [\"10.0.0.1:99999\"]\n", "line 1: servers[0] = ", ""},
		{"time", "servers = [\"a\", \"a\"]\n", `line 1: servers has "a" twice`, ""},
		{"time", "servers = \"a\"\n", "line 1: ", ""},
		{"network", "[[interface]]\nname = \"eth0\"\n", "line 1: interface[0].method is missing", ""},
		{"network", "[[interface]]\nname = \"eth0\"\nmethod = \"dhcpv4\"\n", `line 3: interface[0].method = "dhcpv4" is none of none, dhcp, static: did you mean dhcp?`, ""},
		{"network", "[[interface]]\nname = \"eth0\"\nmethod = \"static\"\n", "interface[0].addresses is missing", ""},
		{"network", "[[interface]]\nname = \"a\"\nmethod = \"none\"\n[[interface]]\nname = \"a\"\nmethod = \"none\"\n", `line 5: interface[1].name = "a" is there twice`, ""},
		{"network", "[[interface]]\nname = \"a\"\nmethod = \"none\"\nadresses = []\n", `line 4: unknown key "adresses"`, "did you mean addresses?"},
		{"network", "[interface]\nname = \"a\"\n", "write [[interface]]", ""},
		{"network", "[[interface]]\nname = \"a\"\nmethod = \"dhcp\"\nmtu = 100\n", "line 4: interface[0].mtu = 100 is not between 1280 and 9216", ""},
		{"access", "ssh = 1\n", "line 1: ssh is not a table", ""},
		{"access", "[[key]]\nname = \"x\"\nrole = \"root\"\nkey = \"" + aliceKey + "\"\n", `line 3: key[0].role = "root" is none of admin, audit, update`, ""},
		{"access", "[[key]]\nname = \"x\"\nrole = \"audit\"\nkey = \"ssh-rsa AAAA\"\n", "line 4: key[0].key = ", ""},
		{"access", "[[key]]\nname = \"x\"\nrole = \"audit\"\nkey = \"ssh-ed25519" + strings.TrimPrefix(staffKey, "ssh-ed25519")[:60] + "\"\n", "line 4: key[0].key = ", ""},
		{"access", "[[key]]\nname = \"x\"\nrole = \"audit\"\nkey = \"" + aliceKey + "\"\n[[key]]\nname = \"y\"\nrole = \"admin\"\nkey = \"" + aliceKey + "\"\n", "line 8: key[1].key is that of key[0].key", ""},
		{"log", "size = \"1 KiB\"\n", "size = \"1 KiB\" is not a size", ""},
		{"log", "size = \"\x00\"\n", "log: ", ""},
	} {
		_, err := Parse(test.concern, []byte(test.text), nil)
		if err == nil || !strings.Contains(err.Error(), test.want) || hint.Of(err) != test.advice {
			t.Errorf("Parse(%s, %q) = %v (%s), want %q (%s)", test.concern, test.text, err, hint.Of(err), test.want, test.advice)
		}
	}
	if _, err := Parse("log", bytes.Repeat([]byte("#\n"), MaxDocument), nil); err == nil {
		t.Error("Parse takes a document without end")
	}
}

func TestDefaults(t *testing.T) {
	d, err := As[System](nil)
	if want := (System{Hostname: "cloison", Idle: "15m", Confirm: "2m"}); err != nil || d != want {
		t.Errorf("As[System] of nothing = %+v, %v, want %+v", d, err, want)
	}
	a, err := As[Access](nil)
	if err != nil || a.SSH.Port != 22 || len(a.SSH.Networks) != 0 || len(a.Keys) != 0 {
		t.Errorf("As[Access] of nothing = %+v, %v, want nobody and no network", a, err)
	}
	for _, concern := range Concerns() {
		d, err := Default(concern)
		if err != nil || Check(d) != nil {
			t.Errorf("Check(Default(%s)) = %v, %v", concern, Check(d), err)
		}
	}
}

// TestDifference: what is kept over the product's defaults gives the document back,
// a list that became empty and a key that was unset, too.
func TestDifference(t *testing.T) {
	for _, concern := range Concerns() {
		base, err := Default(concern)
		if err != nil {
			t.Fatal(err)
		}
		full := parsed(t, concern, examples[concern])
		for _, pair := range [][2]Document{{base, full}, {full, base}, {full, full}} {
			kept := Difference(pair[1], pair[0])
			again, err := Parse(concern, kept, pair[0])
			if err != nil || string(Print(again)) != string(Print(pair[1])) {
				t.Errorf("%s: Difference = %q, over the other: %v\n%s", concern, kept, err, cmp.Diff(string(Print(pair[1])), string(Print(again))))
			}
		}
		again, err := Parse(concern, Complete(base, full), full)
		if err != nil || string(Print(again)) != string(Print(base)) {
			t.Errorf("%s: Complete(default) over the example: %v\n%s", concern, err, Print(again))
		}
		if kept := Difference(full, full); len(kept) != 0 {
			t.Errorf("%s: Difference to itself = %q", concern, kept)
		}
	}
}

func TestDiff(t *testing.T) {
	from := parsed(t, "access", examples["access"])
	text := strings.Replace(examples["access"], `role = "admin"`, `role = "audit"`, 1)
	text = strings.Replace(text, "port = 2222\n", "", 1)
	text = strings.Replace(text, "BBBB", "CCCC", 1)
	text += "\n[[key]]\nname = \"alice\"\nrole = \"update\"\nkey = \"" + strings.Replace(aliceKey, "gT1", "gT3", 1) + "\"\n"
	var got []string
	for _, c := range Diff("access", from, parsed(t, "access", text)) {
		got = append(got, c.String())
	}
	want := []string{
		`~ access.ssh.port: 2222 -> 22`,
		`~ access.key[alice].role: "admin" -> "audit"`,
		`~ access.password[alice].hash: (secret) -> (another secret)`,
		`+ access.key[alice#2].name = "alice"`,
		`+ access.key[alice#2].role = "update"`,
		`+ access.key[alice#2].key = "` + strings.Replace(aliceKey, "gT1", "gT3", 1) + `"`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestDelegated(t *testing.T) {
	for _, test := range []struct {
		concern, key, pattern string
		want                  bool
	}{
		{"system", "hostname", "system.hostname", true},
		{"system", "hostname", "system.*", true},
		{"system", "hostname", "system", false},
		{"system", "hostname", "time.*", false},
		{"access", "key[alice].role", "access.key.*", true},
		{"access", "key[alice].role", "access.key.role", true},
		{"access", "key[alice].role", "access.key.name", false},
		{"access", "key[a.b].role", "access.key.role", true},
		{"access", "ssh.port", "access.*.port", true},
		{"access", "ssh.port", "access.key.*", false},
		{"access", "ssh.port", "*", false},
	} {
		if got := (Change{Concern: test.concern, Key: test.key}).Delegated([]string{test.pattern}); got != test.want {
			t.Errorf("%s.%s is delegated by %s: %v, want %v", test.concern, test.key, test.pattern, got, test.want)
		}
	}
	for pattern, want := range map[string]bool{"system.*": true, "access.key.role": true, "access.keys.*": false, "firewall.*": false, "*": false, "": false, "system.host*": true} {
		if err := CheckPattern(pattern); (err == nil) != want {
			t.Errorf("CheckPattern(%q) = %v", pattern, err)
		}
	}
}

func compiled(t testing.TB, concern string) *jsonschema.Schema {
	t.Helper()
	text, err := Schema(concern)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(concern+".json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(concern + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// asJSON is a TOML document as JSON has it.
func asJSON(text []byte) (any, error) {
	var keys map[string]any
	if err := toml.Unmarshal(text, &keys); err != nil {
		return nil, err
	}
	b, err := json.Marshal(keys)
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(b))
}

// TestSchema holds schema and parser against each other.
func TestSchema(t *testing.T) {
	for _, concern := range Concerns() {
		s := compiled(t, concern)
		v, err := asJSON([]byte(examples[concern]))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(v); err != nil {
			t.Errorf("the schema of %s refuses its example: %v", concern, err)
		}
		refused := 0
		for _, change := range [][2]string{
			{"= \"", `= "\u0001`},
			{"[", "[7, "},
			{"]]\n", "]]\nunknown = 1\n"},
			{"role = ", "# role = "},
			{"name = ", "# name = "},
			{"\"admin\"", "\"root\""},
			{"mtu = 1400", "mtu = 9217"},
			{"port = 2222", "port = 0"},
		} {
			text := []byte(strings.Replace(examples[concern], change[0], change[1], 1))
			v, err := asJSON(text)
			if err != nil || string(text) == examples[concern] {
				continue
			}
			bySchema := s.Validate(v)
			_, byParser := Parse(concern, text, nil)
			if bySchema == nil || byParser == nil {
				t.Errorf("%s with %q: the schema says %v, the parser %v; want both to refuse it", concern, change[1], bySchema, byParser)
			}
			refused++
		}
		if refused == 0 {
			t.Errorf("nothing was tried on %s", concern)
		}
	}
}

// TestPublished: what is published is what holds.
func TestPublished(t *testing.T) {
	for _, concern := range Concerns() {
		want, err := Schema(concern)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("../../docs/schema", concern+".json")
		if os.Getenv("UPDATE") != "" {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != string(want) {
			t.Errorf("docs/schema/%s.json is not what Schema prints (%v): UPDATE=1 go test ./format/config", concern, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	schemas := map[string]*jsonschema.Schema{}
	for _, concern := range Concerns() {
		f.Add(concern, []byte(examples[concern]))
		schemas[concern] = compiled(f, concern)
	}
	f.Fuzz(func(t *testing.T, concern string, text []byte) {
		d, err := Parse(concern, text, nil)
		if err != nil {
			return
		}
		printed := Print(d)
		again, err := Parse(concern, printed, nil)
		if err != nil || string(Print(again)) != string(printed) {
			t.Fatalf("Print(Parse(%q)) = %q, which parses as %v, %v", text, printed, again, err)
		}
		v, err := asJSON(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := schemas[concern].Validate(v); err != nil {
			t.Fatalf("Parse takes %q, the schema does not: %v", text, err)
		}
		base, err := Default(concern)
		if err != nil {
			t.Fatal(err)
		}
		for _, pair := range [][2]Document{{base, d}, {d, base}} {
			back, err := Parse(concern, Difference(pair[1], pair[0]), pair[0])
			if err != nil || string(Print(back)) != string(Print(pair[1])) {
				t.Fatalf("Difference of %q: %v", printed, err)
			}
		}
	})
}
