package ssh

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"cloison/format/config"
)

// Extensions of a connection's permissions. Package ssh hands out those of the key
// that has signed: nothing else says who is there.
const (
	roleExtension     = "role@cloison"
	nameExtension     = "name@cloison"
	terminalExtension = "terminal@cloison"
)

// sourceAddress is the one critical option that a certificate may have
// (PROTOCOL.certkeys of OpenSSH).
const sourceAddress = "source-address"

// permitTerminal is the one extension of a certificate that means something here.
const permitTerminal = "permit-pty"

// algorithms of keys and of signatures: those of package config's keys.
var algorithms = []string{
	ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoSKECDSA256,
}

// nameForm is what a person can be called: as in package config.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$`)

// errNobody is all that a client is told.
var errNobody = errors.New("nobody with this key may come in as that role from there")

// identify tells who comes with a key as a role, from where, at a time; it decides
// nothing about whether he has the key. The error is for the log.
func identify(access config.Access, role string, from netip.Addr, now time.Time, key ssh.PublicKey) (*ssh.Permissions, error) {
	cert, ok := key.(*ssh.Certificate)
	if ok {
		return byCertificate(access, role, from, now, cert)
	}
	if !slices.Contains(algorithms, key.Type()) {
		return nil, fmt.Errorf("keys of the type %s are not taken", key.Type())
	}
	if slices.Contains(access.Revoked, ssh.FingerprintSHA256(key)) {
		return nil, fmt.Errorf("the key %s is revoked", ssh.FingerprintSHA256(key))
	}
	for _, k := range access.Keys {
		if k.Role != role || !same(k.Key, key) {
			continue
		}
		if len(k.Sources) > 0 && !within(k.Sources, from) {
			return nil, fmt.Errorf("%s may not come from %v", k.Name, from)
		}
		return permissions(role, k.Name, true), nil
	}
	return nil, fmt.Errorf("the key %s does not open the role %q", ssh.FingerprintSHA256(key), role)
}

func permissions(role, name string, terminal bool) *ssh.Permissions {
	p := &ssh.Permissions{Extensions: map[string]string{roleExtension: role, nameExtension: name}}
	if terminal {
		p.Extensions[terminalExtension] = "yes"
	}
	return p
}

// same compares a key of a document (type and base64) with one that is offered.
func same(document string, key ssh.PublicKey) bool {
	kind, encoded, _ := strings.Cut(document, " ")
	b, err := base64.StdEncoding.Strict().DecodeString(encoded)
	return err == nil && kind == key.Type() && bytes.Equal(b, key.Marshal())
}

// within reports whether an address is in one of some prefixes.
func within(prefixes []string, from netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(s string) bool {
		p, err := netip.ParsePrefix(s)
		return err == nil && p.Masked().Contains(from)
	})
}

// byCertificate checks a certificate as PROTOCOL.certkeys of OpenSSH wants, and
// more strictly: it names its principals, and no option that is not understood.
func byCertificate(access config.Access, role string, from netip.Addr, now time.Time, cert *ssh.Certificate) (*ssh.Permissions, error) {
	at := slices.IndexFunc(access.Authorities, func(a config.Authority) bool { return same(a.Key, cert.SignatureKey) })
	if at < 0 {
		return nil, fmt.Errorf("the certificate is of the authority %s, which is unknown", ssh.FingerprintSHA256(cert.SignatureKey))
	}
	authority := access.Authorities[at]
	who := fmt.Sprintf("the certificate %d of %s", cert.Serial, authority.Name)
	switch {
	case cert.CertType != ssh.UserCert:
		return nil, fmt.Errorf("%s is none of a user", who)
	case !slices.Contains(algorithms, cert.Key.Type()) || !slices.Contains(algorithms, cert.SignatureKey.Type()):
		return nil, fmt.Errorf("%s is for a key of the type %s, signed by one of the type %s", who, cert.Key.Type(), cert.SignatureKey.Type())
	case slices.Contains(access.Revoked, ssh.FingerprintSHA256(cert.Key)), slices.Contains(access.Revoked, ssh.FingerprintSHA256(cert.SignatureKey)),
		slices.Contains(access.Serials, authority.Name+":"+strconv.FormatUint(cert.Serial, 10)):
		return nil, fmt.Errorf("%s is revoked", who)
	case !slices.Contains(authority.Roles, role):
		return nil, fmt.Errorf("%s cannot open the role %q", who, role)
	case !slices.Contains(cert.ValidPrincipals, role):
		return nil, fmt.Errorf("%s is for %q, not for %q", who, cert.ValidPrincipals, role)
	case !nameForm.MatchString(cert.KeyId):
		return nil, fmt.Errorf("%s is of %.40q, which is no name", who, cert.KeyId)
	case len(authority.Principals) > 0 && !slices.Contains(authority.Principals, cert.KeyId):
		return nil, fmt.Errorf("%s is of %s, whom the authority may not name", who, cert.KeyId)
	}
	// Validity and the signature; of the options only the one that is looked at below.
	checker := ssh.CertChecker{SupportedCriticalOptions: []string{sourceAddress}, Clock: func() time.Time { return now }}
	if err := checker.CheckCert(role, cert); err != nil {
		return nil, fmt.Errorf("%s: %w", who, err)
	}
	if sources, ok := cert.CriticalOptions[sourceAddress]; ok && !within(asPrefixes(sources), from) {
		return nil, fmt.Errorf("%s may not be used from %v", who, from)
	}
	_, terminal := cert.Extensions[permitTerminal]
	return permissions(role, cert.KeyId, terminal), nil
}

// asPrefixes reads a list of addresses and prefixes. What is neither lets nobody
// in.
func asPrefixes(list string) []string {
	var all []string
	for one := range strings.SplitSeq(list, ",") {
		if a, err := netip.ParseAddr(one); err == nil {
			one = netip.PrefixFrom(a, a.BitLen()).String()
		}
		all = append(all, one)
	}
	return all
}
