package ssh

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"cloison/format/config"
)

// signer makes a key.
func signer(t testing.TB) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// written is a key as a document has it.
func written(k ssh.PublicKey) string {
	return k.Type() + " " + base64.StdEncoding.EncodeToString(k.Marshal())
}

var (
	now  = time.Unix(1_800_000_000, 0)
	here = netip.MustParseAddr("192.0.2.7")
)

// certified makes a certificate of an authority that opens the role admin, and
// changes it before it is signed.
func certified(t testing.TB, authority, key ssh.Signer, change func(*ssh.Certificate)) *ssh.Certificate {
	t.Helper()
	c := &ssh.Certificate{
		Key: key.PublicKey(), Serial: 7, CertType: ssh.UserCert, KeyId: "alice", ValidPrincipals: []string{"admin"},
		ValidAfter: uint64(now.Unix() - 60), ValidBefore: uint64(now.Unix() + 60),
		Permissions: ssh.Permissions{CriticalOptions: map[string]string{}, Extensions: map[string]string{"permit-pty": ""}},
	}
	if change != nil {
		change(c)
	}
	if err := c.SignCert(rand.Reader, authority); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestKeys(t *testing.T) {
	alice, bob, stranger := signer(t).PublicKey(), signer(t).PublicKey(), signer(t).PublicKey()
	access := config.Access{Keys: []config.Key{
		{Name: "alice", Role: "admin", Key: written(alice)},
		{Name: "bob", Role: "audit", Key: written(bob), Sources: []string{"192.0.2.0/28", "2001:db8::/32"}},
	}}
	for _, test := range []struct {
		role   string
		from   string
		key    ssh.PublicKey
		change func(*config.Access)
		want   string // a name, or what is wrong
	}{
		{"admin", "192.0.2.7", alice, nil, "alice"},
		{"audit", "192.0.2.7", bob, nil, "bob"},
		{"audit", "2001:db8::1", bob, nil, "bob"},
		{"audit", "192.0.2.16", bob, nil, "bob may not come from 192.0.2.16"},
		{"audit", "192.0.2.7", alice, nil, `does not open the role "audit"`},
		{"admin", "192.0.2.7", bob, nil, `does not open the role "admin"`},
		{"root", "192.0.2.7", alice, nil, `does not open the role "root"`},
		{"", "192.0.2.7", alice, nil, `does not open the role ""`},
		{"admin", "192.0.2.7", stranger, nil, `does not open the role "admin"`},
		{"admin", "192.0.2.7", alice, func(a *config.Access) { a.Revoked = []string{ssh.FingerprintSHA256(alice)} }, "is revoked"},
		{"admin", "192.0.2.7", alice, func(a *config.Access) { a.Keys = nil }, `does not open the role "admin"`},
	} {
		a := access
		if test.change != nil {
			test.change(&a)
		}
		p, err := identify(a, test.role, netip.MustParseAddr(test.from), now, test.key)
		if err != nil {
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s from %s: %v, want %s", test.role, test.from, err, test.want)
			}
			continue
		}
		if p.Extensions[nameExtension] != test.want || p.Extensions[roleExtension] != test.role {
			t.Errorf("%s from %s is %v, want %s", test.role, test.from, p.Extensions, test.want)
		}
	}
}

func TestCertificates(t *testing.T) {
	authority, other, key := signer(t), signer(t), signer(t)
	access := config.Access{Authorities: []config.Authority{{Name: "corp", Key: written(authority.PublicKey()), Roles: []string{"admin", "audit"}}}}
	p, err := identify(access, "admin", here, now, certified(t, authority, key, nil))
	if err != nil || p.Extensions[nameExtension] != "alice" || p.Extensions[roleExtension] != "admin" || p.Extensions[terminalExtension] == "" {
		t.Fatalf("a good certificate is %v, %v", p, err)
	}
	if p, err = identify(access, "admin", here, now, certified(t, authority, key, func(c *ssh.Certificate) { c.Extensions = nil })); err != nil || p.Extensions[terminalExtension] != "" {
		t.Errorf("a certificate without permit-pty is %v, %v", p, err)
	}
	if p, err = identify(access, "admin", here, now, certified(t, authority, key, func(c *ssh.Certificate) {
		c.CriticalOptions["source-address"] = "198.51.100.1,192.0.2.0/29"
	})); err != nil {
		t.Errorf("a certificate for here is %v, %v", p, err)
	}
	type changed struct {
		cert   func(*ssh.Certificate)
		access func(*config.Access)
		by     ssh.Signer
		role   string
	}
	for want, c := range map[string]changed{
		"which is unknown":          {by: other},
		"none of a user":            {cert: func(c *ssh.Certificate) { c.CertType = ssh.HostCert }},
		"expired":                   {cert: func(c *ssh.Certificate) { c.ValidBefore = uint64(now.Unix()) }},
		"not yet valid":             {cert: func(c *ssh.Certificate) { c.ValidAfter = uint64(now.Unix() + 1) }},
		`is for ["audit"]`:          {cert: func(c *ssh.Certificate) { c.ValidPrincipals = []string{"audit"} }},
		"is for []":                 {cert: func(c *ssh.Certificate) { c.ValidPrincipals = nil }},
		`cannot open the role "upd`: {cert: func(c *ssh.Certificate) { c.ValidPrincipals = []string{"update"} }, role: "update"},
		"which is no name":          {cert: func(c *ssh.Certificate) { c.KeyId = "alice root" }},
		"is of \"\"":                {cert: func(c *ssh.Certificate) { c.KeyId = "" }},
		"force-command":             {cert: func(c *ssh.Certificate) { c.CriticalOptions["force-command"] = "x" }},
		"may not be used from":      {cert: func(c *ssh.Certificate) { c.CriticalOptions["source-address"] = "192.0.2.8,192.0.2.16/28" }},
		"used from 192.0.2.7":       {cert: func(c *ssh.Certificate) { c.CriticalOptions["source-address"] = "everywhere" }},
		"not be used from 192":      {cert: func(c *ssh.Certificate) { c.CriticalOptions["source-address"] = "" }},
		"7 of corp is revoked":      {access: func(a *config.Access) { a.Serials = []string{"corp:7"} }},
		"of corp is revoked":        {access: func(a *config.Access) { a.Revoked = []string{ssh.FingerprintSHA256(key.PublicKey())} }},
		"corp is revoked":           {access: func(a *config.Access) { a.Revoked = []string{ssh.FingerprintSHA256(authority.PublicKey())} }},
		"whom the authority may":    {access: func(a *config.Access) { a.Authorities[0].Principals = []string{"bob"} }},
	} {
		by, role, a := authority, "admin", access
		a.Authorities = []config.Authority{access.Authorities[0]}
		if c.by != nil {
			by = c.by
		}
		if c.role != "" {
			role = c.role
		}
		if c.access != nil {
			c.access(&a)
		}
		p, err := identify(a, role, here, now, certified(t, by, key, c.cert))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("identify = %v, %v, want %s", p, err, want)
		}
	}
	// One that somebody has changed after it was signed.
	forged := certified(t, authority, key, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"audit"} })
	forged.ValidPrincipals = []string{"admin"}
	if p, err := identify(access, "admin", here, now, forged); err == nil {
		t.Errorf("a forged certificate is %v", p)
	}
}

// FuzzIdentify: whatever key or certificate a client offers, nobody comes in whom
// the document does not name.
func FuzzIdentify(f *testing.F) {
	authority, key := signer(f), signer(f)
	f.Add("admin", key.PublicKey().Marshal())
	f.Add("admin", certified(f, authority, key, nil).Marshal())
	f.Add("admin", certified(f, authority, key, func(c *ssh.Certificate) { c.CriticalOptions["source-address"] = "192.0.2.8,::/0" }).Marshal())
	// The fuzzer has neither of the two keys that open something.
	access := config.Access{
		Keys:        []config.Key{{Name: "alice", Role: "admin", Key: written(signer(f).PublicKey())}},
		Authorities: []config.Authority{{Name: "corp", Key: written(signer(f).PublicKey()), Roles: []string{"admin"}}},
	}
	f.Fuzz(func(t *testing.T, role string, blob []byte) {
		offered, err := ssh.ParsePublicKey(blob)
		if err != nil {
			return
		}
		if p, err := identify(access, role, here, now, offered); err == nil {
			t.Errorf("%x comes in as %v", blob, p)
		}
	})
}
