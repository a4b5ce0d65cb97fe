package cpio

import (
	"bytes"
	"testing"
)

func TestArchive(t *testing.T) {
	a, err := Archive([]File{{"d/f", Regular | 0o444, []byte("hello")}, {"d", Directory | 0o755, nil}}, 16)
	if err != nil {
		t.Fatal(err)
	}
	const zero = "00000000"
	want := "070701" + "00000001" + "000041ed" + zero + zero + "00000002" + "00000010" + zero + zero + zero + zero + zero + "00000002" + zero + "d\x00" +
		"070701" + "00000002" + "00008124" + zero + zero + "00000001" + "00000010" + "00000005" + zero + zero + zero + zero + "00000004" + zero + "d/f\x00\x00\x00" + "hello\x00\x00\x00" +
		"070701" + zero + zero + zero + zero + "00000001" + zero + zero + zero + zero + zero + zero + "0000000b" + zero + "TRAILER!!!\x00\x00\x00\x00"
	if string(a) != want {
		t.Errorf("Archive = %q, want %q", a, want)
	}
	b, err := Archive([]File{{"d", Directory | 0o755, nil}, {"d/f", Regular | 0o444, []byte("hello")}}, 16)
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("Archive of the same files in another order differs (%v)", err)
	}
}

func TestArchiveRefuses(t *testing.T) {
	for _, files := range [][]File{
		{{"/f", Regular, nil}},
		{{"", Regular, nil}},
		{{"d/f", Regular, nil}},
		{{"f", Regular, nil}, {"f", Regular, nil}},
		{{"d", Regular, nil}, {"d/f", Regular, nil}},
	} {
		if _, err := Archive(files, 0); err == nil {
			t.Errorf("Archive(%v) succeeds, want an error", files)
		}
	}
}
