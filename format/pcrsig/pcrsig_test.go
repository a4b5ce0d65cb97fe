package pcrsig

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func key(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSign(t *testing.T) {
	k := key(t, 2048)
	for _, floor := range []uint64{0, 3, 7} {
		s, err := Sign(k, [32]byte{1}, 7, floor)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(s.Print())
		if diff := cmp.Diff(s, got, cmp.Transformer("empty", func(b []byte) string { return string(b) })); err != nil || diff != "" {
			t.Errorf("Parse(Print(s)): %v, -want +got:\n%s", err, diff)
		}
		if err := got.Verify(&k.PublicKey); err != nil {
			t.Error(err)
		}
		if err := got.Verify(&key(t, 2048).PublicKey); err == nil {
			t.Error("Verify with another key = nil error")
		}
		again, err := Sign(k, [32]byte{1}, 7, floor)
		if err != nil || !bytes.Equal(again.Print(), s.Print()) {
			t.Errorf("Sign gives something else the second time: %v", err)
		}
	}
	if _, err := Sign(k, [32]byte{1}, 7, 8); err == nil {
		t.Error("Sign with a floor above the release = nil error")
	}
	if _, err := Sign(k, [32]byte{1}, 0, 0); err == nil {
		t.Error("Sign without a security version = nil error")
	}
	if _, err := Sign(key(t, 3072), [32]byte{1}, 1, 0); err == nil {
		t.Error("Sign with RSA-3072 = nil error")
	}
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Sign(e, [32]byte{1}, 1, 0); err == nil {
		t.Error("Sign with an ECDSA key = nil error")
	}
}

// TestPoliciesDiffer: nothing that is signed can stand for anything else.
func TestPoliciesDiffer(t *testing.T) {
	p, err := For(&key(t, 2048).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[[32]byte]string{}
	for name, d := range map[string][32]byte{
		"unseal": p.Unseal([32]byte{1}, 1), "unseal of another PCR 11": p.Unseal([32]byte{2}, 1), "unseal of version 2": p.Unseal([32]byte{1}, 2),
		"init": p.Init(), "raise to 1": p.Raise(1), "raise to 2": p.Raise(2), "sealed": p.Sealed([32]byte{1}), "sealed for another PCR 7": p.Sealed([32]byte{2}),
	} {
		if other, ok := seen[d]; ok {
			t.Errorf("%s and %s are the same policy", name, other)
		}
		seen[d] = name
	}
}

func valid(t testing.TB) string {
	t.Helper()
	s := Signed{SecurityVersion: 2, Floor: 1, Unseal: make([]byte, 256), Init: make([]byte, 256), Raise: make([]byte, 256)}
	return string(s.Print())
}

func TestParse(t *testing.T) {
	text := valid(t)
	for _, test := range []struct{ old, new string }{
		{`"version": 1`, `"version": 2`},
		{`"version": 1`, `"Version": 1`},
		{`"version": 1,`, `"version": 1, "version": 1,`},
		{`"security_version": 2`, `"security_version": 0`},
		{`"security_version": 2`, `"security_version": -2`},
		{`"floor": 1`, `"floor": 3`},
		{`"floor": 1`, `"floor": 0`},
		{`"floor": 1`, `"floor": 1.0`},
		{strings.Repeat("00", 32) + `",`, strings.Repeat("0", 62) + `",`},
		{"0000", "00AA"},
		{"{", " {"},
		{"}\n", "}"},
		{"}\n", ", \"more\": 1}\n"},
	} {
		changed := strings.Replace(text, test.old, test.new, 1)
		if _, err := Parse([]byte(changed)); err == nil || changed == text {
			t.Errorf("Parse with %q for %q = nil error", test.new, test.old)
		}
	}
	if _, err := Parse([]byte(text)); err != nil {
		t.Error(err)
	}
}

func TestParseKey(t *testing.T) {
	k := key(t, 2048)
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	if got, err := ParseKey(text); err != nil || !got.Equal(&k.PublicKey) {
		t.Errorf("ParseKey = %v, %v", got, err)
	}
	for _, wrong := range [][]byte{nil, append(text, text...), pem.EncodeToMemory(&pem.Block{Type: "KEY", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der[1:]})} {
		if _, err := ParseKey(wrong); err == nil {
			t.Errorf("ParseKey(%q) = nil error", wrong)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(valid(f)))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Parse(text)
		if err == nil && !bytes.Equal(s.Print(), text) {
			t.Fatalf("Parse(%q) prints %q", text, s.Print())
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if k, err := ParseKey(text); err == nil && k.N == nil {
			t.Fatalf("ParseKey(%q) = no key", text)
		}
	})
}
