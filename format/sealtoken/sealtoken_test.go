package sealtoken

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var token = Token{Keyslot: 3, SRK: [34]byte{0, 11, 1}, Key: [34]byte{0, 11, 2}, PCR7: [32]byte{3}, Public: []byte{4, 5}, Private: []byte{6}}

func TestToken(t *testing.T) {
	text := token.Print()
	var indented bytes.Buffer
	if err := json.Indent(&indented, text, "", "\t"); err != nil {
		t.Fatal(err)
	}
	// As cryptsetup keeps it: another order, other spaces.
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	sorted, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range [][]byte{text, indented.Bytes(), sorted} {
		got, err := Parse(text)
		if diff := cmp.Diff(token, got); err != nil || diff != "" {
			t.Errorf("Parse(%s): %v, -want +got:\n%s", text, err, diff)
		}
	}
}

func TestRecovery(t *testing.T) {
	r := Recovery{Keyslot: 1, Secret: []byte("secret")}
	got, err := ParseRecovery(r.Print())
	if diff := cmp.Diff(r, got); err != nil || diff != "" {
		t.Errorf("ParseRecovery(Print(r)): %v, -want +got:\n%s", err, diff)
	}
	if _, err := ParseRecovery(token.Print()); err == nil {
		t.Error("ParseRecovery of the other token = nil error")
	}
	if _, err := Parse(r.Print()); err == nil {
		t.Error("Parse of the other token = nil error")
	}
}

func TestParse(t *testing.T) {
	text := string(token.Print())
	for _, test := range []struct{ old, new string }{
		{`"cloison-tpm2"`, `"systemd-tpm2"`},
		{`"type"`, `"Type"`},
		{`"version":1`, `"version":2`},
		{`"version":1`, `"version":1,"version":1`},
		{`"version":1`, `"version":1,"more":1`},
		{`"version":1`, `"version":1.0`},
		{`"version":1,`, ``},
		{`["3"]`, `["3","4"]`},
		{`["3"]`, `[]`},
		{`["3"]`, `["03"]`},
		{`["3"]`, `["32"]`},
		{`["3"]`, `["-1"]`},
		{`["3"]`, `[3]`},
		{`["3"]`, `["\u0033"]`},
		{`"public":"0405"`, `"public":"040"`},
		{`"public":"0405"`, `"public":"040g"`},
		{`"public":"0405"`, `"public":""`},
		{`"public":"0405"`, `"public":"040A"`},
		{`"public":"0405"`, `"public":"` + strings.Repeat("00", maxBlob+1) + `"`},
		{`"srk":"000b01`, `"srk":"000b`},
		{`}`, `}}`},
		{`{`, ``},
		{text, strings.Repeat(" ", 8192) + text},
		{text, "null"},
		{text, ""},
	} {
		changed := strings.Replace(text, test.old, test.new, 1)
		if _, err := Parse([]byte(changed)); err == nil || changed == text {
			t.Errorf("Parse with %q for %q = nil error", test.new, test.old)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(token.Print())
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(got.Print())
		if diff := cmp.Diff(got, again); err != nil || diff != "" {
			t.Fatalf("Parse(%q) is not what it prints: %v, %s", text, err, diff)
		}
	})
}

func FuzzParseRecovery(f *testing.F) {
	f.Add(Recovery{Keyslot: 1, Secret: []byte("secret")}.Print())
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := ParseRecovery(text)
		if err != nil {
			return
		}
		again, err := ParseRecovery(got.Print())
		if diff := cmp.Diff(got, again); err != nil || diff != "" {
			t.Fatalf("ParseRecovery(%q) is not what it prints: %v, %s", text, err, diff)
		}
	})
}
