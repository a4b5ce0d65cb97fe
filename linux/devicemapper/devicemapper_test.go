package devicemapper

import (
	"encoding/binary"
	"strings"
	"testing"
)

func TestTarget(t *testing.T) {
	got := Verity{
		Device: "/dev/vda2", DataBlocks: 1511, HashOffset: 1511 * 4096, FECOffset: 1525 * 4096, FECRoots: 2,
		RootHash: [32]byte{0xaa}, Salt: [32]byte{0xbb},
	}.Target()
	zeros := strings.Repeat("0", 62)
	want := Target{Type: "verity", Length: 1511 * 4096, Params: "1 /dev/vda2 /dev/vda2 4096 4096 1511 1512 sha256 aa" + zeros + " bb" + zeros +
		" 10 restart_on_corruption restart_on_error use_fec_from_device /dev/vda2 fec_start 1525 fec_blocks 1524 fec_roots 2"}
	if got != want {
		t.Errorf("Target() = %+v, want %+v", got, want)
	}
}

func TestEncode(t *testing.T) {
	b := encode(Target{Type: "verity", Length: 8192, Params: "1 a"})
	ne := binary.NativeEndian
	if len(b) != 48 || ne.Uint64(b[8:]) != 16 || ne.Uint32(b[20:]) != 48 || string(b[24:31]) != "verity\x00" || string(b[40:44]) != "1 a\x00" {
		t.Errorf("encode = %x, want 16 sectors in 48 bytes", b)
	}
}

func TestVerityStatus(t *testing.T) {
	for _, test := range []struct {
		in        string
		corrupted bool
		repaired  uint64
		ok        bool
	}{
		{"V 0", false, 0, true},
		{"V 12", false, 12, true},
		{"C 1", true, 1, true},
		{"V -", false, 0, false}, // without parity
		{"V", false, 0, false},
		{"X 1", false, 0, false},
		{"", false, 0, false},
	} {
		corrupted, repaired, err := VerityStatus(test.in)
		if corrupted != test.corrupted && err == nil || repaired != test.repaired || (err == nil) != test.ok {
			t.Errorf("VerityStatus(%q) = %t, %d, %v, want %t, %d, ok %t", test.in, corrupted, repaired, err, test.corrupted, test.repaired, test.ok)
		}
	}
}
