package escrow

import (
	"bytes"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var about = About{"gateway", "0.1.0", "0f0e0d0c-0b0a-4908-8706-050403020100"}

func record(t testing.TB) (private []byte, r Record) {
	t.Helper()
	private, public, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	k, err := ParsePublic(public)
	if err != nil {
		t.Fatal(err)
	}
	if r, err = Encrypt(k, about, "the passphrase"); err != nil {
		t.Fatal(err)
	}
	return private, r
}

func TestRecord(t *testing.T) {
	private, r := record(t)
	got, err := Parse(r.Print())
	if diff := cmp.Diff(r, got); err != nil || diff != "" {
		t.Fatalf("Parse(Print(r)): %v, -want +got:\n%s", err, diff)
	}
	k, err := ParsePrivate(private)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := got.Decrypt(k); err != nil || text != "the passphrase" {
		t.Errorf("Decrypt = %q, %v", text, err)
	}
	if bytes.Contains(r.Print(), []byte("passphrase")) {
		t.Error("the record shows the passphrase")
	}

	other, _ := record(t)
	wrong, err := ParsePrivate(other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Decrypt(wrong); err == nil || !strings.Contains(err.Error(), r.KeyID) {
		t.Errorf("Decrypt with another key = %v, want the key's id", err)
	}
	for name, change := range map[string]func(*Record){
		"volume":  func(r *Record) { r.Volume = "1" + r.Volume[1:] },
		"product": func(r *Record) { r.Product = "office" },
		"release": func(r *Record) { r.Release = "0.2.0" },
		"sealed":  func(r *Record) { r.Sealed[len(r.Sealed)-1] ^= 1 },
	} {
		changed := r
		changed.Sealed = bytes.Clone(r.Sealed)
		change(&changed)
		if _, err := changed.Decrypt(k); err == nil {
			t.Errorf("Decrypt with another %s = nil error", name)
		}
	}
}

func TestParse(t *testing.T) {
	_, r := record(t)
	text := string(r.Print())
	for _, changed := range []string{
		"", text + "\n", " " + text, text[:len(text)-1], strings.ReplaceAll(text, "\n", "\r\n"),
		strings.Replace(text, "Version: 1", "Version: 2", 1),
		strings.Replace(text, "Version: 1\n", "", 1),
		strings.Replace(text, "Version: 1\n", "Version: 1\nMore: 1\n", 1),
		strings.Replace(text, "gateway", "Gateway", 1),
		strings.Replace(text, r.KeyID, strings.ToUpper(r.KeyID), 1),
		strings.Replace(text, "0f0e0d0c", "0F0E0D0C", 1),
	} {
		if _, err := Parse([]byte(changed)); err == nil {
			t.Errorf("Parse(%q) = nil error", changed)
		}
	}
	for _, wrong := range []About{{}, {"a\nb", "0.1.0", about.Volume}, {"gateway", "1", about.Volume}, {"gateway", "0.1.0", "x"}} {
		if err := (Record{About: wrong, KeyID: r.KeyID}).checkHeaders(); err == nil {
			t.Errorf("headers of %+v are taken", wrong)
		}
	}
}

func TestKeys(t *testing.T) {
	private, public, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParsePublic(private); err == nil {
		t.Error("ParsePublic of a private key = nil error")
	}
	if _, err := ParsePrivate(public); err == nil {
		t.Error("ParsePrivate of a public key = nil error")
	}
	if _, err := ParsePublic(append(public, public...)); err == nil {
		t.Error("ParsePublic of two keys = nil error")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Record{about, strings.Repeat("0", 64), []byte("sealed")}.Print())
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := Parse(text)
		if err == nil && !bytes.Equal(r.Print(), text) {
			t.Fatalf("Parse(%q) prints %q", text, r.Print())
		}
	})
}

func FuzzKeys(f *testing.F) {
	f.Add(pem.EncodeToMemory(&pem.Block{Type: privateType, Bytes: make([]byte, 32)}))
	f.Add(pem.EncodeToMemory(&pem.Block{Type: publicType, Bytes: make([]byte, 1216)}))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, err1 := ParsePublic(text)
		_, err2 := ParsePrivate(text)
		if err1 == nil && err2 == nil {
			t.Fatalf("%q is both", text)
		}
	})
}
