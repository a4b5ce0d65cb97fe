package boot

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"cloison/format/gpt"
	"cloison/host/sdk"
)

// partition returns where the partition with a label is.
func (s *stage) partition(ts *testscript.TestScript, label string) gpt.Partition {
	f, err := os.Open(s.folder.Disk())
	must(ts, err)
	defer f.Close()
	info, err := f.Stat()
	must(ts, err)
	table, err := gpt.Read(f, info.Size(), 512)
	must(ts, err)
	for _, p := range table.Partitions {
		if p.Label == label {
			return p
		}
	}
	ts.Fatalf("no partition %s", label)
	return gpt.Partition{}
}

// tool runs a program of the SDK in the script's folder.
func (s *stage) tool(ts *testscript.TestScript, args ...string) string {
	dir := ts.MkAbs(".")
	out, err := s.sdk.Output(context.Background(), sdk.Step{
		Args: args, Dir: dir, Writable: []string{dir},
		// Without this mtools refuses a partition whose size is no whole
		// number of cylinders.
		Env: []string{"MTOOLS_SKIP_CHECK=1"},
	})
	must(ts, err)
	return string(out)
}

// esp is mtools' name of the ESP.
func (s *stage) esp(ts *testscript.TestScript) string {
	return fmt.Sprintf("%s@@%d", s.folder.Disk(), s.partition(ts, "esp").Start)
}

// esp-get ESPPATH FILE: copies from the ESP.
func (s *stage) espGet(ts *testscript.TestScript, args []string) {
	want(ts, args, "ESPPATH FILE")
	s.tool(ts, "mcopy", "-n", "-i", s.esp(ts), "::"+args[0], path(ts, args[1]))
}

// esp-put FILE ESPPATH: copies to the ESP; folders are made.
func (s *stage) espPut(ts *testscript.TestScript, args []string) {
	want(ts, args, "FILE ESPPATH")
	esp := s.esp(ts)
	at := ""
	for _, dir := range strings.Split(filepath.Dir(args[1]), "/") {
		parent := at
		at = strings.TrimPrefix(at+"/"+dir, "/")
		// The folder itself may have any name, also one with wildcards.
		if !s.holds(ts, esp, parent, dir) {
			s.tool(ts, "mmd", "-i", esp, "::"+at)
		}
	}
	s.tool(ts, "mcopy", "-o", "-i", esp, path(ts, args[0]), "::"+args[1])
}

// holds tells whether the folder parent of the ESP has the entry name.
func (s *stage) holds(ts *testscript.TestScript, esp, parent, name string) bool {
	for _, line := range strings.Split(s.tool(ts, "mdir", "-b", "-i", esp, "::"+parent), "\n") {
		if strings.EqualFold(filepath.Base(strings.TrimSuffix(strings.TrimSpace(line), "/")), name) {
			return true
		}
	}
	return false
}

// esp-del ESPPATH: removes a file.
func (s *stage) espDel(ts *testscript.TestScript, args []string) {
	want(ts, args, "ESPPATH")
	s.tool(ts, "mdel", "-i", s.esp(ts), "::"+args[0])
}

// esp-list ESPPATH REGEXP: the names in a folder, one a line, match. testscript
// compares them with stdout.
func (s *stage) espList(ts *testscript.TestScript, args []string) {
	want(ts, args, "ESPPATH")
	fmt.Fprint(ts.Stdout(), s.tool(ts, "mdir", "-b", "-i", s.esp(ts), "::"+args[0]))
}

func number(ts *testscript.TestScript, text string) int64 {
	n, err := strconv.ParseInt(text, 0, 64)
	must(ts, err)
	return n
}

// corrupt PARTITION OFFSET COUNT: inverts bytes.
func (s *stage) corrupt(ts *testscript.TestScript, args []string) {
	want(ts, args, "PARTITION OFFSET COUNT")
	p := s.partition(ts, args[0])
	s.invert(ts, int64(p.Start)+number(ts, args[1]), number(ts, args[2]))
}

func (s *stage) invert(ts *testscript.TestScript, at, count int64) {
	f, err := os.OpenFile(s.folder.Disk(), os.O_RDWR, 0)
	must(ts, err)
	buf := make([]byte, count)
	_, err = f.ReadAt(buf, at)
	must(ts, err)
	for i := range buf {
		buf[i] ^= 0xff
	}
	_, err = f.WriteAt(buf, at)
	must(ts, err)
	must(ts, f.Close())
}

// corrupt-random PARTITION COUNT: inverts whole blocks of 4096 bytes of the
// core's data that are within reach of its parity. Two roots mend one block
// of each codeword when nobody says which one is wrong, and two when the tree
// does. Codeword i has the blocks i, i+n, i+2n, … of the image for n = a 253rd
// of it, so blocks that differ modulo n share no codeword.
func (s *stage) corruptRandom(ts *testscript.TestScript, args []string) {
	want(ts, args, "PARTITION COUNT")
	p, count := s.partition(ts, args[0]), int(number(ts, args[1]))
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	n := (s.facts.Core.FECOffset/4096 + 252) / 253
	blocks := map[int64]int64{} // by codeword
	for len(blocks) < min(count, int(n)) {
		b := random.Int64N(s.facts.Core.DataBlocks)
		blocks[b%n] = b
	}
	ts.Logf("seed %d: blocks %v", seed, blocks)
	for _, b := range blocks {
		s.invert(ts, int64(p.Start)+b*4096, 4096)
	}
}

// shrink PARTITION BYTES: makes the partition shorter, in both tables.
func (s *stage) shrink(ts *testscript.TestScript, args []string) {
	want(ts, args, "PARTITION BYTES")
	p, bytes := s.partition(ts, args[0]), number(ts, args[1])
	n := strconv.Itoa(p.Number)
	first := int64(p.Start) / 512
	s.tool(ts, "sgdisk", "-d", n, "-n", fmt.Sprintf("%s:%d:%d", n, first, first+bytes/512-1),
		"-t", n+":"+p.Type.String(), "-u", n+":"+p.ID.String(), "-c", n+":"+p.Label, s.folder.Disk())
}

// copy-slot FROM TO: copies the core from one partition to the other.
func (s *stage) copySlot(ts *testscript.TestScript, args []string) {
	want(ts, args, "FROM TO")
	from, to := s.partition(ts, args[0]), s.partition(ts, args[1])
	f, err := os.OpenFile(s.folder.Disk(), os.O_RDWR, 0)
	must(ts, err)
	_, err = io.Copy(io.NewOffsetWriter(f, int64(to.Start)), io.NewSectionReader(f, int64(from.Start), s.facts.Core.Size))
	must(ts, err)
	must(ts, f.Close())
}

// other-core PARTITION: puts there a valid core with another root hash: the
// same files under another salt, as veritysetup formats them.
func (s *stage) otherCore(ts *testscript.TestScript, args []string) {
	want(ts, args, "PARTITION")
	p := s.partition(ts, args[0])
	disk, err := os.OpenFile(s.folder.Disk(), os.O_RDWR, 0)
	must(ts, err)
	defer disk.Close()
	core, err := os.Create(ts.MkAbs("other.img"))
	must(ts, err)
	_, err = io.Copy(core, io.NewSectionReader(disk, int64(p.Start), s.facts.Core.HashOffset))
	must(ts, err)
	must(ts, core.Close())
	s.tool(ts, "veritysetup", "format", "other.img", "other.img",
		"--hash-offset", fmt.Sprint(s.facts.Core.HashOffset),
		"--data-blocks", fmt.Sprint(s.facts.Core.DataBlocks),
		"--salt", strings.Repeat("5a", 32))
	other, err := os.ReadFile(ts.MkAbs("other.img"))
	must(ts, err)
	_, err = disk.WriteAt(other, int64(p.Start))
	must(ts, err)
}
