package boot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"cloison/format/luks2"
	"cloison/format/sealtoken"
	"cloison/host/sdk"
	"cloison/linux/file"
)

// new-tpm: the machine gets a TPM that nobody has used, or the disk another
// machine, which is the same.
func (s *stage) newTPM(ts *testscript.TestScript, args []string) {
	want(ts, args, "")
	must(ts, os.RemoveAll(s.folder.TPM()))
	must(ts, os.Mkdir(s.folder.TPM(), 0o700))
}

// cp-tpm DIR: keeps a copy of the TPM's state.
func (s *stage) cpTPM(ts *testscript.TestScript, args []string) {
	want(ts, args, "DIR")
	must(ts, os.CopyFS(path(ts, args[0]), os.DirFS(s.folder.TPM())))
}

// put-tpm DIR: puts that TPM into the machine.
func (s *stage) putTPM(ts *testscript.TestScript, args []string) {
	want(ts, args, "DIR")
	must(ts, os.RemoveAll(s.folder.TPM()))
	must(ts, os.CopyFS(s.folder.TPM(), os.DirFS(path(ts, args[0]))))
}

// clear-tpm: the TPM is cleared by who stands before the machine (TPM2_Clear
// with the platform's authorisation, as firmware menus do it).
func (s *stage) clearTPM(ts *testscript.TestScript, args []string) {
	want(ts, args, "")
	// The socket's path has 108 bytes at most: it is relative.
	const script = `swtpm socket --tpm2 --tpmstate dir=$PWD --server type=unixio,path=s --ctrl type=unixio,path=s.ctrl --flags startup-clear --daemon &&
tpm2_clear -T swtpm:path=s -c platform && tpm2_shutdown -T swtpm:path=s --clear; e=$?; rm -f s s.ctrl; exit $e`
	must(ts, s.sdk.Run(context.Background(), sdk.Step{
		Args: []string{"sh", "-ec", script}, Dir: s.folder.TPM(), Writable: []string{s.folder.TPM()},
	}))
}

// flip-bit PARTITION OFFSET: inverts one bit.
func (s *stage) flipBit(ts *testscript.TestScript, args []string) {
	want(ts, args, "PARTITION OFFSET")
	at := int64(s.partition(ts, args[0]).Start) + number(ts, args[1])
	f, err := os.OpenFile(s.folder.Disk(), os.O_RDWR, 0)
	must(ts, err)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	must(ts, err)
	b[0] ^= 1 << 3
	_, err = f.WriteAt(b, at)
	must(ts, err)
	must(ts, f.Close())
}

// grow-disk BYTES: the disk is larger than the image that was copied to it.
func (s *stage) growDisk(ts *testscript.TestScript, args []string) {
	want(ts, args, "BYTES")
	must(ts, os.Truncate(s.folder.Disk(), number(ts, args[0])))
}

// state-get FILE: copies the state partition, holes as holes.
func (s *stage) stateGet(ts *testscript.TestScript, args []string) {
	want(ts, args, "FILE")
	p := s.partition(ts, "state")
	must(ts, os.RemoveAll(path(ts, args[0])))
	must(ts, copyRange(path(ts, args[0]), s.folder.Disk(), 0, int64(p.Start), int64(p.Size)))
}

// state-same FILE FILE: two copies are equal.
func (s *stage) stateSame(ts *testscript.TestScript, args []string) {
	want(ts, args, "FILE FILE")
	var sums [2][]byte
	for i, name := range args {
		f, err := os.Open(path(ts, name))
		must(ts, err)
		h := sha256.New()
		_, err = file.Read(h, f)
		must(ts, errors.Join(err, f.Close()))
		sums[i] = h.Sum(nil)
	}
	if !bytes.Equal(sums[0], sums[1]) {
		ts.Fatalf("%s and %s differ", args[0], args[1])
	}
}

// state-put FILE: puts another state partition there.
func (s *stage) statePut(ts *testscript.TestScript, args []string) {
	want(ts, args, "FILE")
	p := s.partition(ts, "state")
	info, err := os.Stat(path(ts, args[0]))
	must(ts, err)
	if info.Size() != int64(p.Size) {
		ts.Fatalf("%d bytes for a partition of %d", info.Size(), p.Size)
	}
	s.wipe(ts, int64(p.Start), int64(p.Size))
	must(ts, copyRange(s.folder.Disk(), path(ts, args[0]), int64(p.Start), 0, int64(p.Size)))
}

// state-wipe: the state partition is all zeros, as in the image.
func (s *stage) stateWipe(ts *testscript.TestScript, args []string) {
	want(ts, args, "")
	p := s.partition(ts, "state")
	s.wipe(ts, int64(p.Start), int64(p.Size))
}

func (s *stage) wipe(ts *testscript.TestScript, start, size int64) {
	f, err := os.OpenFile(s.folder.Disk(), os.O_RDWR, 0)
	must(ts, err)
	zeros := make([]byte, 1<<20)
	for part, err := range file.Data(f) {
		must(ts, err)
		for at := max(part.Start, start); at < min(part.End, start+size); {
			n := min(int64(len(zeros)), min(part.End, start+size)-at)
			_, err := f.WriteAt(zeros[:n], at)
			must(ts, err)
			at += n
		}
	}
	must(ts, f.Close())
}

// copyRange copies what is no hole.
func copyRange(to, from string, toStart, fromStart, size int64) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	for part, err := range file.Data(in) {
		if err != nil {
			return errors.Join(err, out.Close())
		}
		start, end := max(part.Start, fromStart), min(part.End, fromStart+size)
		if start >= end {
			continue
		}
		if _, err := io.Copy(io.NewOffsetWriter(out, toStart+start-fromStart), io.NewSectionReader(in, start, end-start)); err != nil {
			return errors.Join(err, out.Close())
		}
	}
	info, err := out.Stat()
	if err == nil && info.Size() < toStart+size {
		err = out.Truncate(toStart + size)
	}
	return errors.Join(err, out.Close())
}

// state-tokens FROM TO: copies the TPM's tokens from the header of one volume
// into that of the other.
func (s *stage) stateTokens(ts *testscript.TestScript, args []string) {
	want(ts, args, "FROM TO")
	from, to := readHeader(ts, path(ts, args[0])), readHeader(ts, path(ts, args[1]))
	for n, token := range from.Tokens {
		if luks2.Type(token) == sealtoken.Type {
			to.Tokens[n] = token
		}
	}
	writeHeader(ts, path(ts, args[1]), to)
}

// state-forget VOLUME: takes the TPM's tokens out of the header of a copy.
func (s *stage) stateForget(ts *testscript.TestScript, args []string) {
	want(ts, args, "VOLUME")
	h := readHeader(ts, path(ts, args[0]))
	maps.DeleteFunc(h.Tokens, func(_ int, token json.RawMessage) bool { return luks2.Type(token) == sealtoken.Type })
	writeHeader(ts, path(ts, args[0]), h)
}

func writeHeader(ts *testscript.TestScript, name string, h luks2.Header) {
	h.Sequence++
	text, err := h.Print()
	must(ts, err)
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	must(ts, err)
	_, err = f.WriteAt(text, 0)
	must(ts, errors.Join(err, f.Close()))
}

// tokens VOLUME COUNT: so many tokens of the TPM are in the header of a copy, as
// cryptsetup sees it.
func (s *stage) tokens(ts *testscript.TestScript, args []string) {
	want(ts, args, "VOLUME COUNT")
	dump := s.tool(ts, "cryptsetup", "luksDump", path(ts, args[0]))
	if n := strings.Count(dump, ": "+sealtoken.Type+"\n"); int64(n) != number(ts, args[1]) {
		ts.Fatalf("%d tokens of the TPM, want %s:\n%s", n, args[1], dump)
	}
}

func readHeader(ts *testscript.TestScript, name string) luks2.Header {
	f, err := os.Open(name)
	must(ts, err)
	defer f.Close()
	b := make([]byte, 2*luks2.MetadataSize)
	_, err = io.ReadFull(f, b)
	must(ts, err)
	h, err := luks2.Parse(b, luks2.Sealed)
	must(ts, err)
	return h
}

// remember NAME REGEXP: what the first group matches on the console is $NAME
// from here on.
func (s *stage) remember(ts *testscript.TestScript, args []string) {
	want(ts, args, "NAME REGEXP")
	ctx, cancel := within()
	defer cancel()
	re := regexp.MustCompile(args[1])
	match, err := s.machine.Console.Expect(ctx, re)
	s.must(ts, err)
	groups := re.FindStringSubmatch(string(match))
	if len(groups) != 2 {
		ts.Fatalf("%s must have one group", args[1])
	}
	ts.Setenv(args[0], groups[1])
}
