// Package tpmpolicy computes the digests of TPM 2.0 policies, and the names of
// the keys and NV indexes that they speak of, without a TPM. All with SHA-256.
// It needs nothing but the standard library.
//
// Source: TCG TPM 2.0 Library, Part 1 section 16 (names), Part 2 sections 10
// to 13 (structures), Part 3 section 23 (policy commands). Integers are
// big-endian.
package tpmpolicy

import (
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
)

// Digest is a policy digest or the value of a PCR.
type Digest = [sha256.Size]byte

// Name is the name of an object or NV index: the algorithm and the digest of
// its public area.
type Name [2 + sha256.Size]byte

const (
	algRSA    = 0x0001 // TPM_ALG_RSA
	algSHA256 = 0x000b // TPM_ALG_SHA256
	algNull   = 0x0010 // TPM_ALG_NULL
	algRSASSA = 0x0014 // TPM_ALG_RSASSA

	pcrs = 24 // of the PC Client profile
)

// Commands that policies name (TPM_CC).
const (
	NVWrite = 0x00000137

	policyNV        = 0x00000149
	policyCPHash    = 0x0000016e
	policyAuthorize = 0x0000016a
	policyPCR       = 0x0000017f
	policyNVWritten = 0x0000018f
)

// UnsignedLE is the comparison "what the index holds ≤ operand" (TPM_EO_UNSIGNED_LE).
const UnsignedLE = 0x0009

var be = binary.BigEndian

// update returns SHA-256(digest ‖ command ‖ parts).
func update(d Digest, command uint32, parts ...[]byte) Digest {
	b := be.AppendUint32(slices.Clone(d[:]), command)
	return sha256.Sum256(append(b, slices.Concat(parts...)...))
}

// PCR adds "these PCRs of the SHA-256 bank have these values" (TPM2_PolicyPCR).
// It panics at an index that no TPM has.
func PCR(d Digest, values map[int]Digest) Digest {
	sum := PCRDigest(values)
	return update(d, policyPCR, Selection(slices.Collect(maps.Keys(values))...), sum[:])
}

// PCRDigest is the digest of the PCRs' values, in the order of their indexes.
func PCRDigest(values map[int]Digest) Digest {
	var b []byte
	for _, index := range slices.Sorted(maps.Keys(values)) {
		value := values[index]
		b = append(b, value[:]...)
	}
	return sha256.Sum256(b)
}

// Selection is a TPML_PCR_SELECTION of the SHA-256 bank: a bit for each PCR,
// so the order of the indexes is not part of it.
func Selection(indexes ...int) []byte {
	b := be.AppendUint32(nil, 1)
	b = be.AppendUint16(b, algSHA256)
	b = append(b, pcrs/8, 0, 0, 0)
	for _, index := range indexes {
		if index < 0 || index >= pcrs {
			panic(fmt.Sprintf("internal error: PCR %d", index))
		}
		b[7+index/8] |= 1 << (index % 8)
	}
	return b
}

// NV adds "the index, from its start, compares to operand so" (TPM2_PolicyNV).
func NV(d Digest, index Name, operation uint16, operand []byte) Digest {
	b := be.AppendUint16(slices.Clone(operand), 0) // offset
	args := sha256.Sum256(be.AppendUint16(b, operation))
	return update(d, policyNV, args[:], index[:])
}

// NVWritten adds "the index that the command is about was written to", or not
// (TPM2_PolicyNvWritten).
func NVWritten(d Digest, written bool) Digest {
	b := []byte{0}
	if written {
		b[0] = 1
	}
	return update(d, policyNVWritten, b)
}

// CommandHash is the cpHash of a command: its code, the names of its handles
// and its parameters (Part 1, section 16.7).
func CommandHash(command uint32, names []Name, parameters []byte) Digest {
	b := be.AppendUint32(nil, command)
	for _, name := range names {
		b = append(b, name[:]...)
	}
	return sha256.Sum256(append(b, parameters...))
}

// CPHash adds "for this one command with these parameters" (TPM2_PolicyCpHash).
func CPHash(d, command Digest) Digest { return update(d, policyCPHash, command[:]) }

// Authorize is the policy "what the key signed, for the use that ref says"
// (TPM2_PolicyAuthorize). It forgets what the session has shown before, which
// is what was signed: more can be added after it.
func Authorize(key Name, ref []byte) Digest {
	d := update(Digest{}, policyAuthorize, key[:])
	return sha256.Sum256(append(d[:], ref...))
}

// SignedDigest is the SHA-256 that a key signs, with RSASSA, to approve a
// policy for the use that ref says.
func SignedDigest(approved Digest, ref []byte) []byte {
	sum := sha256.Sum256(append(approved[:], ref...))
	return sum[:]
}

// RSAKey is the public area (TPMT_PUBLIC) under which an RSA key that only
// verifies is loaded: RSASSA with SHA-256, attributes userWithAuth and sign.
// It refuses keys that no TPM must know: all know RSA-2048.
func RSAKey(key *rsa.PublicKey) ([]byte, error) {
	if key.N.BitLen() != 2048 || key.E != 65537 {
		return nil, fmt.Errorf("key is RSA-%d with exponent %d, want RSA-2048 with 65537", key.N.BitLen(), key.E)
	}
	const userWithAuth, sign = 1 << 6, 1 << 18
	b := be.AppendUint16(nil, algRSA)
	b = be.AppendUint16(b, algSHA256)
	b = be.AppendUint32(b, userWithAuth|sign)
	for _, v := range []uint16{0 /* no policy */, algNull, algRSASSA, algSHA256, 2048, 0, 0 /* exponent: 65537 */, 256} {
		b = be.AppendUint16(b, v)
	}
	return append(b, key.N.FillBytes(make([]byte, 256))...), nil
}

// Index is the public area of an NV index (TPMS_NV_PUBLIC).
type Index struct {
	Handle     uint32
	Attributes uint32 // TPMA_NV
	Policy     []byte // digest, or nothing
	Size       uint16 // of what it holds, in bytes
}

// NVIsWritten is the attribute that the TPM sets at the first write, which
// changes the index's name (TPMA_NV_WRITTEN).
const NVIsWritten = 1 << 29

// Public is the TPMS_NV_PUBLIC.
func (i Index) Public() []byte {
	b := be.AppendUint32(nil, i.Handle)
	b = be.AppendUint16(b, algSHA256)
	b = be.AppendUint32(b, i.Attributes)
	b = be.AppendUint16(b, uint16(len(i.Policy)))
	b = append(b, i.Policy...)
	return be.AppendUint16(b, i.Size)
}

// Name is the name of the index with these attributes.
func (i Index) Name() Name { return NameOf(i.Public()) }

// Written is the index after its first write.
func (i Index) Written() Index {
	i.Attributes |= NVIsWritten
	return i
}

// NameOf is the name of a public area.
func NameOf(public []byte) Name {
	sum := sha256.Sum256(public)
	return Name(append(be.AppendUint16(nil, algSHA256), sum[:]...))
}
