package refusal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	format "cloison/format/efivar"
	"cloison/linux/efivar"
)

// loader is a loader's variables: lists are separated by spaces.
type loader map[string]string

func (l loader) Read(name, vendor string) (format.Variable, error) {
	s, ok := l[name]
	if !ok || vendor != efivar.Loader {
		return format.Variable{}, fmt.Errorf("cannot read %s: %w", name, efivar.ErrMissing)
	}
	var v format.Variable
	for _, word := range strings.Fields(s) {
		for _, c := range word + "\x00" {
			v.Data = binary.LittleEndian.AppendUint16(v.Data, uint16(c))
		}
	}
	return v, nil
}

type broken struct{}

func (broken) Read(string, string) (format.Variable, error) {
	return format.Variable{}, errors.New("firmware is broken")
}

func TestJudge(t *testing.T) {
	const name = `\EFI\Linux\cloison_0.2.0`
	for _, test := range []struct {
		vars Variables
		off  bool
		why  string
	}{
		{loader{}, false, "does not count"},
		{loader{"LoaderBootCountPath": name + "+2-1.efi"}, false, "has 2 more tries for 0.2.0"},
		{loader{"LoaderBootCountPath": name + "+0-3.efi"}, true, "no try is left for 0.2.0"},
		{loader{
			"LoaderBootCountPath": name + "+0-3.efi",
			"LoaderEntries":       "cloison_0.2.0+0-3.efi cloison_0.1.0.efi", "LoaderEntrySelected": "cloison_0.2.0+0-3.efi",
		}, false, "has another entry"},
		{loader{
			"LoaderBootCountPath": name + "+0-3.efi",
			"LoaderEntries":       "cloison_0.2.0+0-3.efi auto-reboot", "LoaderEntrySelected": "cloison_0.2.0+0-3.efi",
		}, true, "no other entry"},
		{loader{"LoaderBootCountPath": `\evil.efi`}, false, "unreadable"},
		{loader{"LoaderBootCountPath": "two words"}, false, "unreadable"},
		{broken{}, false, "unreadable"},
	} {
		if got := Judge(test.vars); got.Off != test.off || !strings.Contains(got.Why, test.why) {
			t.Errorf("Judge(%v) = %+v, want off %t because %q", test.vars, got, test.off, test.why)
		}
	}
}
