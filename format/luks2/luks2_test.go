package luks2

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func good() Header {
	return Header{
		UUID: "ace2b901-fb15-4954-891c-b292f6d07a49", Sequence: 4,
		Keyslots: map[int]Keyslot{0: {Area: 32768, Salt: [32]byte{1}, Iterations: 1000}, 1: {Area: 32768 + areaSize, Salt: [32]byte{2}, Iterations: 1000}},
		Tokens:   map[int]json.RawMessage{0: json.RawMessage(`{"type":"cloison-tpm2","keyslots":["0"]}`)},
		Digest:   Digest{[32]byte{3}, [32]byte{4}, 1000},
	}
}

func print(t testing.TB, h Header) []byte {
	b, err := h.Print()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParsePrint(t *testing.T) {
	got, err := Parse(print(t, good()))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(good(), got); diff != "" {
		t.Errorf("Parse(Print(h)), -want +got:\n%s", diff)
	}
}

// TestCopies: one good copy is enough, and of two the newer one counts.
func TestCopies(t *testing.T) {
	old, h := print(t, good()), good()
	h.Sequence = 5
	newer := print(t, h)
	mixed := append(bytes.Clone(old[:MetadataSize]), newer[MetadataSize:]...)
	for _, c := range []struct {
		name string
		b    []byte
		want uint64
	}{
		{"both", old, 4},
		{"newer second", mixed, 5},
		{"only second", append(make([]byte, MetadataSize), newer[MetadataSize:]...), 5},
		{"only first", append(bytes.Clone(old[:MetadataSize]), make([]byte, MetadataSize)...), 4},
	} {
		got, err := Parse(c.b)
		if got.Sequence != c.want || err != nil {
			t.Errorf("Parse(%s) = sequence %d, %v, want %d", c.name, got.Sequence, err, c.want)
		}
	}
	if _, err := Parse(make([]byte, HeaderSize)); !errors.Is(err, ErrNone) {
		t.Errorf("Parse(zeros) = %v, want %v", err, ErrNone)
	}
}

// resign prints the header with its text changed and its checksums made to fit.
func resign(t testing.TB, change func(string) string) []byte {
	b := print(t, good())
	for _, at := range []int{0, MetadataSize} {
		c := b[at : at+MetadataSize]
		text, _, _ := bytes.Cut(c[binarySize:], []byte{0})
		changed := change(string(text))
		clear(c[binarySize:])
		copy(c[binarySize:], changed)
		checksum(c)
	}
	return b
}

func TestParseRefuses(t *testing.T) {
	if _, err := Parse(resign(t, func(s string) string { return s })); err != nil {
		t.Fatalf("Parse(unchanged) = %v", err)
	}
	for _, c := range []struct{ old, new, want string }{
		{`"encryption":"aes-xts-plain64","key_size"`, `"encryption":"cipher_null-ecb","key_size"`, "not of Cloison's form"},
		{`"encryption":"aes-xts-plain64","sector_size"`, `"encryption":"cipher_null-ecb","sector_size"`, "it is not encrypted"},
		{`"type":"hmac(sha256)"`, `"type":"none"`, "it is not encrypted"},
		{`"offset":"2097152"`, `"offset":"4194304"`, "it is not encrypted"},
		{`"iterations":1000`, `"iterations":0`, "0 iterations"},
		{`"iterations":1000`, `"iterations":4000000000`, "4000000000 iterations"},
		{`"offset":"417792"`, `"offset":"32768"`, "another's"},
		{`"offset":"417792"`, `"offset":"2000000"`, "out of place"},
		{`"keyslots":["0","1"]`, `"keyslots":["0"]`, "digest is not for"},
		{`"keyslots":["0","1"]`, `"keyslots":["0","0"]`, "digest is not for"},
		{`"tokens":`, `"mystery":1,"tokens":`, "unknown field"},
		{`"json_size"`, `"requirements":["x"],"json_size"`, "unknown field"},
		{`"type":"cloison-tpm2"`, `"kind":"x"`, "it has no type"},
	} {
		b := resign(t, func(s string) string {
			if !strings.Contains(s, c.old) {
				t.Fatalf("%s is not in %s", c.old, s)
			}
			return strings.Replace(s, c.old, c.new, 1)
		})
		if _, err := Parse(b); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Parse with %s for %s = %v, want %q", c.new, c.old, err, c.want)
		}
	}
	for at := 0; at < MetadataSize; at += 13 {
		b := print(t, good())
		b[at] ^= 1
		b[MetadataSize+at] ^= 1
		if _, err := Parse(b); err == nil {
			t.Fatalf("Parse accepts a header whose byte %d is wrong in both copies", at)
		}
	}
}

func FuzzParse(f *testing.F) {
	text, _, _ := bytes.Cut(print(f, good())[binarySize:MetadataSize], []byte{0})
	f.Add(string(text))
	f.Add(strings.Replace(string(text), "aes", "AES", 1))
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) >= jsonSize {
			return
		}
		h, err := Parse(resign(t, func(string) string { return text }))
		if err != nil {
			return
		}
		again, err := Parse(print(t, h))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(h, again); diff != "" {
			t.Errorf("Parse(Print(h)), -want +got:\n%s", diff)
		}
	})
}
