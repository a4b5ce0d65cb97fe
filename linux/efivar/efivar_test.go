package efivar

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestRead(t *testing.T) {
	s := Store{t.TempDir()}
	for name, data := range map[string]string{"SecureBoot-" + Global: "\x06\x00\x00\x00\x01", "Short-" + Global: "\x06"} {
		if err := os.WriteFile(filepath.Join(s.Dir, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if v, err := s.Read("SecureBoot", Global); err != nil || v.Attributes != 6 || string(v.Data) != "\x01" {
		t.Errorf("Read(SecureBoot) = %+v, %v, want attributes 6 and 01", v, err)
	}
	if _, err := s.Read("SecureBoot", Loader); !errors.Is(err, ErrMissing) {
		t.Errorf("Read of another vendor's variable = %v, want %v", err, ErrMissing)
	}
	if _, err := s.Read("Short", Global); err == nil || errors.Is(err, ErrMissing) {
		t.Errorf("Read of a cut variable = %v, want an error that is not %v", err, ErrMissing)
	}
}

func TestWrite(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	if err := s.Write("dbx", Global, 0x67, []byte("signed change")); err != nil {
		t.Fatal(err)
	}
	v, err := s.Read("dbx", Global)
	if err != nil || v.Attributes != 0x67 || string(v.Data) != "signed change" {
		t.Errorf("Read() = %+v, %v, want what was written", v, err)
	}
	s.Dir += "/none"
	if err := s.Write("dbx", Global, 0x67, nil); err == nil || errors.Is(err, ErrRefused) {
		t.Errorf("Write() without a store = %v, want an error that is no refusal", err)
	}
}
