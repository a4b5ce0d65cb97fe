package config

import (
	"encoding/base64"
	"encoding/binary"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// form is what a text has to look like: a pattern, which the schema has too, and
// what a pattern cannot say.
type form struct {
	about   string
	pattern *regexp.Regexp
	check   func(string) bool
}

// Patterns are of the part that Go's and ECMA's regular expressions share.
const (
	label    = `[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?`
	lastName = `[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?`
	host     = `(?:` + label + `\.)*` + lastName // RFC 1123, section 2.1; the last label begins with a letter
	octet    = `(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])`
	ipv4     = octet + `(?:\.` + octet + `){3}`
	ipv6     = `[0-9a-f:]{2,39}`
)

var forms = map[string]form{
	"hostname":    {"a host name of RFC 1123: labels of lower-case letters, digits and inner hyphens, at most 63 bytes", regexp.MustCompile(`^` + host + `$`), func(s string) bool { return len(s) <= 63 }},
	"name":        {"a name: letters, digits and . _ - @ after a first letter or digit, at most 63", regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$`), nil},
	"interface":   {"the name of an interface: letters, digits, _ . and -, at most 15", regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,14}$`), nil},
	"line":        {"one line of at most 200 printable ASCII characters", regexp.MustCompile(`^[ -~]{1,200}$`), nil},
	"server":      {"an address or a host name, with a port or without (an IPv6 address with a port in brackets)", regexp.MustCompile(`^(?:(?:` + host + `|` + ipv4 + `)(?::[1-9][0-9]{0,4})?|` + ipv6 + `|\[` + ipv6 + `\]:[1-9][0-9]{0,4})$`), isServer},
	"address":     {"an IPv4 or IPv6 address, in lower case", regexp.MustCompile(`^(?:` + ipv4 + `|` + ipv6 + `)$`), isAddress},
	"prefix":      {"an address with the length of its prefix, like 192.0.2.1/24", regexp.MustCompile(`^(?:` + ipv4 + `|` + ipv6 + `)/(?:0|[1-9][0-9]{0,2})$`), isPrefix},
	"duration":    {"a duration: a number of s, m, h or d, from 1s to 3650d", regexp.MustCompile(`^[1-9][0-9]{0,7}[smhd]$`), func(s string) bool { return Duration(s) > 0 && Duration(s) <= 3650*day }},
	"size":        {"a size: a number of KiB, MiB or GiB, from 1 MiB to 1024 GiB", regexp.MustCompile(`^[1-9][0-9]{0,6} (?:KiB|MiB|GiB)$`), func(s string) bool { return Size(s) >= 1<<20 && Size(s) <= 1<<40 }},
	"sshkey":      {"a public key of SSH: type and base64, of the types ssh-ed25519, ecdsa-sha2-nistp256, ecdsa-sha2-nistp384 and their sk- forms", regexp.MustCompile(`^(?:` + strings.Join(keyTypes, "|") + `) [A-Za-z0-9+/]{32,512}={0,2}$`), isKey},
	"fingerprint": {"the fingerprint of a key as ssh-keygen prints it: SHA256: and 43 characters", regexp.MustCompile(`^SHA256:[A-Za-z0-9+/]{43}$`), nil},
	"serial":      {"AUTHORITY:SERIAL, the name of an authority and a number", regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}:(?:0|[1-9][0-9]{0,19})$`), nil},
	"argon2id":    {"a hash $argon2id$v=19$m=…,t=…,p=…$SALT$HASH", regexp.MustCompile(`^\$argon2id\$v=19\$m=(?:[1-9][0-9]{3,5}),t=[1-9][0-9]?,p=[1-4]\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`), nil},
	"pem":         {"certificates in PEM, at most 16 KiB", regexp.MustCompile(`^-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n -]+-----END CERTIFICATE-----\n$`), func(s string) bool { return len(s) <= 16<<10 }},
}

// keyTypes are the types of SSH keys that may open a role: no RSA, no DSA.
var keyTypes = []string{"ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "sk-ssh-ed25519@openssh\\.com", "sk-ecdsa-sha2-nistp256@openssh\\.com"}

const day = 24 * time.Hour

// Duration returns what a duration of a document means; 0 where none is set.
func Duration(s string) time.Duration {
	if s == "" {
		return 0
	}
	unit := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': day}[s[len(s)-1]]
	n, err := strconv.ParseInt(s[:len(s)-1], 10, 64)
	if err != nil || unit == 0 || n > int64(10000*day/unit) {
		return -1
	}
	return time.Duration(n) * unit
}

// Size returns what a size of a document means, in bytes; 0 where none is set.
func Size(s string) int64 {
	number, unit, _ := strings.Cut(s, " ")
	n, err := strconv.ParseInt(number, 10, 40)
	if err != nil {
		return 0
	}
	return n * map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}[unit]
}

func isServer(s string) bool {
	if isIPv6(s) {
		return true
	}
	host := s
	if at := strings.LastIndexByte(s, ':'); at >= 0 {
		port, err := strconv.ParseUint(s[at+1:], 10, 16)
		if err != nil || port == 0 || s[at+1] == '0' {
			return false
		}
		host = s[:at]
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		return isIPv6(strings.TrimSuffix(inner, "]"))
	}
	return len(host) <= 253 && !strings.Contains(host, ":")
}

func isAddress(s string) bool { return strings.Contains(s, ".") || isIPv6(s) }

func isPrefix(s string) bool {
	address, length, _ := strings.Cut(s, "/")
	n, err := strconv.Atoi(length)
	most := 128
	if strings.Contains(address, ".") {
		most = 32
	}
	return err == nil && n <= most && isAddress(address)
}

// isIPv6 reports whether s is an address of RFC 4291, section 2.2, in its forms 1
// and 2: without an IPv4 address in it, and without a zone.
func isIPv6(s string) bool {
	left, right, short := strings.Cut(s, "::")
	groups := 0
	for _, half := range []string{left, right} {
		if half == "" {
			continue
		}
		for group := range strings.SplitSeq(half, ":") {
			if len(group) == 0 || len(group) > 4 || strings.Trim(group, "0123456789abcdef") != "" {
				return false
			}
			groups++
		}
	}
	return groups == 8 && !short || groups < 8 && short
}

// isKey reports whether the base64 is whole, in its one form, and of the type that
// stands before it (RFC 4253, section 6.6).
func isKey(s string) bool {
	kind, encoded, _ := strings.Cut(s, " ")
	b, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || len(b) < 4 {
		return false
	}
	n := uint64(binary.BigEndian.Uint32(b))
	want, fixed := keyLengths[kind]
	return n <= uint64(len(b)-4) && string(b[4:4+n]) == kind && (!fixed || len(b) == want)
}

// keyLengths are the lengths of keys in bytes; those of a token have the name of
// an application inside, of any length.
var keyLengths = map[string]int{"ssh-ed25519": 51, "ecdsa-sha2-nistp256": 104, "ecdsa-sha2-nistp384": 136}
