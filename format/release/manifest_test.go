package release

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func digest(c string) string { return strings.Repeat(c, 64) }

func valid() Manifest {
	return Manifest{
		Version: "1.2.3", Product: "gateway", Hardware: "qemu", SecurityVersion: 1, SourceDateEpoch: 1, Development: true, Unlock: TPM,
		Core: Core{digest("0"), 4096 * 6, digest("1"), digest("2"), 2, 8192, 16384, 2},
		UKI: UKI{
			digest("3"), 10, "console=ttyS0 <a&b>",
			Measured{digest("4"), []Phase{{"enter-initrd", digest("5")}}},
			Measured{digest("a"), []Phase{{"enter-initrd", digest("b")}}},
		},
		Disk: File{digest("6"), 20}, KernelConfig: File{digest("8"), 30}, SBOM: File{digest("9"), 40},
		Inputs: []Input{{"linux", "7.3", digest("7")}},
	}
}

func TestPrintParse(t *testing.T) {
	text, err := Print(valid())
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(text)
	if diff := cmp.Diff(valid(), got); err != nil || diff != "" {
		t.Errorf("Parse(Print(m)): %v, -want +got:\n%s", err, diff)
	}
}

func TestSchema(t *testing.T) {
	schema := compile(t)
	text, err := Print(valid())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		old, new string
		valid    bool
	}{
		{"", "", true},
		{`"version"`, `"versoin"`, false},
		{digest("1"), strings.Repeat("A", 64), false},
		{`"data_blocks": 2`, `"data_blocks": "2"`, false},
		{`"recovery"`, `"recover"`, false},
		{digest("b"), digest("B"), false},
		{`"fec_roots": 2`, `"fec_roots": 1`, false},
	} {
		changed := strings.Replace(string(text), test.old, test.new, 1)
		instance, err := jsonschema.UnmarshalJSON(strings.NewReader(changed))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(instance); (err == nil) != test.valid {
			t.Errorf("schema with %q for %q: %v, want valid = %t", test.new, test.old, err, test.valid)
		}
		if _, err := Parse([]byte(changed)); (err == nil) != test.valid {
			t.Errorf("Parse with %q for %q: %v, want valid = %t", test.new, test.old, err, test.valid)
		}
	}
}

func compile(t *testing.T) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("manifest.schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("manifest.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func FuzzParse(f *testing.F) {
	text, err := Print(valid())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := Parse(text)
		if err != nil {
			return
		}
		printed, err := Print(m)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(printed)
		if diff := cmp.Diff(m, again); err != nil || diff != "" {
			t.Errorf("Parse(Print(%+v)): %v, -want +got:\n%s", m, err, diff)
		}
	})
}
