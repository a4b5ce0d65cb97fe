package peer_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"cloison/format/pcr"
	"cloison/format/pcrsig"
	"cloison/format/tpmpolicy"
	"cloison/format/uki"
	"cloison/host/bootimage"
	"cloison/host/sdk/sdktest"
	"cloison/target/seal"
)

// TestSealPeer: tpm2-tools see the indexes, names and policies that we have
// computed, and the secret is never in clear on the bus.
func TestSealPeer(t *testing.T) {
	key := policyKey(t)
	s, r := newTPM(t), sealRelease(t, key, 3, 3)
	secret, token := provision(t, s, r)
	sealer := open(t, s.boot(t), r)
	if _, err := sealer.Unseal(token, identity); err != nil {
		t.Fatal(err)
	}
	if _, _, err := sealer.RaiseFloor(); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"key": secret.Key[:], "authority": secret.Authority[:]} {
		if bytes.Contains(s.line.Bytes(), b[:8]) || bytes.Contains(s.line.Bytes(), b[24:]) {
			t.Errorf("the secret's %s is in clear on the bus", name)
		}
	}
	p, err := pcrsig.For(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}

	// Names and contents of what the TPM holds.
	floor, mark := fmt.Sprintf("%#x", pcrsig.FloorHandle), fmt.Sprintf("%#x", pcrsig.MarkHandle)
	for handle, want := range map[string]tpmpolicy.Name{floor: p.Floor().Written().Name(), mark: pcrsig.Mark().Written().Name()} {
		out := s.tool(t, "tpm2_nvreadpublic", handle)
		if !strings.Contains(out, "name: "+hex.EncodeToString(want[:])) {
			t.Errorf("tpm2_nvreadpublic %s, want name %x:\n%s", handle, want, out)
		}
	}
	if got, want := s.tool(t, "tpm2_nvread", floor, "-C", floor), string(pcrsig.Operand(3)); got != want {
		t.Errorf("tpm2_nvread of the floor = %x, want %x", got, want)
	}
	if got := s.tool(t, "tpm2_nvread", mark, "-C", mark); len(got) != 32 {
		t.Errorf("tpm2_nvread of the mark = %x", got)
	}
	s.tool(t, "tpm2_readpublic", "-c", "0x81000001", "-n", "srk.name")
	if got := readFile(t, s.dir+"/srk.name"); !bytes.Equal(got, token.SRK[:]) {
		t.Errorf("tpm2_readpublic of the storage root key: name %x, want %x", got, token.SRK)
	}

	// The same policies, step by step, in trial sessions of tpm2-tools.
	area, err := tpmpolicy.RSAKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, s.dir, "key.pub", append([]byte{byte(len(area) >> 8), byte(len(area))}, area...)) // TPM2B_PUBLIC
	s.tool(t, "tpm2_loadexternal", "-C", "o", "-u", "key.pub", "-c", "key.ctx", "-n", "key.name")
	if got, want := readFile(t, s.dir+"/key.name"), p.Key(); !bytes.Equal(got, want[:]) {
		t.Errorf("tpm2_loadexternal of the policy key: name %x, want %x", got, want)
	}
	pcr11 := pcr.Phases(pcr.Extend([32]byte{}, []byte("uki")), pcr.EnterInitrd)
	pcr7 := pcr.Extend([32]byte{}, []byte("secure boot"))
	writeFile(t, s.dir, "three", pcrsig.Operand(3))
	writeFile(t, s.dir, "unseal.ref", pcrsig.UnsealRef)
	writeFile(t, s.dir, "floor.ref", pcrsig.FloorRef)
	unseal, floorPolicy, sealed := p.Unseal(pcr11, 3), p.Floor().Policy, p.Sealed(pcr7)
	raise, initial := p.Raise(3), p.Init()
	hash3, hash0 := pcrsig.WriteHash(p.Floor().Written(), 3), pcrsig.WriteHash(p.Floor(), 0)
	writeFile(t, s.dir, "raise.cphash", append([]byte{0, 32}, hash3[:]...))
	writeFile(t, s.dir, "init.cphash", append([]byte{0, 32}, hash0[:]...))
	writeFile(t, s.dir, "approved", unseal[:])
	for _, policy := range []struct {
		name  string
		steps [][]string
		want  []byte
	}{
		{"unseal", [][]string{{"tpm2_policypcr", "-l", "sha256:11"}, {"tpm2_policynv", "-C", floor, "-i", "three", floor, "ule"}}, unseal[:]},
		{"floor", [][]string{{"tpm2_policyauthorize", "-n", "key.name", "-q", "floor.ref", "-i", "approved"}}, floorPolicy},
		{"sealed", [][]string{{"tpm2_policyauthorize", "-n", "key.name", "-q", "unseal.ref", "-i", "approved"}, {"tpm2_policypcr", "-l", "sha256:7"}}, sealed[:]},
		{"raise", [][]string{{"tpm2_policynv", "-C", floor, "-i", "three", floor, "ule"}, {"tpm2_policycphash", "--cphash", "raise.cphash"}}, raise[:]},
		{"init", [][]string{{"tpm2_policynvwritten", "c"}, {"tpm2_policycphash", "--cphash", "init.cphash"}}, initial[:]},
	} {
		s.tool(t, "tpm2_startauthsession", "-S", "session")
		for _, step := range policy.steps {
			s.tool(t, append(step, "-S", "session", "-L", "digest")...)
		}
		if got := readFile(t, s.dir+"/digest"); !bytes.Equal(got, policy.want) {
			t.Errorf("policy %s of tpm2-tools is %x, want %x", policy.name, got, policy.want)
		}
		s.tool(t, "tpm2_flushcontext", "session")
	}
}

// TestSealUKI: what is signed into a UKI fits what the firmware's stub will
// measure of it, by systemd-measure and in a TPM. The recovery profile gets
// nothing from the TPM.
func TestSealUKI(t *testing.T) {
	tools, dir, st := sdktest.Open(t), t.TempDir(), developmentKeys(t)
	image, err := bootimage.Make(tools, st, bootimage.Parts{
		Kernel: tools.Path(loaderPath), Release: "7.3.0-cloison", Initramfs: []byte("initramfs"), Cmdline: "quiet", OSRelease: "ID=cloison\n",
		SecurityVersion: 2, Floor: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	sections, err := uki.Parse(image.Data)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"/usr/lib/systemd/systemd-measure", "calculate", "--bank=sha256", "--json=short", "--phase=" + pcr.EnterInitrd}
	content := map[string][]byte{}
	profiles := uki.Profiles(sections)
	for _, s := range profiles[0] {
		content[s.Name] = s.Data
		if s.Name != ".pcrsig" {
			args = append(args, "--"+s.Name[1:]+"="+writeFile(t, dir, s.Name[1:], s.Data))
		}
	}
	signed, err := pcrsig.Parse(content[".pcrsig"])
	if err != nil {
		t.Fatal(err)
	}
	if out := mustTool(t, tools, dir, args...); !strings.Contains(out, hex.EncodeToString(signed.PCR11[:])) || signed.PCR11 != image.Main.Phases[0].PCR11 {
		t.Errorf("PCR 11 of the signed policy is %x, systemd-measure gives %s", signed.PCR11, out)
	}
	r, err := seal.ParseRelease(content[".pcrpkey"], content[".pcrsig"])
	if err != nil {
		t.Fatal(err)
	}
	s := newTPM(t)
	boot := func(profile []uki.Section) *seal.Sealer {
		s.reboot(t)
		for _, name := range pcr.Measured {
			for _, section := range profile {
				if section.Name == name {
					s.extend(t, 11, name+"\x00")
					s.extendWith(t, 11, sha256.Sum256(section.Data))
				}
			}
		}
		s.extend(t, 11, pcr.EnterInitrd)
		return open(t, s, r)
	}
	sealer := boot(profiles[0])
	secret, token, err := sealer.Provision()
	if err == nil {
		err = sealer.Commit(secret, identity)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, err := boot(profiles[0]).Unseal(token, identity); err != nil || got != secret {
		t.Errorf("Unseal after the measurements of the UKI = %v", err)
	}
	recovery := boot(profiles[1])
	if _, err := recovery.Unseal(token, identity); !errors.Is(err, seal.ErrPCR11) {
		t.Errorf("Unseal after the measurements of the recovery profile = %v, want %v", err, seal.ErrPCR11)
	}
	// What it seals is for the main profile, as ever.
	pcr7, err := recovery.PCR7()
	if err != nil {
		t.Fatal(err)
	}
	if token, err = recovery.Seal(secret, pcr7); err != nil {
		t.Fatal(err)
	}
	if _, err := recovery.Unseal(token, identity); !errors.Is(err, seal.ErrPCR11) {
		t.Errorf("Unseal by the recovery profile of what it sealed = %v, want %v", err, seal.ErrPCR11)
	}
	if got, err := boot(profiles[0]).Unseal(token, identity); err != nil || got != secret {
		t.Errorf("Unseal of what the recovery profile sealed = %v", err)
	}
}
