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
		Kind: Sealed, UUID: "ace2b901-fb15-4954-891c-b292f6d07a49", Sequence: 4,
		Keyslots: map[int]Keyslot{0: {Area: 32768, Salt: [32]byte{1}, Iterations: 1000}, 1: {Area: 32768 + AreaSize, Salt: [32]byte{2}, Iterations: 1000}},
		Tokens:   map[int]json.RawMessage{0: json.RawMessage(`{"type":"cloison-tpm2","keyslots":["0"]}`)},
		Digest:   Digest{[32]byte{3}, [32]byte{4}, 1000},
	}
}

// chosen is a header of the other kind.
func chosen() Header {
	h := good()
	h.Kind, h.Tokens = Chosen, map[int]json.RawMessage{}
	h.Keyslots[0] = Keyslot{Area: 32768, Salt: [32]byte{1}}
	return h
}

func print(t testing.TB, h Header) []byte {
	b, err := h.Print()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParsePrint(t *testing.T) {
	for _, h := range []Header{good(), chosen()} {
		got, err := Parse(print(t, h), h.Kind)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(h, got); diff != "" {
			t.Errorf("Parse(Print(h)), -want +got:\n%s", diff)
		}
	}
}

// TestKinds: a header of one kind is not taken for the other.
func TestKinds(t *testing.T) {
	if _, err := Parse(print(t, good()), Chosen); err == nil || !strings.Contains(err.Error(), "of another product") {
		t.Errorf("Parse of a sealed volume as a chosen one = %v", err)
	}
	if _, err := Parse(print(t, chosen()), Sealed); err == nil || !strings.Contains(err.Error(), "of another product") {
		t.Errorf("Parse of a chosen volume as a sealed one = %v", err)
	}
	if _, err := Parse(print(t, chosen()), 0); err == nil {
		t.Error("Parse of no kind = nil error")
	}
	for name, change := range map[string]func(*Header){
		"no kind":               func(h *Header) { h.Kind = 0 },
		"a token":               func(h *Header) { h.Tokens[0] = good().Tokens[0] },
		"no recovery":           func(h *Header) { delete(h.Keyslots, RecoverySlot) },
		"a chosen recovery":     func(h *Header) { h.Keyslots[RecoverySlot] = Keyslot{Area: 32768 + AreaSize} },
		"nothing chosen":        func(h *Header) { h.Keyslots[0] = good().Keyslots[0] },
		"two chosen":            func(h *Header) { h.Keyslots[2] = Keyslot{Area: 32768 + 2*AreaSize} },
		"another key beside it": func(h *Header) { h.Keyslots[2] = Keyslot{Area: 32768 + 2*AreaSize, Iterations: 1000} },
	} {
		h := chosen()
		change(&h)
		if _, err := h.Print(); err == nil {
			t.Errorf("%s: Print = nil error", name)
		}
	}
	// The other place is as good: where a new passphrase was chosen.
	h := chosen()
	h.Keyslots[2] = Keyslot{Area: 32768 + 2*AreaSize}
	delete(h.Keyslots, 0)
	if _, err := h.Print(); err != nil {
		t.Errorf("Print of a volume with another passphrase = %v", err)
	}
}

// TestStretching: nothing but the documented cost is taken.
func TestStretching(t *testing.T) {
	const kdf = `"type":"argon2id","time":4,"memory":65536,"cpus":1,`
	for _, changed := range []string{
		`"type":"argon2i","time":4,"memory":65536,"cpus":1,`,
		`"type":"argon2id","time":1,"memory":65536,"cpus":1,`,
		`"type":"argon2id","time":400,"memory":65536,"cpus":1,`,
		`"type":"argon2id","time":4,"memory":4194304,"cpus":1,`,
		`"type":"argon2id","time":4,"memory":32,"cpus":1,`,
		`"type":"argon2id","time":4,"memory":65536,"cpus":4,`,
		`"type":"argon2id","hash":"sha256","time":4,"memory":65536,"cpus":1,`,
		`"type":"pbkdf2","hash":"sha256","iterations":1000,`,
		`"type":"pbkdf2","hash":"sha256",`,
	} {
		b := resigned(t, chosen(), func(s string) string {
			if !strings.Contains(s, kdf) {
				t.Fatalf("%s is not in %s", kdf, s)
			}
			return strings.Replace(s, kdf, changed, 1)
		})
		if _, err := Parse(b, Chosen); err == nil {
			t.Errorf("Parse with %s = nil error", changed)
		}
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
		got, err := Parse(c.b, Sealed)
		if got.Sequence != c.want || err != nil {
			t.Errorf("Parse(%s) = sequence %d, %v, want %d", c.name, got.Sequence, err, c.want)
		}
	}
	if _, err := Parse(make([]byte, HeaderSize), Sealed); !errors.Is(err, ErrNone) {
		t.Errorf("Parse(zeros) = %v, want %v", err, ErrNone)
	}
}

// resign prints the header with its text changed and its checksums made to fit.
func resign(t testing.TB, change func(string) string) []byte { return resigned(t, good(), change) }

func resigned(t testing.TB, h Header, change func(string) string) []byte {
	b := print(t, h)
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
	if _, err := Parse(resign(t, func(s string) string { return s }), Sealed); err != nil {
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
		if _, err := Parse(b, Sealed); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Parse with %s for %s = %v, want %q", c.new, c.old, err, c.want)
		}
	}
	for at := 0; at < MetadataSize; at += 13 {
		b := print(t, good())
		b[at] ^= 1
		b[MetadataSize+at] ^= 1
		if _, err := Parse(b, Sealed); err == nil {
			t.Fatalf("Parse accepts a header whose byte %d is wrong in both copies", at)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, h := range []Header{good(), chosen()} {
		text, _, _ := bytes.Cut(print(f, h)[binarySize:MetadataSize], []byte{0})
		f.Add(string(text))
		f.Add(strings.Replace(string(text), "aes", "AES", 1))
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) >= jsonSize {
			return
		}
		b, taken := resign(t, func(string) string { return text }), 0
		for _, kind := range []Kind{Sealed, Chosen} {
			h, err := Parse(b, kind)
			if err != nil {
				continue
			}
			taken++
			again, err := Parse(print(t, h), kind)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(h, again); diff != "" {
				t.Errorf("Parse(Print(h)), -want +got:\n%s", diff)
			}
		}
		if taken > 1 {
			t.Error("it is taken for either kind")
		}
	})
}
