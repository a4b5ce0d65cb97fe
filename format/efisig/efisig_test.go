package efisig_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"cloison/format/efisig"
	"cloison/format/pkcs7/pkcs7test"
)

var (
	owner = efisig.GUID{0x78, 0x56, 0x34, 0x12, 0xcd, 0xab, 0x01, 0xef, 1, 2, 3, 4, 5, 6, 7, 8}
	at    = time.Date(2026, 11, 23, 12, 34, 56, 789, time.FixedZone("", 3600))
)

func TestGUID(t *testing.T) {
	const text = "12345678-abcd-ef01-0102-030405060708"
	if got := owner.String(); got != text {
		t.Errorf("String() = %s, want %s", got, text)
	}
	if got, err := efisig.ParseGUID(text); err != nil || got != owner {
		t.Errorf("ParseGUID(%s) = %x, %v, want %x", text, got, err, owner)
	}
	for _, bad := range []string{"", "12345678", strings.ToUpper(text), text + "0", strings.Replace(text, "-", "_", 1), strings.Replace(text, "1", "x", 1), strings.Replace(text, "12", "1-", 1)} {
		if _, err := efisig.ParseGUID(bad); err == nil {
			t.Errorf("ParseGUID(%q) = nil, want an error", bad)
		}
	}
}

func TestMarshal(t *testing.T) {
	a, b := pkcs7test.New(t, "a", nil), pkcs7test.New(t, "another", nil)
	lists := append(efisig.Certificates(owner, a.Cert, b.Cert), efisig.Digests(owner, [32]byte{1}, [32]byte{2}))
	data, err := efisig.Marshal(lists)
	if err != nil {
		t.Fatal(err)
	}
	if want := 2*(28+16) + len(a.Cert.Raw) + len(b.Cert.Raw) + 28 + 2*48; len(data) != want {
		t.Errorf("Marshal() has %d bytes, want %d", len(data), want)
	}
	if got, err := efisig.Parse(data); err != nil || !reflect.DeepEqual(got, lists) {
		t.Errorf("Parse(Marshal()) = %v, %v, want %v", got, err, lists)
	}
	for _, bad := range [][]efisig.List{
		{{Type: efisig.CertSHA256}},
		{{Type: efisig.CertSHA256, Signatures: []efisig.Signature{{Owner: owner}}}},
		{{Type: efisig.CertSHA256, Signatures: []efisig.Signature{{owner, make([]byte, 32)}, {owner, make([]byte, 31)}}}},
	} {
		if _, err := efisig.Marshal(bad); err == nil {
			t.Errorf("Marshal(%v) = nil, want an error", bad)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	good, err := efisig.Marshal([]efisig.List{efisig.Digests(owner, [32]byte{1}, [32]byte{2})})
	if err != nil {
		t.Fatal(err)
	}
	set := func(at int, v byte) []byte {
		b := bytes.Clone(good)
		b[at] = v
		return b
	}
	certificate := bytes.Clone(good)
	copy(certificate, efisig.CertX509[:])
	for _, test := range []struct {
		name string
		b    []byte
		want string
	}{
		{"cut header", good[:27], "its header has 28"},
		{"cut", good[:len(good)-1], "do not fit"},
		{"tail", append(good[:len(good):len(good)], 0), "its header has 28"},
		{"list too long", set(16, 0xff), "do not fit"},
		{"list of nothing", set(16, 28), "do not fit"},
		{"vendor header", set(20, 1), "do not fit"},
		{"no signature size", set(24, 0), "do not fit"},
		{"owner only", set(24, 16), "do not fit"},
		{"short digest", set(24, 32), "digest of 16 bytes"},
		{"no certificate", certificate, "x509"},
	} {
		if _, err := efisig.Parse(test.b); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Parse() = %v, want an error with %q", test.name, err, test.want)
		}
	}
}

func TestSign(t *testing.T) {
	id, other := pkcs7test.New(t, "kek", nil), pkcs7test.New(t, "other", nil)
	lists := []efisig.List{efisig.Digests(owner, [32]byte{1})}
	sign := func(v efisig.Variable, attributes uint32) *efisig.Update {
		u, err := efisig.Sign(id.Key, id.Cert, v, attributes, at, lists)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	u := sign(efisig.DBX, efisig.Append)
	b := u.Marshal()
	if !bytes.Equal(b, sign(efisig.DBX, efisig.Append).Marshal()) {
		t.Error("Sign() differs from one call to the next")
	}
	if want := []byte{0xea, 0x07, 11, 23, 11, 34, 56, 0, 0, 0, 0, 0, 0, 0, 0, 0}; !bytes.Equal(b[:16], want) {
		t.Errorf("EFI_TIME = %x, want %x (UTC)", b[:16], want)
	}
	got, err := efisig.ParseUpdate(b)
	if err != nil || !reflect.DeepEqual(got, u) {
		t.Errorf("ParseUpdate(Marshal()) = %v, %v, want %v", got, err, u)
	}
	later := *u
	later.Time = later.Time.Add(time.Second)
	for _, test := range []struct {
		name       string
		update     *efisig.Update
		variable   efisig.Variable
		attributes uint32
		by         *pkcs7test.Identity
		ok         bool
	}{
		{"right", u, efisig.DBX, efisig.Append, id, true},
		{"other variable", u, efisig.DB, efisig.Append, id, false},
		{"other vendor", u, efisig.Variable{Name: "dbx", Vendor: efisig.GlobalVariable}, efisig.Append, id, false},
		{"other attributes", u, efisig.DBX, efisig.Replace, id, false},
		{"other signer", u, efisig.DBX, efisig.Append, other, false},
		{"other time", &later, efisig.DBX, efisig.Append, id, false},
		{"other content", &efisig.Update{Time: u.Time, Signature: u.Signature}, efisig.DBX, efisig.Append, id, false},
		{"no signature", &efisig.Update{Time: u.Time, Payload: u.Payload}, efisig.DBX, efisig.Append, id, false},
	} {
		if err := test.update.Verify(test.variable, test.attributes, test.by.Cert); (err == nil) != test.ok {
			t.Errorf("%s: Verify() = %v, want success: %v", test.name, err, test.ok)
		}
	}
	if _, err := efisig.Sign(id.Key, id.Cert, efisig.DB, 7, at, lists); err == nil {
		t.Error("Sign(attributes 7) = nil, want an error")
	}
	if _, err := efisig.Sign(id.Key, id.Cert, efisig.DB, efisig.Replace, time.Time{}, lists); err == nil {
		t.Error("Sign(year 1) = nil, want an error")
	}
	if _, err := efisig.Sign(id.Key, id.Cert, efisig.DB, efisig.Replace, at, []efisig.List{{}}); err == nil {
		t.Error("Sign(empty list) = nil, want an error")
	}
	if _, err := efisig.Sign(id.Key, other.Cert, efisig.DB, efisig.Replace, at, lists); err == nil {
		t.Error("Sign(key of another) = nil, want an error")
	}
}

func TestParseUpdateRefuses(t *testing.T) {
	id := pkcs7test.New(t, "kek", nil)
	u, err := efisig.Sign(id.Key, id.Cert, efisig.DB, efisig.Replace, at, nil)
	if err != nil {
		t.Fatal(err)
	}
	good := u.Marshal()
	if _, err := efisig.ParseUpdate(good); err != nil {
		t.Errorf("ParseUpdate(empty content) = %v, want none: it deletes the variable", err)
	}
	set := func(at int, v byte) []byte {
		b := bytes.Clone(good)
		b[at] = v
		return b
	}
	for _, test := range []struct {
		name string
		b    []byte
		want string
	}{
		{"cut", good[:39], "its header has 40"},
		{"month 13", set(2, 13), "not a time"},
		{"time zone", set(12, 1), "not a time"},
		{"revision", set(20, 1), "not signed with PKCS#7"},
		{"type", set(22, 0xf0), "not signed with PKCS#7"},
		{"certificate type", set(24, 0), "not signed with PKCS#7"},
		{"length too small", append(set(16, 23)[:17], good[17:]...), "signature"},
		{"length too large", set(18, 1), "does not fit"},
		{"signature cut", good[:len(good)-1], "does not fit"},
		{"signature garbage", set(40, 0xff), "not one DER element"},
		{"content garbage", append(good[:len(good):len(good)], 1, 2, 3), "cannot parse signature list"},
	} {
		if _, err := efisig.ParseUpdate(test.b); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: ParseUpdate() = %v, want an error with %q", test.name, err, test.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	id := pkcs7test.Fixed(f)
	b, err := efisig.Marshal(append(efisig.Certificates(owner, id.Cert), efisig.Digests(owner, [32]byte{1}, [32]byte{2})))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		lists, err := efisig.Parse(b)
		if err != nil {
			return
		}
		if again, err := efisig.Marshal(lists); err != nil || !bytes.Equal(again, b) {
			t.Errorf("Marshal(Parse(%x)) = %x, %v", b, again, err)
		}
	})
}

func FuzzParseUpdate(f *testing.F) {
	id := pkcs7test.Fixed(f)
	u, err := efisig.Sign(id.Key, id.Cert, efisig.DBX, efisig.Append, at, []efisig.List{efisig.Digests(owner, [32]byte{1})})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(u.Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		u, err := efisig.ParseUpdate(b)
		if err != nil {
			return
		}
		if again := u.Marshal(); !bytes.Equal(again, b) {
			t.Errorf("Marshal(ParseUpdate(%x)) = %x", b, again)
		}
	})
}

func FuzzParseGUID(f *testing.F) {
	f.Add(owner.String())
	f.Fuzz(func(t *testing.T, text string) {
		if g, err := efisig.ParseGUID(text); err == nil && g.String() != text {
			t.Errorf("String(ParseGUID(%q)) = %q", text, g)
		}
	})
}
