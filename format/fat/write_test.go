package fat

import (
	"bytes"
	"io"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const size = 260 << 20

// sparse keeps what is written by block, zeros elsewhere.
type sparse struct{ blocks map[int64][]byte }

const blockSize = 4096

func (s *sparse) WriteAt(b []byte, at int64) (int, error) {
	for i, c := range b {
		n := (at + int64(i)) / blockSize
		if s.blocks[n] == nil {
			s.blocks[n] = make([]byte, blockSize)
		}
		s.blocks[n][(at+int64(i))%blockSize] = c
	}
	return len(b), nil
}

func (s *sparse) ReadAt(b []byte, at int64) (int, error) {
	for i := range b {
		if at+int64(i) >= size {
			return i, io.EOF
		}
		b[i] = 0
		if block := s.blocks[(at+int64(i))/blockSize]; block != nil {
			b[i] = block[(at+int64(i))%blockSize]
		}
	}
	return len(b), nil
}

func spec(files map[string][]byte) Spec {
	return Spec{Size: size, Serial: 0x12345678, Label: "ESP", Time: time.Date(2026, 11, 23, 10, 20, 30, 0, time.UTC), Files: files}
}

func read(t interface{ Fatal(...any) }, disk io.ReaderAt) map[string][]byte {
	v, err := Open(disk, size)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, f := range v.Files {
		data, err := v.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		files[f.Path] = data
	}
	return files
}

func TestWrite(t *testing.T) {
	files := map[string][]byte{
		"EFI/BOOT/BOOTX64.EFI":             bytes.Repeat([]byte("loader"), 3000),
		"EFI/Linux/cloison_0.1.0+3.efi":    bytes.Repeat([]byte("uki"), 30000),
		"EFI/Linux/cloison_0.1.1+3.efi":    []byte("another with the same beginning"),
		"loader/loader.conf":               []byte("timeout 1\n"),
		"loader/empty":                     {},
		"exactly thirteen":                 []byte("x"),
		strings.Repeat("long", 20):         []byte("y"),
		"FULL.CLU":                         bytes.Repeat([]byte{1}, 4096),
		"many/" + strings.Repeat("a", 100): []byte("z"),
	}
	for i := range 200 { // a folder of several clusters
		files["many/file number "+string(rune('A'+i/26))+string(rune('a'+i%26))] = []byte{byte(i)}
	}
	disk := &sparse{map[int64][]byte{}}
	if err := Write(disk, spec(files)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(files, read(t, disk)); diff != "" {
		t.Errorf("what is read is not what was written, -want +got:\n%s", diff)
	}
	again := &sparse{map[int64][]byte{}}
	if err := Write(again, spec(files)); err != nil {
		t.Fatal(err)
	}
	if !maps.EqualFunc(disk.blocks, again.blocks, bytes.Equal) {
		t.Error("the same files give other bytes")
	}
}

// Clusters shrink with the file system, so that it stays FAT32.
func TestPlan(t *testing.T) {
	for _, test := range []struct {
		size    int64
		cluster int
	}{{1 << 30, 4096}, {260 << 20, 4096}, {200 << 20, 2048}, {64 << 20, 512}} {
		g, err := plan(test.size)
		if err != nil || g.cluster != test.cluster || g.clusters < minClusters {
			t.Errorf("plan(%d) = %+v, %v, want clusters of %d bytes", test.size, g, err, test.cluster)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	for _, test := range []struct {
		name string
		spec Spec
	}{
		{"too small", Spec{Size: 16 << 20}},
		{"full", spec(map[string][]byte{"a": make([]byte, size)})},
		{"absolute", spec(map[string][]byte{"/a": nil})},
		{"above", spec(map[string][]byte{"../a": nil})},
		{"empty name", spec(map[string][]byte{"": nil})},
		{"case alone", spec(map[string][]byte{"a/x": nil, "A/y": nil})},
		{"file and folder", spec(map[string][]byte{"a": nil, "a/b": nil})},
		{"colon", spec(map[string][]byte{"a:b": nil})},
		{"end in a dot", spec(map[string][]byte{"a.": nil})},
		{"small label", Spec{Size: size, Label: "esp"}},
	} {
		if err := Write(&sparse{map[int64][]byte{}}, test.spec); err == nil {
			t.Errorf("Write with %s succeeds", test.name)
		}
	}
}

// Whatever is written reads the same.
func TestWriteRead(t *testing.T) {
	name := rapid.StringMatching(`[A-Za-z0-9_+][A-Za-z0-9 ._+~-]{0,20}[A-Za-z0-9]`)
	rapid.Check(t, func(t *rapid.T) {
		files := map[string][]byte{}
		folded := map[string]bool{}
		for range rapid.IntRange(0, 20).Draw(t, "files") {
			path := name.Draw(t, "folder") + "/" + name.Draw(t, "file")
			folder, _, _ := strings.Cut(strings.ToUpper(path), "/")
			if folded[folder] || strings.Contains(path, "..") {
				continue
			}
			folded[folder] = true
			files[path] = rapid.SliceOfN(rapid.Byte(), 0, 9000).Draw(t, "data")
		}
		disk := &sparse{map[int64][]byte{}}
		if err := Write(disk, spec(files)); err != nil {
			t.Fatal(err)
		}
		got := read(t, disk)
		if !maps.EqualFunc(files, got, bytes.Equal) {
			t.Fatalf("%d files are written, %d read, or their contents differ", len(files), len(got))
		}
	})
}
