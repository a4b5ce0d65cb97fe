package tpm

import (
	"encoding/hex"
	"strings"
	"testing"
)

func TestCommands(t *testing.T) {
	event, err := Event(11, []byte("ready"))
	if got, want := hex.EncodeToString(event), "8002000000220000013c0000000b000000094000000900000000000005"+hex.EncodeToString([]byte("ready")); err != nil || got != want {
		t.Errorf("Event(11, ready) = %s, %v, want %s", got, err, want)
	}
	read, err := Read(12)
	if got, want := hex.EncodeToString(read), "8001000000140000017e00000001000b03001000"; err != nil || got != want {
		t.Errorf("Read(12) = %s, %v, want %s", got, err, want)
	}
	for _, index := range []int{-1, 24} {
		if _, err := Read(index); err == nil {
			t.Errorf("Read(%d) = nil error", index)
		}
		if _, err := Event(index, []byte("x")); err == nil {
			t.Errorf("Event(%d) = nil error", index)
		}
	}
	if _, err := Event(11, make([]byte, 1025)); err == nil {
		t.Error("Event of 1025 bytes = nil error")
	}
}

func TestReadValue(t *testing.T) {
	value := strings.Repeat("ab", 32)
	for _, test := range []struct {
		response string
		ok       bool
	}{
		{"80010000003e000000000000001500000001000b03001000000000010020" + value, true},
		{"80010000003e000000000000001500000001000b03000800000000010020" + value, false}, // another PCR
		{"80010000003e000000000000001500000001000403001000000000010020" + value, false}, // SHA-1
		{"80020000003e000000000000001500000001000b03001000000000010020" + value, false},
		{"80010000003f000000000000001500000001000b03001000000000010020" + value, false},
		{"80010000001a000000000000001500000001000b0300000000000000", false}, // empty
		{"80010000000a00000100", false},
		{"", false},
	} {
		b, err := hex.DecodeString(test.response)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ReadValue(12, b)
		if (err == nil) != test.ok || test.ok && hex.EncodeToString(got[:]) != value {
			t.Errorf("ReadValue(12, %s) = %x, %v, want ok %t", test.response, got, err, test.ok)
		}
	}
}

func FuzzReadValue(f *testing.F) {
	f.Add([]byte("\x80\x01\x00\x00\x00\x0a\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, response []byte) {
		if _, err := ReadValue(11, response); err == nil && len(response) != 62 {
			t.Fatalf("ReadValue(%x) = nil error", response)
		}
		if err := CheckEvent(response); err == nil && len(response) < 10 {
			t.Fatalf("CheckEvent(%x) = nil error", response)
		}
	})
}
