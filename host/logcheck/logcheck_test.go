package logcheck

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloison/format/logrecord"
	"cloison/format/logtree"
)

// write writes a log of two files.
func write(t *testing.T, folder string) (key string) {
	t.Helper()
	k, err := logtree.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	when, boot := time.Unix(1000, 0), strings.Repeat("0", 32)
	var tree logtree.Range
	for number := range 2 {
		lines := [][]byte{logtree.HeaderLine(k.Public(), uint64(number), tree, when)}
		for range 3 {
			line, err := logrecord.Record{Time: when, Boot: boot, Sequence: tree.End, Source: "kernel", Message: "x"}.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			tree.Add(logtree.LeafHash(line))
			lines = append(lines, line)
		}
		root, err := tree.Root()
		if err != nil {
			t.Fatal(err)
		}
		note, err := logtree.Checkpoint{Log: k.Name(), Size: tree.End, Root: root, Time: when, Boot: boot}.Sign(k)
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		for _, l := range append(lines, logtree.CheckpointLine(note)) {
			text.Write(append(l, '\n'))
		}
		f, err := os.Create(filepath.Join(folder, fmt.Sprintf("%012d.jsonl", number)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(text.String()); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return k.Public()
}

func TestVerify(t *testing.T) {
	folder := t.TempDir()
	key := write(t, folder)
	first, second := filepath.Join(folder, "000000000000.jsonl"), filepath.Join(folder, "000000000001.jsonl")
	for _, c := range []struct {
		key    string
		paths  []string
		faults int
	}{
		{key, []string{folder}, 0},
		{"", []string{folder}, 0},
		{key, []string{first, second}, 0},
		{key, []string{second}, 0},
		{key, []string{second, first}, 1},
		{write(t, t.TempDir()), []string{folder}, 2},
	} {
		if r, err := Verify(c.key, c.paths); err != nil || len(r.Faults) != c.faults {
			t.Errorf("Verify(%q, %q) = %+v, %v, want %d faults", c.key, c.paths, r.Faults, err, c.faults)
		}
	}
	if err := os.Remove(first); err != nil {
		t.Fatal(err)
	}
	if r, err := Verify(key, []string{folder}); err != nil || len(r.Faults) != 1 {
		t.Errorf("a folder without its first file: %+v, %v, want a fault", r.Faults, err)
	}
	for _, wrong := range [][]string{{folder, second}, {first}, {t.TempDir()}} {
		if _, err := Verify(key, wrong); err == nil {
			t.Errorf("Verify(%q) = nil error", wrong)
		}
	}
	if _, err := Verify("nonsense", []string{folder}); err == nil {
		t.Error("Verify with nonsense for a key = nil error")
	}
}
