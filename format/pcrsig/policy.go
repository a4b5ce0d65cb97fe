package pcrsig

import (
	"crypto/rsa"
	"encoding/binary"

	"cloison/format/tpmpolicy"
)

// FloorHandle and MarkHandle are the NV indexes, in the owner's range (TCG
// Registry of Reserved TPM 2.0 Handles, section 2.2.2).
const (
	FloorHandle = 0x0183c101
	MarkHandle  = 0x0183c102
)

// What a signature is for is signed with it (policyRef): none can be used for
// another end, nor one that was made for systemd, which has no policyRef.
var (
	UnsealRef = []byte("cloison unseal 1")
	FloorRef  = []byte("cloison floor 1")
)

// Attributes of NV indexes (Part 2, section 13.4: TPMA_NV).
const (
	nvOwnerWrite  = 1 << 1
	nvPolicyWrite = 1 << 3
	nvOwnerRead   = 1 << 17
	nvAuthRead    = 1 << 18 // with the empty authorisation: by everybody
	nvNoDA        = 1 << 25
)

// Policies are what one policy key's signatures are about.
type Policies struct{ key tpmpolicy.Name }

// For returns the policies of a policy key, RSA-2048.
func For(key *rsa.PublicKey) (Policies, error) {
	public, err := tpmpolicy.RSAKey(key)
	return Policies{tpmpolicy.NameOf(public)}, err
}

// Key is the TPM's name of the policy key.
func (p Policies) Key() tpmpolicy.Name { return p.key }

// Floor is the NV index of the floor, before its first write. It holds 8 bytes.
func (p Policies) Floor() tpmpolicy.Index {
	policy := tpmpolicy.Authorize(p.key, FloorRef)
	return tpmpolicy.Index{Handle: FloorHandle, Attributes: nvPolicyWrite | nvAuthRead | nvOwnerRead | nvNoDA, Policy: policy[:], Size: 8}
}

// Mark is the NV index that says for which volume a TPM was provisioned,
// before its first write. It holds 32 bytes.
func Mark() tpmpolicy.Index {
	return tpmpolicy.Index{Handle: MarkHandle, Attributes: nvOwnerWrite | nvAuthRead | nvOwnerRead | nvNoDA, Size: 32}
}

// Sealed is the policy of the sealed secret: what the key signed for
// unsealing, and PCR 7 as given.
func (p Policies) Sealed(pcr7 tpmpolicy.Digest) tpmpolicy.Digest {
	return tpmpolicy.PCR(tpmpolicy.Authorize(p.key, UnsealRef), map[int]tpmpolicy.Digest{7: pcr7})
}

// Unseal is the policy to sign for a release: PCR 11 in the phase of the
// initramfs, and a floor that is not above the release's security version.
func (p Policies) Unseal(pcr11 tpmpolicy.Digest, securityVersion uint64) tpmpolicy.Digest {
	d := tpmpolicy.PCR(tpmpolicy.Digest{}, map[int]tpmpolicy.Digest{11: pcr11})
	return p.atMost(d, securityVersion)
}

// Init is the policy to sign for making the floor: its first write, of zero.
func (p Policies) Init() tpmpolicy.Digest {
	return tpmpolicy.CPHash(tpmpolicy.NVWritten(tpmpolicy.Digest{}, false), WriteHash(p.Floor(), 0))
}

// Raise is the policy to sign for raising the floor: to this value, and only
// from one that is not higher.
func (p Policies) Raise(to uint64) tpmpolicy.Digest {
	return tpmpolicy.CPHash(p.atMost(tpmpolicy.Digest{}, to), WriteHash(p.Floor().Written(), to))
}

func (p Policies) atMost(d tpmpolicy.Digest, version uint64) tpmpolicy.Digest {
	return tpmpolicy.NV(d, p.Floor().Written().Name(), tpmpolicy.UnsignedLE, Operand(version))
}

// Operand is a version as the floor holds it: 8 bytes, big-endian.
func Operand(version uint64) []byte { return binary.BigEndian.AppendUint64(nil, version) }

// WriteHash is the hash of the one command TPM2_NV_Write that an index with
// these attributes takes, by its own authorisation, with this value.
func WriteHash(i tpmpolicy.Index, version uint64) tpmpolicy.Digest {
	name := i.Name()
	parameters := append([]byte{0, 8}, Operand(version)...)
	return tpmpolicy.CommandHash(tpmpolicy.NVWrite, []tpmpolicy.Name{name, name}, append(parameters, 0, 0))
}
