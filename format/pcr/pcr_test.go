package pcr_test

import (
	"encoding/hex"
	"testing"

	"cloison/format/pcr"
	"cloison/format/uki"
)

// The values are those that systemd-measure 257 gives for the same sections.
func TestUKI(t *testing.T) {
	var sections []uki.Section
	for _, name := range []string{"profile", "sbat", "linux", "osrel", "cmdline", "initrd", "uname", "pcrpkey", "pcrsig"} {
		sections = append(sections, uki.Section{Name: "." + name, Data: []byte("content of " + name + "\n")})
	}
	p := pcr.UKI(sections)
	for _, test := range []struct {
		phases []string
		want   string
	}{
		{nil, "95f0b97f497c9f49ac028b88257c32f92d695c9c2fd2f5e3c67ae1bdf6b9f7b0"},
		{[]string{pcr.EnterInitrd}, "d1fe8d07db5081d455b5cf686b4588d51a91a8e9c0e75c16190ae4a1ab687ab5"},
		{[]string{pcr.EnterInitrd, pcr.LeaveInitrd, pcr.SysInit, pcr.Ready}, "fab714110b8fcfce5e45b67b99d8d7b576ec58193a93c5bc681acec299aeb81f"},
	} {
		if got := pcr.Phases(p, test.phases...); hex.EncodeToString(got[:]) != test.want {
			t.Errorf("Phases(UKI(sections), %q) = %x, want %s", test.phases, got, test.want)
		}
	}
}

func TestExtend(t *testing.T) {
	// SHA-256(32 zero bytes ‖ SHA-256("")), as the TPM does it.
	const want = "1c9ecec90e28d2461650418635878a5c91e49f47586ecf75f2b0cbb94e897112"
	if got := pcr.Extend([32]byte{}, nil); hex.EncodeToString(got[:]) != want {
		t.Errorf("Extend(0, empty) = %x, want %s", got, want)
	}
}
