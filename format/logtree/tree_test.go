package logtree

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cloison/format/logrecord"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// reference is the tree as golang.org/x/mod/sumdb/tlog stores it.
type reference []Hash

func (r *reference) ReadHashes(indexes []int64) ([]Hash, error) {
	out := make([]Hash, len(indexes))
	for i, n := range indexes {
		out[i] = (*r)[n]
	}
	return out, nil
}

var when = time.Date(2026, 11, 23, 22, 4, 5, 6000, time.UTC)

const boot = "0123456789abcdef0123456789abcdef"

func plain(message string) logrecord.Record {
	return logrecord.Record{Time: when, Boot: boot, Sequence: 7, Source: "service/console", Message: message}
}

// TestRange holds trees, the joints of ranges and proofs of growth against tlog.
func TestRange(t *testing.T) {
	const most = 70
	var stored reference
	roots := []Hash{}
	leaf := func(i int) []byte { return []byte(fmt.Sprint("record ", i)) }
	var tree Range
	trees := []Range{{}}
	for i := range most {
		root, err := tlog.TreeHash(int64(i), &stored)
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, root)
		hashes, err := tlog.StoredHashes(int64(i), leaf(i), &stored)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
		if LeafHash(leaf(i)) != tlog.RecordHash(leaf(i)) {
			t.Fatalf("LeafHash(%q) is not tlog's", leaf(i))
		}
		tree.Add(LeafHash(leaf(i)))
		trees = append(trees, tree.Clone())
	}
	for n, want := range roots {
		if got, err := trees[n].Root(); n > 0 && (got != want || err != nil) {
			t.Fatalf("the root of %d records is %v, %v, want %v", n, got, err, want)
		}
	}
	for begin := range most {
		for end := begin; end < most; end++ {
			r := Range{Begin: uint64(begin), End: uint64(begin)}
			for i := begin; i < end; i++ {
				r.Add(LeafHash(leaf(i)))
			}
			if _, err := NewRange(r.Begin, r.End, r.Nodes); err != nil {
				t.Fatalf("the range from %d to %d: %v", begin, end, err)
			}
			old, now := Checkpoint{Size: uint64(begin), Root: rootOf(t, trees[begin])}, Checkpoint{Size: uint64(end), Root: rootOf(t, trees[end])}
			if err := Grown(trees[begin], r, old, now); err != nil {
				t.Fatalf("Grown from %d to %d: %v", begin, end, err)
			}
			if begin > 0 {
				old.Root[0]++
				if Grown(trees[begin], r, old, now) == nil {
					t.Fatalf("Grown from another tree of %d to %d", begin, end)
				}
				old.Root[0]--
			}
			if end > begin {
				now.Root[0]++
				if Grown(trees[begin], r, old, now) == nil {
					t.Fatalf("Grown from %d to another tree of %d", begin, end)
				}
			}
		}
	}
}

func rootOf(t *testing.T, r Range) Hash {
	t.Helper()
	root, err := r.Root()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func newKey(t testing.TB) Key {
	t.Helper()
	k, err := NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestCheckpoint(t *testing.T) {
	k := newKey(t)
	again, err := ParseKey(k.Text())
	if err != nil || again.Text() != k.Text() || again.Public() != k.Public() {
		t.Fatalf("ParseKey(Text) = %v, %v", again, err)
	}
	p, err := ParsePublic(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	c := Checkpoint{Log: k.Name(), Size: 7, Root: LeafHash(nil), Time: when, Boot: boot}
	text, err := c.Sign(k)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := OpenCheckpoint(text, p); err != nil || got != c {
		t.Errorf("OpenCheckpoint(Sign) = %+v, %v, want %+v", got, err, c)
	}
	// The library that the form is from takes it as well.
	v, err := note.NewVerifier(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open([]byte(text), note.VerifierList(v)); err != nil {
		t.Errorf("note.Open: %v", err)
	}
	other := newKey(t)
	if _, err := c.Sign(other); err == nil {
		t.Error("the key of one log signs for another")
	}
	stranger, err := note.Sign(&note.Note{Text: c.body()}, other.signer)
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{"", text[1:], strings.Replace(text, "\n7\n", "\n8\n", 1), text + text, string(stranger)} {
		if got, err := OpenCheckpoint(wrong, p); err == nil {
			t.Errorf("OpenCheckpoint(%q) = %+v, want an error", wrong, got)
		}
	}
	for _, wrong := range []string{"", k.Text() + "\n", strings.TrimSuffix(k.Text(), "\n"), strings.Replace(k.Text(), k.Name(), other.Name(), 1)} {
		if _, err := ParseKey(wrong); err == nil {
			t.Errorf("ParseKey(%q) = nil error", wrong)
		}
	}
}

// file is a file of the log as lines, for tests to change.
type file []string

func (f file) String() string { return strings.Join(f, "\n") + "\n" }

// write makes a log: files of records, with a checkpoint after each so many.
func write(t testing.TB, k Key, files, records, every int) []file {
	t.Helper()
	var tree Range
	var all []file
	for number := range files {
		f := file{string(HeaderLine(k.Public(), uint64(number)+1, tree, when))}
		for i := range records {
			r := plain(fmt.Sprintf("record %d of file %d", i, number))
			r.Sequence = tree.End
			line, err := r.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			tree.Add(LeafHash(line))
			f = append(f, string(line))
			if (i+1)%every == 0 {
				root, err := tree.Root()
				if err != nil {
					t.Fatal(err)
				}
				signed, err := Checkpoint{Log: k.Name(), Size: tree.End, Root: root, Time: when.Add(time.Duration(i) * time.Second), Boot: boot}.Sign(k)
				if err != nil {
					t.Fatal(err)
				}
				f = append(f, string(CheckpointLine(signed)))
			}
		}
		all = append(all, f)
	}
	return all
}

func verify(t *testing.T, key string, files []file) Report {
	t.Helper()
	v, err := NewVerifier(key)
	if err != nil {
		t.Fatal(err)
	}
	v.Whole = true
	for i, f := range files {
		var b bytes.Buffer
		if i%2 == 0 {
			if err := Compress(&b, strings.NewReader(f.String())); err != nil {
				t.Fatal(err)
			}
		} else {
			b.WriteString(f.String())
		}
		if err := v.File(fmt.Sprint(i), &b); err != nil {
			t.Fatal(err)
		}
	}
	return v.Report()
}

// TestTampering changes a log in every way that somebody might who has the disk
// and not the key.
func TestTampering(t *testing.T) {
	k := newKey(t)
	clone := func() []file {
		var all []file
		for _, f := range write(t, k, 3, 6, 2) {
			all = append(all, slices.Clone(f))
		}
		return all
	}
	if r := verify(t, k.Public(), clone()); len(r.Faults) != 0 || r.Records != 18 || r.Proven != 18 || r.Checkpoints != 9 || r.Last.Size != 18 {
		t.Fatalf("a log as it was written: %+v", r)
	}
	if r := verify(t, "", clone()); len(r.Faults) != 0 || r.Key != k.Public() {
		t.Fatalf("a log as it was written, by its own key: %+v", r)
	}
	// Lines of a file: head, 2 records, checkpoint, 2 records, checkpoint, …
	for name, c := range map[string]struct {
		change func(f []file) []file
		want   string // in the only fault, or the first
		faults int
	}{
		"edited": {func(f []file) []file {
			f[1][2] = strings.Replace(f[1][2], "record 1", "record 9", 1)
			return f
		}, "the records from 6 on are not those that were signed", 1},
		"edited in the time": {func(f []file) []file {
			f[1][4] = strings.Replace(f[1][4], "2026", "2025", 1)
			return f
		}, "the records from 8 on are not those that were signed", 1},
		"removed": {func(f []file) []file {
			f[0] = slices.Delete(f[0], 2, 3)
			return f
		}, "a checkpoint of 2 records stands behind record 0", 0},
		"removed with its checkpoint": {func(f []file) []file {
			f[0] = slices.Delete(f[0], 1, 4)
			return f
		}, "record 2 stands where record 0 should", 0},
		"reordered": {func(f []file) []file {
			f[0][1], f[0][2] = f[0][2], f[0][1]
			return f
		}, "record 1 stands where record 0 should", 0},
		"reordered, and numbered again": {func(f []file) []file {
			a, b := strings.Replace(f[0][2], `"sequence":1`, `"sequence":0`, 1), strings.Replace(f[0][1], `"sequence":0`, `"sequence":1`, 1)
			f[0][1], f[0][2] = a, b
			return f
		}, "the records from 0 on are not those that were signed", 1},
		"inserted": {func(f []file) []file {
			f[2] = slices.Insert(f[2], 2, strings.Replace(f[2][2], "record 1", "record x", 1))
			return f
		}, "record 13 stands where record 14 should", 0},
		"cut in a line": {func(f []file) []file {
			f[0] = f[0][:len(f[0])-2]
			return f
		}, "the records from 5 to 5 are missing", 1},
		"a file removed":         {func(f []file) []file { return slices.Delete(f, 1, 2) }, "the records from 6 to 11 are missing", 1},
		"the first file removed": {func(f []file) []file { return f[1:] }, "the first record is 6, and the log says that it removed those before 0", 1},
		"files reordered":        {func(f []file) []file { f[0], f[1] = f[1], f[0]; return f }, "it begins again at record 0", 0},
		"a file twice":           {func(f []file) []file { return slices.Insert(f, 1, f[0]) }, "it begins again at record 0", 1},
		"a file of another log": {func(f []file) []file {
			f[1] = write(t, newKey(t), 2, 6, 2)[1]
			return f
		}, "it is of another log", 0},
		"a head that says something else": {func(f []file) []file {
			var other Range
			for range 6 {
				other.Add(LeafHash([]byte("x")))
			}
			f[1][0] = string(HeaderLine(k.Public(), 2, other, when))
			return f
		}, "the records before it are not those that were there", 0},
		"all written anew under another key": {func([]file) []file { return write(t, newKey(t), 3, 6, 2) }, "it is of another log", 3},
		"a checkpoint changed": {func(f []file) []file {
			f[1][3] = strings.Replace(f[1][3], "2026", "2027", 1)
			return f
		}, "cannot verify a checkpoint", 1},
		"a checkpoint of yesterday": {func(f []file) []file {
			f[2][3] = f[1][3]
			return f
		}, "a checkpoint of 8 records stands behind record 13", 1},
		"no line":  {func(f []file) []file { f[1] = file{""}; return f }, "cannot parse the head", 0},
		"nonsense": {func(f []file) []file { f[1][1] = "nonsense"; return f }, "it has not the form of one", 0},
	} {
		r := verify(t, k.Public(), c.change(clone()))
		if len(r.Faults) == 0 || !strings.Contains(r.Faults[0].What, c.want) || c.faults > 0 && len(r.Faults) != c.faults {
			t.Errorf("%s: %d faults %+v, want %d with %q first", name, len(r.Faults), r.Faults, c.faults, c.want)
		}
	}
	// A line that is cut off, and one that ends the stream of a compressed file.
	text := clone()[0].String()
	v, err := NewVerifier(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := v.File("cut", strings.NewReader(text[:len(text)-5])); err != nil {
		t.Fatal(err)
	}
	if r := v.Report(); len(r.Faults) != 1 || !strings.Contains(r.Faults[0].What, "cut off") {
		t.Errorf("a cut line: %+v", r.Faults)
	}
}

// TestRemoved has a log remove its first file, and say so.
func TestRemoved(t *testing.T) {
	k := newKey(t)
	files := write(t, k, 2, 4, 2)
	said := logrecord.Record{Time: when, Boot: boot, Sequence: 8, Source: "log", Message: Removed(4, "too large")}
	line, err := said.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	files[1] = append(files[1], string(line))
	if r := verify(t, k.Public(), files[1:]); len(r.Faults) != 0 || r.First != 4 || r.Proven != 8 || r.End != 9 {
		t.Errorf("a log that says what it removed: %+v", r)
	}
	said.Source = "service/x"
	if line, err = said.Append(nil); err != nil {
		t.Fatal(err)
	}
	files[1][len(files[1])-1] = string(line)
	if r := verify(t, k.Public(), files[1:]); len(r.Faults) != 1 {
		t.Errorf("a log in which a service says what was removed: %+v", r)
	}
}

// TestExported verifies some records of a log without those before and behind.
func TestExported(t *testing.T) {
	k := newKey(t)
	all := write(t, k, 1, 8, 8)[0]
	var before Range
	for i := range 3 {
		before.Add(LeafHash([]byte(all[1+i])))
	}
	behind := Range{Begin: 5, End: 5}
	for i := 5; i < 8; i++ {
		behind.Add(LeafHash([]byte(all[1+i])))
	}
	f := file{string(HeaderLine(k.Public(), 0, before, when)), all[4], all[5], string(SkippedLine(behind)), all[9]}
	check := func() Report {
		v, err := NewVerifier(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		if err := v.File("export", strings.NewReader(f.String())); err != nil {
			t.Fatal(err)
		}
		return v.Report()
	}
	if r := check(); len(r.Faults) != 0 || r.First != 3 || r.Records != 2 || r.Proven != 8 {
		t.Errorf("an export: %+v", r)
	}
	f[2] = strings.Replace(f[2], "record 4", "record 5", 1)
	if r := check(); len(r.Faults) != 1 {
		t.Errorf("an export with a changed record: %+v", r)
	}
}

func FuzzVerify(f *testing.F) {
	k := newKey(f)
	for _, log := range write(f, k, 2, 3, 2) {
		f.Add([]byte(log.String()))
		var b bytes.Buffer
		if err := Compress(&b, strings.NewReader(log.String())); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := NewVerifier("")
		if err != nil {
			t.Fatal(err)
		}
		if err := v.File("fuzz", bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		if r := v.Report(); r.Proven > r.End && len(r.Faults) == 0 {
			t.Errorf("%d records are proven of %d", r.Proven, r.End)
		}
	})
}

func FuzzLines(f *testing.F) {
	f.Add(HeaderLine("k", 1, Range{}, when), uint64(0))
	f.Add(SkippedLine(Range{2, 3, make([]Hash, 1)}), uint64(2))
	f.Add(CheckpointLine("a\nb"), uint64(0))
	f.Fuzz(func(t *testing.T, line []byte, begin uint64) {
		if h, tree, err := ParseHeader(line); err == nil {
			if again := HeaderLine(h.Key, h.File, tree, h.Start()); !bytes.Equal(again, line) {
				t.Errorf("HeaderLine(ParseHeader(%q)) = %q", line, again)
			}
		}
		if r, err := ParseSkipped(line, begin); err == nil {
			if again := SkippedLine(r); !bytes.Equal(again, line) {
				t.Errorf("SkippedLine(ParseSkipped(%q)) = %q", line, again)
			}
		}
		if text, err := ParseCheckpointLine(line); err == nil {
			if again := CheckpointLine(text); !bytes.Equal(again, line) {
				t.Errorf("CheckpointLine(ParseCheckpointLine(%q)) = %q", line, again)
			}
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	f.Add("cloison-log-00\n7\n" + LeafHash(nil).String() + "\ntime 2026-11-23T22:04:05.000006Z\nboot " + boot + "\n")
	f.Fuzz(func(t *testing.T, body string) {
		if c, err := parseCheckpoint(body); err == nil && c.body() != body {
			t.Errorf("body(parseCheckpoint(%q)) = %q", body, c.body())
		}
	})
}

func FuzzKey(f *testing.F) {
	k := newKey(f)
	f.Add(k.Text(), k.Public())
	f.Fuzz(func(t *testing.T, private, public string) {
		if k, err := ParseKey(private); err == nil && k.Text() != private {
			t.Errorf("Text(ParseKey(%q)) = %q", private, k.Text())
		}
		if p, err := ParsePublic(public); err == nil && !strings.HasPrefix(public, p.Name()+"+") {
			t.Errorf("ParsePublic(%q) is of %s", public, p.Name())
		}
	})
}

// BenchmarkVerify is for one record.
func BenchmarkVerify(b *testing.B) {
	k := newKey(b)
	text := write(b, k, 1, 10_000, 1000)[0].String()
	b.SetBytes(int64(len(text)) / 10_000)
	for n := 0; n < b.N; n += 10_000 {
		v, err := NewVerifier(k.Public())
		if err != nil {
			b.Fatal(err)
		}
		if err := v.File("x", strings.NewReader(text)); err != nil {
			b.Fatal(err)
		}
		if r := v.Report(); len(r.Faults) != 0 {
			b.Fatal(r.Faults)
		}
	}
}
