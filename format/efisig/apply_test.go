package efisig_test

import (
	"bytes"
	"crypto/x509"
	"strings"
	"testing"

	"cloison/format/efisig"
	"cloison/format/pkcs7/pkcs7test"
)

func TestApply(t *testing.T) {
	a, b := pkcs7test.New(t, "a", nil), pkcs7test.New(t, "b", nil)
	write := func(lists ...efisig.List) []byte {
		data, err := efisig.Marshal(lists)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	one, two := [32]byte{1}, [32]byte{2}
	certs := efisig.Certificates(owner, a.Cert, b.Cert)
	other := efisig.GUID{9}
	for _, test := range []struct {
		name             string
		current, payload []byte
		attributes       uint32
		want             []byte
	}{
		{"replace", write(certs[0]), write(certs[1]), efisig.Replace, write(certs[1])},
		{"replace by nothing", write(certs[0]), nil, efisig.Replace, nil},
		{"append to nothing", nil, write(certs[0]), efisig.Append, write(certs[0])},
		{"append", write(certs[0]), write(certs[1]), efisig.Append, write(certs...)},
		{"append nothing", write(certs[0]), nil, efisig.Append, write(certs[0])},
		{"append what is there", write(certs...), write(certs[1]), efisig.Append, write(certs...)},
		{
			"append digests of which one is there",
			write(efisig.Digests(owner, one)), write(efisig.Digests(owner, one, two)), efisig.Append,
			write(efisig.Digests(owner, one), efisig.Digests(owner, two)),
		},
		{
			"append another's", write(efisig.Digests(owner, one)), write(efisig.Digests(other, one)), efisig.Append,
			write(efisig.Digests(owner, one), efisig.Digests(other, one)),
		},
	} {
		u := &efisig.Update{Payload: test.payload}
		if got, err := u.Apply(test.current, test.attributes); err != nil || !bytes.Equal(got, test.want) {
			t.Errorf("%s: Apply() = %x, %v, want %x", test.name, got, err, test.want)
		}
	}
	for _, test := range []struct {
		name             string
		current, payload []byte
		attributes       uint32
	}{
		{"neither", nil, nil, 7}, {"malformed", []byte{1}, nil, efisig.Append}, {"malformed update", nil, []byte{1}, efisig.Append},
	} {
		if _, err := (&efisig.Update{Payload: test.payload}).Apply(test.current, test.attributes); err == nil {
			t.Errorf("%s: Apply() = nil error", test.name)
		}
	}
	got, err := efisig.X509(append(certs, efisig.Digests(owner, one)))
	if err != nil || len(got) != 2 || !got[1].Equal(b.Cert) {
		t.Errorf("X509() = %v, %v, want two certificates", got, err)
	}
}

func TestLost(t *testing.T) {
	one, two := [32]byte{1}, [32]byte{2}
	for _, test := range []struct {
		old, now []efisig.List
		want     bool
	}{
		{nil, nil, false},
		{nil, []efisig.List{efisig.Digests(owner, one)}, false},
		{[]efisig.List{efisig.Digests(owner, one)}, []efisig.List{efisig.Digests(efisig.GUID{9}, two, one)}, false},
		{[]efisig.List{efisig.Digests(owner, one)}, nil, true},
		{[]efisig.List{efisig.Digests(owner, one, two)}, []efisig.List{efisig.Digests(owner, two)}, true},
		{[]efisig.List{efisig.Digests(owner, one)}, []efisig.List{{Type: efisig.CertX509, Signatures: []efisig.Signature{{Owner: owner, Data: one[:]}}}}, true},
	} {
		if got := efisig.Lost(test.old, test.now); got != test.want {
			t.Errorf("Lost(%v, %v) = %t, want %t", test.old, test.now, got, test.want)
		}
	}
}

func TestAttributes(t *testing.T) {
	kek, other := pkcs7test.New(t, "kek", nil), pkcs7test.New(t, "other", nil)
	for _, attributes := range []uint32{efisig.Append, efisig.Replace} {
		u, err := efisig.Sign(kek.Key, kek.Cert, efisig.DBX, attributes, at, []efisig.List{efisig.Digests(owner, [32]byte{1})})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := u.Attributes(efisig.DBX, []*x509.Certificate{other.Cert, kek.Cert}); err != nil || got != attributes {
			t.Errorf("Attributes() = %#x, %v, want %#x", got, err, attributes)
		}
		if got, err := u.Attributes(efisig.DB, []*x509.Certificate{kek.Cert}); err == nil {
			t.Errorf("Attributes() for another variable = %#x, want an error", got)
		}
		if got, err := u.Attributes(efisig.DBX, []*x509.Certificate{other.Cert}); err == nil || !strings.Contains(err.Error(), `"kek" has signed it, a key (certificate `) {
			t.Errorf("Attributes() for another signer = %#x, %v", got, err)
		}
		if got, err := u.Attributes(efisig.DBX, nil); err == nil {
			t.Errorf("Attributes() for no signer = %#x, want an error", got)
		}
	}
}
