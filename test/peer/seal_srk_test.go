package peer_test

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/binary"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"cloison/target/seal"
)

// TestSealSRK: another key where the storage root key must be, on the TPM or on
// the bus to it, is noticed at each use.
func TestSealSRK(t *testing.T) {
	r := sealRelease(t, policyKey(t), 2, 2)

	// Somebody was there before the first boot, and knows his key's parent.
	for name, template := range map[string]tpm2.TPMTPublic{"RSA": tpm2.RSASRKTemplate, "ECC, of a seed of his own": withUnique(tpm2.ECCSRKTemplate)} {
		s := newTPM(t).boot(t)
		made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(template)}.Execute(s)
		if err != nil {
			t.Fatal(err)
		}
		_, err = tpm2.EvictControl{
			Auth: tpm2.TPMRHOwner, ObjectHandle: &tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}, PersistentHandle: 0x81000001,
		}.Execute(s)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = open(t, s, r).Provision()
		check(t, name+" at the first boot", err, seal.ErrOwned)
	}

	// Somebody sits on the bus and gives another key.
	s := newTPM(t)
	secret, token := provision(t, s, r)
	s.boot(t)
	for name, change := range map[string]func([]byte){ // bits of TPMA_OBJECT: Part 2, section 8.3.2
		"userWithAuth": func(public []byte) { public[7] ^= 1 << 6 }, "noDA": func(public []byte) { public[6] ^= 1 << 2 },
	} {
		on, err := seal.Open(&bus{s, change}, r)
		if err != nil {
			t.Fatal(err)
		}
		_, err = on.Unseal(token, identity)
		check(t, name+": Unseal", err, seal.ErrOtherTPM)
		_, err = on.Seal(secret, [32]byte{})
		check(t, name+": Seal", err, seal.ErrOtherTPM)
		_, _, err = on.RaiseFloor()
		check(t, name+": RaiseFloor", err, seal.ErrOtherTPM)
		_, err = on.Status()
		check(t, name+": Status", err, seal.ErrOtherTPM)
		check(t, name+": Commit", on.Commit(secret, identity), seal.ErrOtherTPM)
	}
	// One of the template, whose private part he has.
	theirs, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	on, err := seal.Open(&bus{s, func(public []byte) {
		point := theirs.PublicKey().Bytes()[1:]
		copy(public[len(public)-66:], point[:32]) // Part 2, section 11.2.5.2: two coordinates, each after its size
		copy(public[len(public)-32:], point[32:])
	}}, r)
	if err != nil {
		t.Fatal(err)
	}
	_, err = on.Unseal(token, identity)
	check(t, "an attacker's key: Unseal", err, seal.ErrOtherTPM)
	if got, err := open(t, s, r).Unseal(token, identity); err != nil || got != secret {
		t.Errorf("Unseal without him = %v", err)
	}
}

func withUnique(template tpm2.TPMTPublic) tpm2.TPMTPublic {
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: make([]byte, 32)}, Y: tpm2.TPM2BECCParameter{Buffer: append(make([]byte, 31), 1)},
	})
	return template
}

// bus changes the public part of the storage root key on its way from the TPM.
type bus struct {
	seal.TPM
	change func(public []byte)
}

func (b *bus) Send(command []byte) ([]byte, error) {
	response, err := b.TPM.Send(command)
	be := binary.BigEndian
	if err != nil || tpm2.TPMCC(be.Uint32(command[6:])) != tpm2.TPMCCReadPublic || be.Uint32(command[10:]) != 0x81000001 {
		return response, err
	}
	size := int(be.Uint16(response[10:]))
	b.change(response[12 : 12+size])
	return response, nil
}
