package keys

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloison/format/authenticode"
	"cloison/format/efisig"
	"cloison/format/hint"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// made holds two sets of keys, made once: RSA key generation is slow.
var made = map[bool]string{}

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	root, err := os.MkdirTemp("", "keys")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(root)
	for _, development := range []bool{false, true} {
		made[development] = filepath.Join(root, map[bool]string{false: "p", true: "d"}[development], "keys")
		if err := Init(made[development], development, now); err != nil {
			panic(err)
		}
	}
	return m.Run()
}

// copyKeys returns a copy of the production keys that a test may spoil.
func copyKeys(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	if err := os.CopyFS(dir, os.DirFS(made[false])); err != nil {
		t.Fatal(err)
	}
	for _, p := range append([]string{dir}, keyPaths(dir)...) {
		mode := os.FileMode(0o600)
		if p == dir {
			mode = 0o700
		}
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func keyPaths(dir string) []string {
	out := []string{filepath.Join(dir, recoveryKeyFile)}
	for _, r := range Roles {
		out = append(out, filepath.Join(dir, keyFile(r)))
	}
	return out
}

func open(t *testing.T, development bool) Store {
	t.Helper()
	st, err := openDir(made[development], now)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestInit(t *testing.T) {
	for _, development := range []bool{false, true} {
		dir := made[development]
		st := open(t, development)
		if got := st.Development(); got != development {
			t.Errorf("Development() = %v, want %v", got, development)
		}
		if st.Owner() == (efisig.GUID{}) {
			t.Error("Owner() is zero")
		}
		for _, p := range append([]string{dir}, keyPaths(dir)...) {
			info, err := os.Stat(p)
			if err != nil {
				t.Fatal(err)
			}
			want := os.FileMode(0o600)
			if info.IsDir() {
				want = 0o700
			}
			if got := info.Mode().Perm(); got != want {
				t.Errorf("mode of %s = %04o, want %04o", info.Name(), got, want)
			}
		}
		described, err := Describe(st)
		if err != nil {
			t.Fatal(err)
		}
		kinds := map[Role]string{PK: "RSA-3072", KEK: "RSA-3072", DB: "RSA-3072", Release: "Ed25519", Policy: "RSA-2048"}
		for _, d := range described {
			if d.Kind != kinds[d.Role] {
				t.Errorf("kind of %s = %s, want %s", d.Role, d.Kind, kinds[d.Role])
			}
			if got := strings.Contains(d.Subject, "(development)"); got != development {
				t.Errorf("subject of %s = %q, development is %v", d.Role, d.Subject, development)
			}
			if want := now.Add(Validity); !d.Expires.Equal(want) {
				t.Errorf("expiry of %s = %v, want %v", d.Role, d.Expires, want)
			}
		}
		if left, err := filepath.Glob(filepath.Join(filepath.Dir(dir), ".*")); err != nil || len(left) != 0 {
			t.Errorf("left beside the keys: %v, %v", left, err)
		}
	}
}

func TestInitRefuses(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := Init(full, false, now)
	if err == nil || !strings.Contains(err.Error(), "not empty") || hint.Of(err) == "" {
		t.Errorf("Init(non-empty) = %v, want an error with a hint", err)
	}
	if entries, err := os.ReadDir(full); err != nil || len(entries) != 1 {
		t.Errorf("the folder changed: %v, %v", entries, err)
	}
	if err := Init(filepath.Join(full, "x"), false, now); err == nil {
		t.Error("Init(file) = nil, want an error")
	}
	if err := Init(filepath.Join(full, "x", "y"), false, now); err == nil {
		t.Error("Init(below a file) = nil, want an error")
	}
}

// TestWriteFolderFails: when a file cannot be written, nothing is left.
func TestWriteFolderFails(t *testing.T) {
	parent := t.TempDir()
	err := writeFolder(filepath.Join(parent, "keys"), []file{{"a", 0o600, nil}, {"a", 0o600, nil}})
	if !errors.Is(err, os.ErrExist) {
		t.Errorf("writeFolder(same name twice) = %v, want %v", err, os.ErrExist)
	}
	if entries, err := os.ReadDir(parent); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestInitIntoEmptyFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := writeFolder(dir, []file{{"a", 0o600, []byte("b")}}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode = %v, %v, want 0700", info.Mode(), err)
	}
}

func TestOpenDirRefuses(t *testing.T) {
	pkcs8 := func(key any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	}
	write := func(name string, data []byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	swap := func(from, to string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	chmod := func(name string, mode os.FileMode) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	readMade := func(development bool, name string) []byte {
		b, err := os.ReadFile(filepath.Join(made[development], name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	_, small, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		spoil func(*testing.T, string)
		want  string // in the error
		hint  bool
	}{
		{"no folder", remove(""), "does not exist", true},
		{"missing key", remove("KEK.key"), "KEK.key is missing", true},
		{"missing certificate", remove("release.pem"), "release.pem is missing", true},
		{"missing owner", remove("owner.guid"), "owner.guid is missing", true},
		{"key of another role", write("db.key", readMade(false, "KEK.key")), "db.key is not the key of the certificate db.pem", true},
		{"key of another set", write("db.key", readMade(true, "db.key")), "db.key is not the key of the certificate db.pem", true},
		{"key of another kind", write("PK.key", pkcs8(small)), "PK.key is of kind Ed25519, want RSA-3072", false},
		{"RSA release key", write("release.key", readMade(false, "db.key")), "release.key is of kind RSA-3072, want Ed25519", false},
		{"certificate of another kind", write("db.pem", readMade(false, "policy.pem")), "db.pem is of kind RSA-2048, want RSA-3072", false},
		{"key is no PEM", write("db.key", []byte("hello")), "db.key is not PEM", true},
		{"key is a certificate", write("db.key", readMade(false, "db.pem")), `db.key holds a PEM block "CERTIFICATE", want "PRIVATE KEY"`, true},
		{"certificate is a key", write("db.pem", readMade(false, "db.key")), `db.pem holds a PEM block "PRIVATE KEY", want "CERTIFICATE"`, false},
		{"key is garbage", write("db.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})), "db.key is not a private key", false},
		{"two keys in one file", write("db.key", append(readMade(false, "db.key"), readMade(false, "db.key")...)), "more than one PEM block", true},
		{"empty key", write("db.key", nil), "db.key is not PEM", true},
		{"key too large", write("db.key", make([]byte, maxFile+1)), "the limit is", false},
		{"key others may read", chmod("db.key", 0o640), "others may read db.key: its mode is 0640", true},
		{"folder others may enter", chmod("", 0o755), "others may enter the folder: its mode is 0755", true},
		{"key is a link", func(t *testing.T, dir string) {
			swap("db.key", "real")(t, dir)
			if err := os.Symlink("real", filepath.Join(dir, "db.key")); err != nil {
				t.Fatal(err)
			}
		}, "db.key is not a regular file", false},
		{"owner is no GUID", write("owner.guid", []byte("me\n")), "owner.guid: cannot parse GUID", false},
		{"recovery key others may read", chmod("recovery.key", 0o640), "others may read recovery.key: its mode is 0640", true},
		{"recovery key of another set", write("recovery.key", readMade(true, "recovery.key")), "recovery.key is not the key of recovery.pub", true},
		{"recovery public key is garbage", write("recovery.pub", []byte("x")), "recovery.pub: cannot read the recovery public key", false},
		{"recovery key is its public part", write("recovery.key", readMade(false, "recovery.pub")), "recovery.key: cannot read the recovery key", false},
		{"marked as development", write("DEVELOPMENT", nil), "is not a development certificate", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := copyKeys(t)
			test.spoil(t, dir)
			_, err := openDir(dir, now)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("openDir() = %v, want an error with %q", err, test.want)
			}
			if got := hint.Of(err) != ""; got != test.hint {
				t.Errorf("openDir() = %v: hint %q, want one: %v", err, hint.Of(err), test.hint)
			}
		})
	}
	if _, err := openDir(made[false], now.Add(Validity+time.Second)); err == nil || !strings.Contains(err.Error(), "has expired on 2046-") {
		t.Errorf("openDir(expired) = %v", err)
	}
	if _, err := openDir(filepath.Join(made[false], "db.key"), now); err == nil || !strings.Contains(err.Error(), "not a folder") {
		t.Errorf("openDir(file) = %v", err)
	}
}

// TestRecovery: the public part is enough, and a set without any can be given
// one, once.
func TestRecovery(t *testing.T) {
	dir := copyKeys(t)
	if err := os.Remove(filepath.Join(dir, "recovery.key")); err != nil {
		t.Fatal(err)
	}
	st, err := openDir(dir, now)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := st.Recovery(); err != nil || !bytes.Equal(got, readFile(t, filepath.Join(dir, "recovery.pub"))) {
		t.Errorf("Recovery() = %q, %v", got, err)
	}
	if err := AddRecovery(dir); err == nil || hint.Of(err) == "" {
		t.Errorf("AddRecovery(dir with a public part) = %v, want an error with a hint", err)
	}
	if err := os.Remove(filepath.Join(dir, "recovery.pub")); err != nil {
		t.Fatal(err)
	}
	if st, err = openDir(dir, now); err != nil {
		t.Fatal(err)
	}
	if got, err := st.Recovery(); err == nil || hint.Of(err) == "" {
		t.Errorf("Recovery() without a key = %q, %v, want an error with a hint", got, err)
	}
	if err := AddRecovery(dir); err != nil {
		t.Fatal(err)
	}
	if st, err = openDir(dir, now); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Recovery(); err != nil {
		t.Error(err)
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestDevelopmentCannotBeHidden: without their marker, development keys do
// not pass as others.
func TestDevelopmentCannotBeHidden(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if err := os.CopyFS(dir, os.DirFS(made[true])); err != nil {
		t.Fatal(err)
	}
	for _, p := range keyPaths(dir) {
		if err := os.Chmod(p, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chmod(dir, 0o700), os.Remove(filepath.Join(dir, "DEVELOPMENT"))); err != nil {
		t.Fatal(err)
	}
	_, err := openDir(dir, now)
	if err == nil || !strings.Contains(err.Error(), "the file DEVELOPMENT is missing") {
		t.Errorf("openDir() = %v, want a refusal", err)
	}
}

func TestDocument(t *testing.T) {
	st := open(t, false)
	doc := []byte(`{"version":"0.1.0"}` + "\n")
	sig, err := SignDocument(st, doc)
	if err != nil {
		t.Fatal(err)
	}
	again, err := SignDocument(st, doc)
	if err != nil || string(again) != string(sig) {
		t.Errorf("SignDocument() differs from one call to the next: %v", err)
	}
	cert, err := st.Certificate(Release)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := open(t, true).Certificate(Release)
	if err != nil {
		t.Fatal(err)
	}
	db, err := st.Certificate(DB)
	if err != nil {
		t.Fatal(err)
	}
	broken := []byte(strings.Replace(string(sig), "Key-Id", "Key-ID", 1))
	tests := []struct {
		name string
		cert *x509.Certificate
		doc  []byte
		sig  []byte
		want string
	}{
		{"right", cert, doc, sig, ""},
		{"changed", cert, append([]byte(" "), doc...), sig, "changed after signing"},
		{"stranger", stranger, doc, sig, "signed by key"},
		{"not a release key", db, doc, sig, "want Ed25519"},
		{"empty", cert, doc, nil, "not a PEM block"},
		{"cut", cert, doc, sig[:len(sig)/2], "not a PEM block"},
		{"tail", cert, doc, append(sig[:len(sig):len(sig)], '\n'), "malformed"},
		{"other header", cert, doc, broken, "malformed"},
	}
	for _, test := range tests {
		err := VerifyDocument(test.cert, test.doc, test.sig)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: VerifyDocument() = %v, want %q", test.name, err, test.want)
		}
	}
}

func FuzzDocumentSignature(f *testing.F) {
	f.Add(encodeSignature(strings.Repeat("a", 64), make([]byte, 64)))
	f.Add([]byte("-----BEGIN CLOISON SIGNATURE-----\n-----END CLOISON SIGNATURE-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		id, sig, err := decodeSignature(text)
		if err != nil {
			return
		}
		if got := encodeSignature(id, sig); string(got) != string(text) {
			t.Errorf("encode(decode(%q)) = %q", text, got)
		}
	})
}

func TestAuthFiles(t *testing.T) {
	st := open(t, false)
	auth, err := AuthFiles(st, now)
	if err != nil {
		t.Fatal(err)
	}
	again, err := AuthFiles(st, now)
	if err != nil || string(again.PK) != string(auth.PK) || string(again.KEK) != string(auth.KEK) || string(again.DB) != string(auth.DB) {
		t.Errorf("AuthFiles() differs from one call to the next: %v", err)
	}
	for _, test := range []struct {
		variable    efisig.Variable
		data        []byte
		content, by Role
	}{
		{efisig.PK, auth.PK, PK, PK}, {efisig.KEK, auth.KEK, KEK, PK}, {efisig.DB, auth.DB, DB, KEK},
	} {
		u, err := efisig.ParseUpdate(test.data)
		if err != nil {
			t.Fatal(err)
		}
		by, err := st.Certificate(test.by)
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Verify(test.variable, efisig.Replace, by); err != nil {
			t.Error(err)
		}
		lists, err := efisig.Parse(u.Payload)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := st.Certificate(test.content)
		if err != nil {
			t.Fatal(err)
		}
		if len(lists) != 1 || len(lists[0].Signatures) != 1 || string(lists[0].Signatures[0].Data) != string(cert.Raw) || lists[0].Signatures[0].Owner != st.Owner() {
			t.Errorf("%s holds %v, want the certificate of %s", test.variable.Name, lists, test.content)
		}
	}
}

func TestAllow(t *testing.T) {
	st, next := open(t, false), open(t, false)
	cert, err := next.Certificate(DB)
	if err != nil {
		t.Fatal(err)
	}
	for _, attributes := range []uint32{efisig.Append, efisig.Replace} {
		text, err := Allow(st, []*x509.Certificate{cert}, attributes, now)
		if err != nil {
			t.Fatal(err)
		}
		u, err := efisig.ParseUpdate(text)
		if err != nil {
			t.Fatal(err)
		}
		kek, err := st.Certificate(KEK)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := u.Attributes(efisig.DB, []*x509.Certificate{kek}); err != nil || got != attributes {
			t.Errorf("Allow() is signed for %#x, %v, want %#x of db by the KEK", got, err, attributes)
		}
		lists, err := efisig.Parse(u.Payload)
		if err != nil || len(lists) != 1 || lists[0].Signatures[0].Owner != st.Owner() || !bytes.Equal(lists[0].Signatures[0].Data, cert.Raw) {
			t.Errorf("Allow() has %v, %v, want the certificate", lists, err)
		}
	}
	if _, err := Allow(st, nil, efisig.Append, now); err == nil || !strings.Contains(err.Error(), "cannot allow nobody") {
		t.Errorf("Allow(nobody) = %v", err)
	}
}

func TestRevokeRefuses(t *testing.T) {
	st := open(t, false)
	own, err := st.Certificate(DB)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		r    Revocation
		want string
	}{
		{"nothing", Revocation{}, "cannot revoke nothing"},
		{"itself", Revocation{Certificates: []*x509.Certificate{own}}, "no machine would boot"},
		{"no image", Revocation{Images: [][]byte{[]byte("MZ")}}, "not a PE image"},
	} {
		if _, err := Revoke(st, test.r, efisig.Append, now); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Revoke() = %v, want %q", test.name, err, test.want)
		}
	}
}

// tokenless is a store whose release key is of the wrong kind, as a careless
// token might give.
type tokenless struct{ Store }

func (s tokenless) Signer(Role) (crypto.Signer, error) { return s.Store.Signer(DB) }

func TestSignRefuses(t *testing.T) {
	st := open(t, false)
	if _, err := SignDocument(tokenless{st}, nil); err == nil || !strings.Contains(err.Error(), "want Ed25519") {
		t.Errorf("SignDocument(RSA) = %v, want a refusal", err)
	}
	if _, err := SignPE(st, []byte("no image")); err == nil || !strings.Contains(err.Error(), "not a PE image") {
		t.Errorf("SignPE(text) = %v, want a refusal", err)
	}
	if err := VerifyPE(st, nil); err == nil || errors.Is(err, authenticode.ErrUnsigned) {
		t.Errorf("VerifyPE(nothing) = %v, want a refusal", err)
	}
	if _, err := st.Signer("root"); err == nil {
		t.Error("Signer(root) = nil, want an error")
	}
	if _, err := st.Certificate("root"); err == nil {
		t.Error("Certificate(root) = nil, want an error")
	}
}
