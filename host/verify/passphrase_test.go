package verify_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"cloison/format/release"
	"cloison/format/uki"
	"cloison/host/verify"
)

// TestPassphrase: a product whose state volume a passphrase opens is told as one
// from what is signed. Nothing in it is for a TPM, and all parts say the same.
func TestPassphrase(t *testing.T) {
	o := open(t)
	line := func(line string) string {
		return strings.Replace(line, " cloison.development=1", " cloison.unlock=passphrase cloison.development=1", 1)
	}
	says := func(s *[]uki.Section) {
		for i := range *s {
			if (*s)[i].Name == ".osrel" {
				(*s)[i].Data = append(bytes.Clone((*s)[i].Data), "CLOISON_UNLOCK=passphrase\n"...)
			}
		}
	}
	without := func(names ...string) func(*[]uki.Section) {
		return func(s *[]uki.Section) {
			says(s)
			*s = slices.DeleteFunc(*s, func(one uki.Section) bool { return slices.Contains(names, one.Name) })
		}
	}
	manifest := func(m *release.Manifest) { m.Unlock = release.Passphrase }
	for _, test := range []struct {
		name   string
		change changes
		want   []string
	}{
		{"as it is built", changes{line: line, sections: without(".pcrpkey", ".pcrsig"), keepPolicy: true, manifest: manifest}, nil},
		{"with a key for a TPM", changes{line: line, sections: without(".pcrsig"), keepPolicy: true, manifest: manifest}, []string{verify.TPMPolicy}},
		{"with a policy for a TPM", changes{line: line, sections: says, manifest: manifest}, []string{verify.TPMPolicy}},
		{"on the command line alone", changes{line: line}, []string{verify.TPMPolicy, verify.UKI}},
		{"in os-release alone", changes{sections: says}, []string{verify.UKI}},
		{"not in the manifest", changes{line: line, sections: without(".pcrpkey", ".pcrsig"), keepPolicy: true}, []string{verify.UKI}},
		{"in the manifest alone", changes{manifest: manifest}, []string{verify.UKI}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := verify.Run(t.Context(), options(t, o.store, o.assemble(t, test.change)))
			check(t, err)
			if got := failed(r); !slices.Equal(got, test.want) {
				t.Errorf("failed checks = %q, want %q\n%s", got, test.want, r)
			}
			if table := r.String(); test.change.line != nil && !strings.Contains(table, "NO TPM: ") {
				t.Errorf("the report does not say that there is no TPM:\n%s", table)
			}
			if test.want == nil && !strings.Contains(r.String(), "no rollback floor, no binding to the machine") {
				t.Errorf("the table does not say what is missing:\n%s", r)
			}
		})
	}
}
