package cpio

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

func sample(t testing.TB) []byte {
	t.Helper()
	a, err := Archive([]File{{"d", Directory | 0o755, nil}, {"d/f", Regular | 0o444, []byte("hello")}, {"init", Regular | 0o555, []byte("12345678")}}, 1795392000)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestRead(t *testing.T) {
	files, time, err := Read(sample(t))
	want := []File{{"d", Directory | 0o755, nil}, {"d/f", Regular | 0o444, []byte("hello")}, {"init", Regular | 0o555, []byte("12345678")}}
	if err != nil || time != 1795392000 || !reflect.DeepEqual(files, want) {
		t.Errorf("Read() = %v, %d, %v, want %v", files, time, err, want)
	}
	if files, time, err := Read(mustArchive(t)); err != nil || len(files) != 0 || time != 0 {
		t.Errorf("Read(empty archive) = %v, %d, %v", files, time, err)
	}
}

func mustArchive(t *testing.T) []byte {
	t.Helper()
	a, err := Archive(nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestReadRefuses(t *testing.T) {
	replace := func(old, changed string) func([]byte) []byte {
		return func(a []byte) []byte {
			if n := bytes.Count(a, []byte(old)); n == 0 {
				t.Errorf("%q is not in the archive", old)
			}
			return bytes.Replace(a, []byte(old), []byte(changed), 1)
		}
	}
	for _, test := range []struct {
		name   string
		change func([]byte) []byte
		want   string
	}{
		{"empty", func([]byte) []byte { return nil }, "after 0 files: a header is cut off"},
		{"no trailer", func(a []byte) []byte { return a[:len(a)-124] }, "after 3 files: a header is cut off"},
		{"data cut off", func(a []byte) []byte { return a[:len(a)-128] }, "after 2 files: an entry is cut off"},
		{"another archive behind", func(a []byte) []byte { return append(a, a...) }, "bytes after its end"},
		{"zeros behind", func(a []byte) []byte { return append(a, 0, 0, 0, 0) }, "4 bytes after its end"},
		{"other form", replace("070701", "070702"), `no entry begins with "070702"`},
		{"not hex", replace("000041ed", "0000x1ed"), "a header is malformed"},
		{"owner", replace("000041ed00000000", "000041ed00000001"), "not in canonical form"},
		{"number of links", replace("00000002", "00000003"), "not in canonical form"},
		{"padding", replace("hello\x00\x00\x00", "hello\x00\x01\x00"), "not in canonical form"},
		{"name without end", replace("d/f\x00", "d/fx"), "a name is malformed"},
		{"name with a NUL", replace("d/f\x00", "d\x00f\x00"), "a name is malformed"},
		{"absolute name", replace("d/f\x00", "/df\x00"), "not a relative path"},
		{"name with dots", replace("d/f\x00", "../\x00"), "not a relative path"},
		{"order", replace("init\x00", "aaaa\x00"), "not in canonical form"},
		{"upper-case hex", replace("000041ed", "000041ED"), "not in canonical form"},
		{"huge", replace("0000000500000000", "ffffffff00000000"), "an entry is cut off"},
	} {
		if files, _, err := Read(test.change(sample(t))); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Read() = %v, %v, want an error with %q", test.name, files, err, test.want)
		}
	}
}

// FuzzRead: what Read accepts, Archive writes again unchanged.
func FuzzRead(f *testing.F) {
	f.Add(sample(f))
	f.Fuzz(func(t *testing.T, a []byte) {
		files, time, err := Read(a)
		if err != nil {
			return
		}
		if again, err := Archive(files, time); err != nil || !bytes.Equal(again, a) {
			t.Errorf("Archive(Read(%q)) = %q, %v", a, again, err)
		}
	})
}
