package state

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloison/format/luks2"
)

const goodChoice = "correct horse battery"

func TestChoose(t *testing.T) {
	other := strings.ToUpper(goodChoice)
	for _, test := range []struct {
		name  string
		lines []string
		want  string // error, or none
	}{
		{"twice", []string{goodChoice, goodChoice}, ""},
		{"short", []string{"short", goodChoice, goodChoice}, ""},
		{"few characters", []string{strings.Repeat("ab", 20), goodChoice, goodChoice}, ""},
		{"differ", []string{goodChoice, other, goodChoice, goodChoice}, ""},
		{"never", strings.Split(strings.Repeat("short,", chooseMost)+goodChoice+","+goodChoice, ","), "10 times no passphrase was chosen"},
		{"gone", []string{goodChoice}, errGone.Error()},
	} {
		p := &person{lines: test.lines}
		got, err := Machine{Console: p}.choose()
		if test.want == "" && (err != nil || got != goodChoice) || test.want != "" && (err == nil || got != "" || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: choose = %q, %v, want %q", test.name, got, err, test.want)
		}
		if strings.Contains(p.told.String(), goodChoice) {
			t.Errorf("%s: choose says what was typed", test.name)
		}
	}
}

// TestOpenChosenRefuses: what is on the disk is not overwritten, and a volume of
// another product is not asked for its passphrase.
func TestOpenChosenRefuses(t *testing.T) {
	sealed := device(t, volumeHeader())
	text, err := os.ReadFile(sealed)
	if err != nil {
		t.Fatal(err)
	}
	late := make([]byte, luks2.HeaderSize)
	late[luks2.HeaderSize-1] = 1
	for _, test := range []struct {
		name, want string
		head       []byte
	}{
		{"a sealed volume", "it is of another product", text},
		{"something else", "no LUKS2 header", append([]byte("LUKX"), make([]byte, luks2.HeaderSize-4)...)},
		{"not quite blank", "no LUKS2 header", late},
	} {
		path := filepath.Join(t.TempDir(), "device")
		if err := os.WriteFile(path, test.head, 0o600); err != nil {
			t.Fatal(err)
		}
		p := &person{lines: []string{goodChoice, goodChoice}}
		m := Machine{Device: path, Console: p}
		if _, err := m.OpenChosen(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: OpenChosen = %v, want %q", test.name, err, test.want)
		}
		if _, err := m.RecoverChosen(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: RecoverChosen = %v, want %q", test.name, err, test.want)
		}
		after, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(after, test.head) || len(p.lines) != 2 {
			t.Errorf("%s: something was written or asked, %v", test.name, err)
		}
	}
}

// TestFirstBootAsksFirst: whoever goes away while a passphrase is asked for
// leaves the disk as it was. A volume that is being made is made anew; a recovery
// makes none.
func TestFirstBootAsksFirst(t *testing.T) {
	for _, head := range [][]byte{make([]byte, luks2.HeaderSize), append(bytes.Clone(unfinished), make([]byte, luks2.HeaderSize)...)} {
		path := filepath.Join(t.TempDir(), "device")
		if err := os.WriteFile(path, head, 0o600); err != nil {
			t.Fatal(err)
		}
		p := &person{lines: []string{goodChoice}}
		m := Machine{Device: path, Console: p}
		if _, err := m.OpenChosen(); err == nil || !strings.Contains(err.Error(), errGone.Error()) || !strings.Contains(p.told.String(), "somebody has emptied or replaced its disk") {
			t.Errorf("OpenChosen = %v, says %q", err, p.told.String())
		}
		if _, err := m.RecoverChosen(); err == nil || strings.Contains(err.Error(), errGone.Error()) {
			t.Errorf("RecoverChosen = %v, want that there is nothing to recover", err)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, head) {
			t.Errorf("the disk was written to, %v", err)
		}
	}
}

// TestReplaceKeyslot: the new keyslot and its header are on the disk, the old
// keyslot is not any more.
func TestReplaceKeyslot(t *testing.T) {
	before := luks2.Header{
		Kind: luks2.Chosen, UUID: testUUID, Sequence: 4, Digest: luks2.Digest{Iterations: 1000}, Tokens: map[int]json.RawMessage{},
		Keyslots: map[int]luks2.Keyslot{0: {Area: 32768}, 1: {Area: 32768 + luks2.AreaSize, Iterations: 1000}},
	}
	after := before
	after.Sequence++
	after.Keyslots = map[int]luks2.Keyslot{1: before.Keyslots[1], 2: {Area: 32768 + 2*luks2.AreaSize, Salt: [32]byte{9}}}
	path := device(t, before)
	fill := func(b []byte, area uint64, with byte) {
		copy(b[area:], bytes.Repeat([]byte{with}, luks2.AreaSize))
	}
	disk, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fill(disk, before.Keyslots[0].Area, 'o')
	if err := os.WriteFile(path, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	made := bytes.Clone(disk)
	fill(made, before.Keyslots[0].Area, 'r')
	fill(made, after.Keyslots[2].Area, 'n')
	got, err := replaceKeyslot(path, before, after, made)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	h, err := luks2.Parse(whole, luks2.Chosen)
	if err != nil || h.Sequence != got.Sequence || len(h.Keyslots) != 2 || h.Keyslots[2] != after.Keyslots[2] || Identity(h) != Identity(before) {
		t.Errorf("the header is %+v, %v", h, err)
	}
	if !bytes.Equal(whole[2*luks2.MetadataSize:], made[2*luks2.MetadataSize:]) {
		t.Error("the areas are not those that were made")
	}
	if _, err := replaceKeyslot(path, after, after, made); err == nil {
		t.Error("replaceKeyslot in the same place = nil error")
	}
}
