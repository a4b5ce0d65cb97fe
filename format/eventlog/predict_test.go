package eventlog

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"cloison/format/efisig"
	"cloison/format/pkcs7/pkcs7test"
)

func values(t testing.TB, l Log) map[uint32][32]byte {
	got := map[uint32][32]byte{}
	for _, index := range PCRs {
		var err error
		if got[index], err = l.Replay(index); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

func started(t testing.TB) Boot {
	l := parsed(t)
	b, err := l.Boot(values(t, l))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func marshal(t testing.TB, lists ...efisig.List) []byte {
	b, err := efisig.Marshal(lists)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var owner = efisig.GUID{1}

func TestPredict(t *testing.T) {
	b := started(t)
	if len(b.Started) != 2 || len(b.Authorities) != 1 || len(b.Contents["dbx"]) != 0 {
		t.Fatalf("the log says %d started, %d authorities, dbx of %d bytes, want 2, 1, 0", len(b.Started), len(b.Authorities), len(b.Contents["dbx"]))
	}
	if got, err := b.Predict(nil); err != nil || hex.EncodeToString(got[:]) != realPCRs[7] {
		t.Errorf("Predict(nothing) = %x, %v, want %s", got, err, realPCRs[7])
	}
	other := pkcs7test.New(t, "other", nil)
	dbx := marshal(t, efisig.Digests(owner, [32]byte{1, 2, 3}))
	for name, changed := range map[string]map[string][]byte{
		"dbx":           {"dbx": dbx},
		"db":            {"db": append(bytes.Clone(b.Contents["db"]), marshal(t, efisig.Certificates(owner, other.Cert)...)...)},
		"db, new first": {"db": append(marshal(t, efisig.Certificates(owner, other.Cert)...), b.Contents["db"]...)},
		"other owner":   {"db": marshal(t, efisig.List{Type: efisig.CertX509, Signatures: []efisig.Signature{{Owner: owner, Data: b.Authorities[0].Data}}})},
		"KEK":           {"KEK": marshal(t, efisig.Certificates(owner, other.Cert)...)},
		"PK":            {"PK": marshal(t, efisig.Certificates(owner, other.Cert)...)},
	} {
		want := measure(t, b, changed)
		if got, err := b.Predict(changed); err != nil || got != want || hex.EncodeToString(got[:]) == realPCRs[7] {
			t.Errorf("%s: Predict() = %x, %v, want %x", name, got, err, want)
		}
	}
}

// measure does by hand what the firmware does (TCG PC Client Platform Firmware
// Profile 1.06, section 3.3.4.8), in the order of the log that was recorded.
func measure(t testing.TB, b Boot, changed map[string][]byte) (pcr [32]byte) {
	event := func(digest [32]byte) { pcr = sha256.Sum256(append(pcr[:], digest[:]...)) }
	variable := func(vendor efisig.GUID, name string, content []byte) {
		event(sha256.Sum256(Variable{vendor, name, content}.Print()))
	}
	content := func(name string) []byte {
		if c, ok := changed[name]; ok {
			return c
		}
		return b.Contents[name]
	}
	variable(efisig.GlobalVariable, "SecureBoot", []byte{1})
	variable(efisig.GlobalVariable, "PK", content("PK"))
	variable(efisig.GlobalVariable, "KEK", content("KEK"))
	variable(efisig.ImageSecurity, "db", content("db"))
	variable(efisig.ImageSecurity, "dbx", content("dbx"))
	event(sha256.Sum256(make([]byte, 4)))
	lists, err := efisig.Parse(content("db"))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lists {
		if s := l.Signatures[0]; bytes.Equal(s.Data, b.Authorities[0].Data) {
			variable(efisig.ImageSecurity, "db", append(s.Owner[:], s.Data...))
		}
	}
	return pcr
}

func TestPredictRefuses(t *testing.T) {
	b := started(t)
	db := b.Contents["db"]
	ours, err := x509.ParseCertificate(b.Authorities[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	// Another certificate with our key: firmware may take it for ours.
	twin := pkcs7test.New(t, "signer", nil)
	again := pkcs7test.Certify(t, "its other name", twin.Key, nil)
	mine := started(t)
	mine.Authorities = []efisig.Signature{{Owner: owner, Data: twin.Cert.Raw}}
	ca := pkcs7test.New(t, "ca", nil)
	issued := started(t)
	issued.Authorities = []efisig.Signature{{Owner: owner, Data: pkcs7test.New(t, "issued", ca).Cert.Raw}}
	tbs := sha256.Sum256(ours.RawTBSCertificate)
	byDigest := efisig.List{Type: efisig.CertX509SHA256, Signatures: []efisig.Signature{{Owner: owner, Data: append(tbs[:], make([]byte, 16)...)}}}
	stranger := efisig.Certificates(owner, pkcs7test.New(t, "stranger", nil).Cert)
	for _, test := range []struct {
		name    string
		boot    Boot
		changed map[string][]byte
		want    string
	}{
		{"unknown variable", b, map[string][]byte{"dbt": nil}, "no variable of Secure Boot"},
		{"malformed db", b, map[string][]byte{"db": {1}}, "db: cannot parse"},
		{"malformed dbx", b, map[string][]byte{"dbx": {1}}, "dbx: cannot parse"},
		{"no db", b, map[string][]byte{"db": nil}, "no longer have"},
		{"another db", b, map[string][]byte{"db": marshal(t, stranger...)}, "no longer have"},
		{"what is started, in db", b, map[string][]byte{"db": append(bytes.Clone(db), marshal(t, efisig.Digests(owner, b.Started[0]))...)}, "either the digest or the certificate"},
		{"unknown list in db", b, map[string][]byte{"db": append(bytes.Clone(db), marshal(t, efisig.List{Type: owner, Signatures: []efisig.Signature{{Owner: owner, Data: []byte{1}}}})...)}, "not known"},
		{"loader in dbx", b, map[string][]byte{"dbx": marshal(t, efisig.Digests(owner, [32]byte{}, b.Started[0]))}, "forbid what this machine starts"},
		{"UKI in dbx", b, map[string][]byte{"dbx": marshal(t, efisig.Digests(owner, b.Started[1]))}, "forbid what this machine starts"},
		{"signer in dbx", b, map[string][]byte{"dbx": marshal(t, efisig.Certificates(owner, ours)...)}, "forbid the certificate"},
		{"signer's digest in dbx", b, map[string][]byte{"dbx": marshal(t, byDigest)}, "forbid the certificate"},
		{"unknown list in dbx", b, map[string][]byte{"dbx": marshal(t, efisig.List{Type: owner, Signatures: []efisig.Signature{{Owner: owner, Data: []byte{1}}}})}, "not known"},
		{"signer's key in dbx", mine, map[string][]byte{"dbx": marshal(t, efisig.Certificates(owner, again)...)}, "forbid the certificate"},
		{"signer's issuer in dbx", issued, map[string][]byte{"dbx": marshal(t, efisig.Certificates(owner, ca.Cert)...)}, "forbid the certificate"},
		{"signer's key before it in db", mine, map[string][]byte{"db": marshal(t, efisig.Certificates(owner, again, twin.Cert)...)}, "which one the firmware will measure"},
	} {
		if got, err := test.boot.Predict(test.changed); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Predict() = %x, %v, want an error with %q", test.name, got, err, test.want)
		}
	}
	digest := started(t)
	digest.Authorities[0].Data = make([]byte, 32)
	if _, err := digest.Predict(nil); err == nil {
		t.Error("Predict() where a digest let something start = nil error")
	}
}

func TestBootRefuses(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Log)
		want   string
	}{
		{"two times db", func(l *Log) { l.Events = append(l.Events, l.Events[6]) }, "measured twice"},
		{"no dbx", func(l *Log) { l.Events = append(l.Events[:7], l.Events[8:]...) }, "it has no dbx"},
		{"no authority", func(l *Log) { l.Events = append(l.Events[:24], l.Events[25:]...) }, "nobody let anything start"},
		{"data of another digest", func(l *Log) { l.Events[6].Data = l.Events[5].Data }, "not that of its data"},
		{"unknown authority", func(l *Log) {
			data := Variable{efisig.GUID{9}, "MokList", []byte("x")}.Print()
			sum := sha256.Sum256(data)
			l.Events[24].Data, l.Events[24].Digests[1] = data, sum[:]
		}, "allowed by MokList"},
	} {
		l := parsed(t)
		test.change(&l)
		if _, err := l.Boot(values(t, l)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Boot() = %v, want an error with %q", test.name, err, test.want)
		}
	}
	l := parsed(t)
	for _, index := range PCRs {
		other := values(t, l)
		other[index] = [32]byte{1}
		if _, err := l.Boot(other); !errors.Is(err, ErrReplay) {
			t.Errorf("Boot with another PCR %d = %v, want %v", index, err, ErrReplay)
		}
		delete(other, index)
		if _, err := l.Boot(other); !errors.Is(err, ErrReplay) {
			t.Errorf("Boot without PCR %d = %v, want %v", index, err, ErrReplay)
		}
	}
}
