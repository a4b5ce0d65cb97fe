package eventlog

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"cloison/format/efisig"
)

// real is the log of a boot under OVMF with a development build; its PCRs were
// read from the TPM of that boot.
func real(t testing.TB) []byte {
	b, err := os.ReadFile("testdata/ovmf.log")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var realPCRs = map[uint32]string{
	0: "3e92823e1e34c60205a080d3c1766dfbbbd528f5d7fdba4f06c3ee01dd356320",
	1: "348eeb2e8bec2ba73e02e47bedd9e5565d0cd01e05317741573cbfbe52ae340c",
	2: "3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969",
	4: "91be88ea7040d37e5151a4ca0ff258a08976bfbf5cb430c268e05892f6f1eb16",
	5: "2c311b53fef7d48c14ca6393fffb1b49bd292c2f43a7a5f00e9979441b488ed5",
	7: "482b3196f74c9fb270a5b2ca967ddff7eaa253511697c50bc0b446ad0fcb21d3",
}

func parsed(t testing.TB) Log {
	l, err := Parse(real(t))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestReplay(t *testing.T) {
	l := parsed(t)
	if len(l.Events) != 47 || !bytes.Equal(l.Print(), real(t)) {
		t.Errorf("%d events, want 47 and the same log back", len(l.Events))
	}
	for index, want := range realPCRs {
		if got, err := l.Replay(index); err != nil || hex.EncodeToString(got[:]) != want {
			t.Errorf("Replay(%d) = %x, %v, want %s", index, got, err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	good := real(t)
	set := func(at int, v byte) []byte {
		b := bytes.Clone(good)
		b[at] = v
		return b
	}
	const first = 32 + 24 + 4 + 4*4 + 1 // bytes of the first event
	for _, test := range []struct {
		name string
		b    []byte
		want string
	}{
		{"empty", nil, "cut off"},
		{"cut", good[:len(good)-1], "event 47: it is cut off"},
		{"tail", append(bytes.Clone(good), 0), "event 48: it is cut off"},
		{"old form", set(32, 'X'), "crypto-agile"},
		{"another PCR", set(0, 1), "crypto-agile"},
		{"no algorithms", set(56, 0), "0 algorithms"},
		{"many algorithms", set(56, 17), "17 algorithms"},
		{"algorithm twice", set(64, 4), "twice"},
		{"short SHA-256", set(66, 31), "31 bytes"},
		{"vendor's too long", set(first-1, 1), "first event"},
		{"digests", set(first+8, 3), "event 1: 3 digests, want 4"},
		{"algorithm", set(first+12, 5), "event 1: a digest of algorithm 0x5, want 0x4"},
		{"PCR", set(first, 24), "event 1: PCR 24"},
	} {
		if _, err := Parse(test.b); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Parse() = %v, want an error with %q", test.name, err, test.want)
		}
	}
	l := parsed(t)
	l.algorithms[1].id = 0x12
	if _, err := l.Replay(7); err == nil {
		t.Error("Replay without SHA-256 = nil error")
	}
}

func TestVariableRefuses(t *testing.T) {
	good := Variable{efisig.ImageSecurity, "dbx", []byte("content")}.Print()
	set := func(at int, v byte) []byte {
		b := bytes.Clone(good)
		b[at] = v
		return b
	}
	for _, b := range [][]byte{nil, good[:31], good[:len(good)-1], append(good[:len(good):len(good)], 0), set(16, 4), set(23, 1), set(24, 8), set(31, 1), set(32, 0), set(33, 0xd8)} {
		if v, err := ParseVariable(b); err == nil {
			t.Errorf("ParseVariable(%x) = %v, want an error", b, v)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(real(f))
	f.Add(real(f)[:400])
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Parse(b)
		if err != nil {
			return
		}
		if !bytes.Equal(l.Print(), b) {
			t.Errorf("Print(Parse(%x)) = %x", b, l.Print())
		}
		values := map[uint32][32]byte{}
		for _, index := range PCRs {
			if values[index], err = l.Replay(index); err != nil {
				return
			}
		}
		boot, err := l.Boot(values)
		if err != nil {
			return
		}
		// Nothing is predicted to be other than it is when nothing changes.
		if now, err := boot.Predict(nil); err == nil && now != values[7] {
			t.Errorf("Predict(nothing) = %x, want %x", now, values[7])
		}
	})
}

func FuzzParseVariable(f *testing.F) {
	f.Add(Variable{efisig.ImageSecurity, "dbx", []byte("content")}.Print())
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := ParseVariable(b); err == nil && !bytes.Equal(v.Print(), b) {
			t.Errorf("Print(ParseVariable(%x)) = %x", b, v.Print())
		}
	})
}
