package tpmpolicy

import (
	"crypto/rsa"
	"encoding/hex"
	"math/big"
	"slices"
	"testing"
)

func digest(b byte) Digest { return Digest(slices.Repeat([]byte{b}, 32)) }

// The wanted digests were computed from the specification by a few lines of
// Python; TestSealPeer of test/peer compares the policies in use with a TPM.
func TestPolicies(t *testing.T) {
	index := Index{Handle: 0x0183c101, Attributes: 0x02060008, Size: 8}
	for _, test := range []struct {
		name string
		got  Digest
		want string
	}{
		{"PCR(7 and 11)", PCR(Digest{}, map[int]Digest{7: digest(1), 11: digest(2)}), "4031f0cc8d4bf414164e4be393690fb65c8bf12c0df1ead49b35315799b969f6"},
		{"NV(index ≤ 3)", NV(Digest{}, index.Name(), UnsignedLE, []byte{0, 0, 0, 0, 0, 0, 0, 3}), "f495ab1378114879021f8f2a012fb3ae978ed8fd3822d88e16b3c82292f847be"},
		{"NVWritten(false)", NVWritten(Digest{}, false), "3c326323670e28ad37bd57f63b4cc34d26ab205ef22f275c58d47fab2485466e"},
		{"NVWritten(true)", NVWritten(Digest{}, true), "f7887d158ae8d38be0ac5319f37a9e07618bf54885453c7a54ddb0c6a6193beb"},
		{"CPHash", CPHash(Digest{}, digest(5)), "00f4d6dbbe067583beb5f20faed0bdbab4ed623413f84afe4129c6f5ba8ab60c"},
		{"Authorize", Authorize(index.Name(), []byte("ref")), "ea08e11a7f1a8619a5f00fe5a70feeddee8e7eac77105bbc17bf0597f01c059f"},
		{"CommandHash", CommandHash(NVWrite, []Name{index.Name(), index.Name()}, []byte("params")), "929540fcf483a46c80e051e2f8dce570a14eb0784c5b6d3155d3d4b978db708d"},
	} {
		if got := hex.EncodeToString(test.got[:]); got != test.want {
			t.Errorf("%s = %s, want %s", test.name, got, test.want)
		}
	}
	a := PCR(Digest{}, map[int]Digest{7: digest(1), 11: digest(2), 0: digest(3)})
	for range 20 { // a map has no order
		if b := PCR(Digest{}, map[int]Digest{0: digest(3), 11: digest(2), 7: digest(1)}); a != b {
			t.Fatalf("PCR depends on the order: %x and %x", a, b)
		}
	}
}

func TestSelection(t *testing.T) {
	for _, test := range []struct {
		indexes []int
		want    string
	}{
		{nil, "00000001000b03000000"},
		{[]int{7}, "00000001000b03800000"},
		{[]int{11}, "00000001000b03000800"},
		{[]int{23, 0, 11}, "00000001000b03010880"},
	} {
		if got := hex.EncodeToString(Selection(test.indexes...)); got != test.want {
			t.Errorf("Selection(%v) = %s, want %s", test.indexes, got, test.want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("Selection(24) did not panic")
		}
	}()
	Selection(24)
}

func TestNames(t *testing.T) {
	index := Index{Handle: 0x0183c102, Attributes: 0x02060002, Size: 32}
	if got, want := hex.EncodeToString(index.Public()), "0183c102000b0206000200000020"; got != want {
		t.Errorf("Public() = %s, want %s", got, want)
	}
	if got, want := hex.EncodeToString(index.Written().Public()), "0183c102000b2206000200000020"; got != want {
		t.Errorf("Written().Public() = %s, want %s", got, want)
	}
	if name := index.Name(); name == index.Written().Name() || name[1] != 0x0b {
		t.Errorf("Name() = %x, the same as when written", name)
	}
}

func TestRSAKey(t *testing.T) {
	n := new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 2047), big.NewInt(1))
	public, err := RSAKey(&rsa.PublicKey{N: n, E: 65537})
	const want = "0001000b000400400000001000140" + "00b0800000000000100"
	if got := hex.EncodeToString(public); err != nil || len(public) != 24+256 || got[:48] != want {
		t.Errorf("RSAKey = %s, %v, want %s…", got[:48], err, want)
	}
	for _, k := range []rsa.PublicKey{
		{N: new(big.Int).Lsh(big.NewInt(1), 3071), E: 65537}, {N: n, E: 3}, {N: big.NewInt(1), E: 65537},
	} {
		if _, err := RSAKey(&k); err == nil {
			t.Errorf("RSAKey(%d bits, exponent %d) = nil error", k.N.BitLen(), k.E)
		}
	}
}
