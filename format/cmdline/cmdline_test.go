package cmdline

import (
	"strings"
	"testing"

	"cloison/format/fec"
)

const (
	root = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	salt = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100"
	good = "cloison.version=0.1.0 cloison.roothash=" + root + " cloison.salt=" + salt +
		" cloison.data_blocks=10 cloison.hash_offset=40960 cloison.fec_offset=49152 cloison.fec_roots=2"
)

func TestParse(t *testing.T) {
	for _, test := range []struct{ in, want, wantErr string }{
		{in: good, want: good},
		{in: "console=ttyS0 panic=-1 " + good, want: good},
		{in: good + " cloison.development=1", want: good + " cloison.development=1"},
		{in: good + " cloison.swap=1 cloison.development=1", want: good + " cloison.swap=1 cloison.development=1"},
		{in: good + " cloison.development=1 cloison.swap=1", wantErr: "unexpected word"},
		{in: good + " cloison.swap=0", wantErr: "unexpected word"},
		{in: good + " cloison.unlock=passphrase", want: good + " cloison.unlock=passphrase"},
		{in: good + " cloison.unlock=passphrase cloison.development=1", want: good + " cloison.unlock=passphrase cloison.development=1"},
		{in: good + " cloison.development=1 cloison.unlock=passphrase", wantErr: "unexpected word"},
		{in: good + " cloison.unlock=passphrase cloison.unlock=passphrase", wantErr: "unexpected word"},
		{in: good + " cloison.unlock=tpm", wantErr: "unexpected word"},
		{in: "cloison.unlock=passphrase " + good, wantErr: "where cloison.version=… must stand"},
		{in: "", wantErr: `empty word`},
		{in: "console=ttyS0", wantErr: "cloison.version is missing"},
		{in: good + "\n", wantErr: "byte 0x0a is not printable"},
		{in: "a  " + good, wantErr: "empty word"},
		{in: good + " ", wantErr: `unexpected word ""`},
		{in: good + " init=/bin/sh", wantErr: `unexpected word "init=/bin/sh"`},
		{in: good + " cloison.development=0", wantErr: "unexpected word"},
		{in: good + " " + good, wantErr: "unexpected word"},
		{in: strings.Replace(good, "0.1.0", "0.1+0", 1), wantErr: "is no version"},
		{in: strings.Replace(good, "0.1.0", "", 1), wantErr: "is no version"},
		{in: strings.Replace(good, root, strings.ToUpper(root), 1), wantErr: "lower-case"},
		{in: strings.Replace(good, root, root[:62], 1), wantErr: "lower-case"},
		{in: strings.Replace(good, root, strings.Repeat("0", 64), 1), wantErr: "all zero"},
		{in: strings.Replace(good, "blocks=10", "blocks=010", 1), wantErr: "plain decimal"},
		{in: strings.Replace(good, "blocks=10", "blocks=-1", 1), wantErr: "plain decimal"},
		{in: strings.Replace(good, "blocks=10", "blocks=1", 1), wantErr: "1 data blocks"},
		{in: strings.Replace(good, "blocks=10", "blocks=11", 1), wantErr: "within the 11 data blocks"},
		{in: strings.Replace(good, "40960", "40961", 1), wantErr: "multiples"},
		{in: strings.Replace(good, "49152", "45056", 1), wantErr: "no room"},
		{in: strings.Replace(good, "49152", "9223372036854771712", 1), wantErr: "too large"},
		{in: strings.Replace(good, "roots=2", "roots=1", 1), wantErr: "want 2 to 24"},
		{in: strings.Replace(good, "roots=2", "roots=25", 1), wantErr: "want 2 to 24"},
		{in: strings.Repeat("x ", 2000) + good, wantErr: "at most 2048"},
	} {
		c, err := Parse(test.in)
		if test.wantErr != "" {
			if err == nil || !strings.Contains(err.Error(), test.wantErr) {
				t.Errorf("Parse(%q) = %v, want an error with %q", test.in, err, test.wantErr)
			}
			continue
		}
		if err != nil || c.String() != test.want {
			t.Errorf("Parse(%q) = %q, %v, want %q", test.in, c, err, test.want)
		}
	}
}

func TestSize(t *testing.T) {
	for _, c := range []Core{
		{DataBlocks: 10, HashOffset: 10 * BlockSize, FECOffset: 12 * BlockSize, FECRoots: 2},
		{DataBlocks: 252, HashOffset: 252 * BlockSize, FECOffset: 254 * BlockSize, FECRoots: 2},
		{DataBlocks: 253, HashOffset: 253 * BlockSize, FECOffset: 256 * BlockSize, FECRoots: 2},
		{DataBlocks: 15000, HashOffset: 15000 * BlockSize, FECOffset: 15200 * BlockSize, FECRoots: 24},
	} {
		want := c.FECOffset + fec.ParitySize(c.CoveredBlocks(), int(c.FECRoots))
		if got := c.Size(); got != want {
			t.Errorf("Size of %+v = %d, want %d", c, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(good)
	f.Add("console=ttyS0 " + good + " cloison.swap=1 cloison.unlock=passphrase cloison.development=1")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse(text)
		if err != nil {
			return
		}
		if !strings.HasSuffix(text, c.String()) {
			t.Fatalf("Parse(%q).String() = %q, which is not its end", text, c)
		}
		if again, err := Parse(c.String()); err != nil || again != c {
			t.Fatalf("Parse(%q) = %v, %v, want %v", c.String(), again, err, c)
		}
	})
}
