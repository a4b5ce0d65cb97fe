package state

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloison/format/luks2"
)

func TestDecide(t *testing.T) {
	head := func(first string) []byte { return append([]byte(first), make([]byte, luks2.HeaderSize-len(first))...) }
	late := head("")
	late[luks2.HeaderSize-1] = 1
	almost := bytes.Clone(unfinished)
	almost[blockSize-1] = 1
	for _, c := range []struct {
		name        string
		head        []byte
		provisioned bool
		want        bool
		refusal     string
	}{
		{"blank", head(""), false, true, ""},
		{"blank", head(""), true, false, "replaced or wiped"},
		{"unfinished", head(string(unfinished)), false, true, ""},
		{"unfinished", head(string(unfinished)), true, false, ""},
		{"almost unfinished", head(string(almost)), false, false, "never overwritten"},
		{"volume", head("LUKS\xba\xbe"), false, false, "never provisioned"},
		{"volume", head("LUKS\xba\xbe"), true, false, ""},
		{"damaged volume", head("LUKX"), false, false, "never overwritten"},
		{"not quite blank", late, false, false, "never overwritten"},
	} {
		got, err := decide(c.head, c.provisioned)
		if got != c.want || (err == nil) != (c.refusal == "") || err != nil && !strings.Contains(err.Error(), c.refusal) {
			t.Errorf("decide(%s, provisioned %t) = %t, %v, want %t, %q", c.name, c.provisioned, got, err, c.want, c.refusal)
		}
	}
}

// written collects where something was written.
type written map[int64]int

func (w written) WriteAt(b []byte, at int64) (int, error) {
	w[at] = len(b)
	return len(b), nil
}

func TestZero(t *testing.T) {
	w := written{}
	if err := zero(w, 3*group+edge); err != nil {
		t.Fatal(err)
	}
	want := written{0: edge, group: blockSize, 2 * group: blockSize, 3 * group: edge} // the last one covers a group's first block
	if fmt.Sprint(w) != fmt.Sprint(want) {
		t.Errorf("zero writes %v, want %v", w, want)
	}
	for _, size := range []int64{0, 2*edge - blockSize, 2*edge + 1} {
		if err := zero(written{}, size); err == nil {
			t.Errorf("zero(%d) = nil, want an error", size)
		}
	}
}

func TestProgress(t *testing.T) {
	var said []string
	p := progress{say: func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }}
	for _, b := range []string{
		"Allocating group tables: ", "  5/320\b\b\b\b\b\b\b", "done\n", "Writing inode tables: ", "  0/320\b\b\b\b\b\b\b",
		" 31/320\b\b\b\b\b\b\b", " 32/320\b\b\b\b\b\b\b", " 33/320\b\b\b\b\b\b\b", "319/320\b\b\b\b\b\b\b", "done \n",
	} {
		p.hear([]byte(b))
	}
	want := []string{"state volume: 10 % of the file system's tables written", "state volume: 90 % of the file system's tables written"}
	if fmt.Sprint(said) != fmt.Sprint(want) {
		t.Errorf("progress says %q, want %q", said, want)
	}
}

func TestIdentity(t *testing.T) {
	root := t.TempDir()
	if _, err := MachineID(root); err == nil {
		t.Error("MachineID without one = nil error")
	}
	if err := makeIdentity(root); err != nil {
		t.Fatal(err)
	}
	id, err := MachineID(root)
	if err != nil || len(id) != 32 || id[12] != '4' {
		t.Errorf("MachineID = %q, %v, want 32 digits of a UUID of version 4", id, err)
	}
	for name, want := range map[string]os.FileMode{machineID: 0o444, hostKey: 0o600} {
		info, err := os.Stat(filepath.Join(root, name))
		if err != nil || info.Mode() != want {
			t.Errorf("mode of %s = %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
	text, err := os.ReadFile(filepath.Join(root, hostKey))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if _, ok := key.(ed25519.PrivateKey); !ok || err != nil {
		t.Errorf("the host key is a %T, %v, want an Ed25519 key", key, err)
	}
	if err := makeIdentity(root); err == nil {
		t.Error("makeIdentity makes a second identity")
	}
}
