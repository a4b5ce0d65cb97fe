package recover

import (
	"os"
	"path/filepath"
	"testing"

	"cloison/format/escrow"
	"cloison/format/passphrase"
)

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	private, public, err := escrow.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	k, err := escrow.ParsePublic(public)
	if err != nil {
		t.Fatal(err)
	}
	about := escrow.About{Product: "gateway", Release: "0.1.0", Volume: "0f0e0d0c-0b0a-4908-8706-050403020100"}
	record := func(plain string) []byte {
		r, err := escrow.Encrypt(k, about, plain)
		if err != nil {
			t.Fatal(err)
		}
		return r.Print()
	}
	right := passphrase.Print([16]byte{1, 2, 3})
	for name, data := range map[string][]byte{
		"key": private, "public": public, "right": record(right), "else": record("\x1b[2J"), "large": make([]byte, maxFile+1),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		record, key string
		ok          bool
	}{
		{"right", "key", true},
		{"right", "public", false},
		{"else", "key", false},
		{"large", "key", false},
		{"key", "key", false},
		{"missing", "key", false},
		{"right", "missing", false},
	} {
		got, err := Open(filepath.Join(dir, test.record), filepath.Join(dir, test.key))
		if (err == nil) != test.ok || test.ok && got != (Recovered{about, right}) {
			t.Errorf("Open(%s, %s) = %+v, %v, want ok %t", test.record, test.key, got, err, test.ok)
		}
	}
}
