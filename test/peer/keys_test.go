package peer_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cloison/format/authenticode"
	"cloison/format/efisig"
	"cloison/host/keys"
	"cloison/host/sdk/sdktest"
)

var keyTime = time.Date(2026, 11, 23, 12, 34, 56, 0, time.UTC)

// madeKeys makes one set of keys for all tests of the package, because RSA
// keys take their time: file names and contents.
var madeKeys = sync.OnceValues(func() (files map[string][]byte, err error) {
	root, err := os.MkdirTemp("", "cloison-peer-keys")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
	dir := filepath.Join(root, "keys")
	if err := keys.Init(dir, true, time.Now()); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	files = map[string][]byte{}
	for _, e := range entries {
		if files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			return nil, err
		}
	}
	return files, nil
})

// keyFolder returns a folder with those keys.
func keyFolder(t *testing.T) string {
	t.Helper()
	files, err := madeKeys()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "keys")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func developmentKeys(t *testing.T) keys.Store {
	t.Helper()
	st, err := keys.OpenDir(keyFolder(t))
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func hexSHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func certificates(c ...*x509.Certificate) []*x509.Certificate { return c }

// TestKeysReadByOpenSSL: OpenSSL reads every file that keys init wrote, and
// each certificate verifies with itself.
func TestKeysReadByOpenSSL(t *testing.T) {
	tools, dir := sdktest.Open(t), t.TempDir()
	for _, r := range keys.Roles {
		key, cert := string(r)+".key", string(r)+".pem"
		for _, name := range []string{key, cert} {
			writeFile(t, dir, name, readFile(t, filepath.Join(keyFolder(t), name)))
		}
		fromKey := mustTool(t, tools, dir, "openssl", "pkey", "-in", key, "-pubout")
		fromCert := mustTool(t, tools, dir, "openssl", "x509", "-in", cert, "-pubkey", "-noout")
		if fromKey != fromCert {
			t.Errorf("%s: public key of the key\n%s\nof the certificate\n%s", r, fromKey, fromCert)
		}
		public, err := keys.PublicKeyPEM(developmentKeys(t), r)
		if err != nil || string(public) != fromCert {
			t.Errorf("PublicKeyPEM(%s) = %s, %v, want %s", r, public, err, fromCert)
		}
		mustTool(t, tools, dir, "openssl", "verify", "-check_ss_sig", "-CAfile", cert, "-partial_chain", cert)
	}
}

// TestDocumentReadByOpenSSL: the release signature is Ed25519 over the bytes
// of the document.
func TestDocumentReadByOpenSSL(t *testing.T) {
	tools, dir := sdktest.Open(t), t.TempDir()
	doc := []byte("{\"version\":\"0.1.0\"}\n")
	text, err := keys.SignDocument(developmentKeys(t), doc)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := pem.Decode(text)
	if b == nil {
		t.Fatalf("SignDocument() = %s", text)
	}
	writeFile(t, dir, "doc", doc)
	writeFile(t, dir, "sig", b.Bytes)
	writeFile(t, dir, "release.pem", readFile(t, filepath.Join(keyFolder(t), "release.pem")))
	verify := []string{"openssl", "pkeyutl", "-verify", "-rawin", "-certin", "-inkey", "release.pem", "-sigfile", "sig", "-in", "doc"}
	mustTool(t, tools, dir, verify...)
	writeFile(t, dir, "doc", append(doc, ' '))
	if out, err := tool(tools, dir, verify...); err == nil {
		t.Errorf("openssl of a changed document = %s, want a refusal", out)
	}
}

// TestAuthSame: for the same certificate, time and variable, what is signed
// is what efitools signs: same time, same lists, and each side's signature
// passes our check.
func TestAuthSame(t *testing.T) {
	tools, dir := sdktest.Open(t), t.TempDir()
	st := developmentKeys(t)
	auth, err := keys.AuthFiles(st, keyTime)
	if err != nil {
		t.Fatal(err)
	}
	owner := st.Owner().String()
	for _, name := range []string{"PK.key", "PK.pem", "KEK.key", "KEK.pem", "db.pem"} {
		writeFile(t, dir, name, readFile(t, filepath.Join(keyFolder(t), name)))
	}
	for _, test := range []struct {
		variable efisig.Variable
		cert, by keys.Role
		data     []byte
	}{
		{efisig.PK, keys.PK, keys.PK, auth.PK},
		{efisig.KEK, keys.KEK, keys.PK, auth.KEK},
		{efisig.DB, keys.DB, keys.KEK, auth.DB},
	} {
		name := test.variable.Name
		mustTool(t, tools, dir, "cert-to-efi-sig-list", "-g", owner, string(test.cert)+".pem", name+".esl")
		mustTool(t, tools, dir, "sign-efi-sig-list", "-t", keyTime.Format(time.DateTime),
			"-k", string(test.by)+".key", "-c", string(test.by)+".pem", name, name+".esl", name+".auth")
		by, err := st.Certificate(test.by)
		if err != nil {
			t.Fatal(err)
		}
		ours, err := efisig.ParseUpdate(test.data)
		if err != nil {
			t.Fatal(err)
		}
		peer, err := efisig.ParseUpdate(readFile(t, filepath.Join(dir, name+".auth")))
		if err != nil {
			t.Fatal(err)
		}
		if !peer.Time.Equal(ours.Time) || string(peer.Payload) != string(ours.Payload) {
			t.Errorf("%s: efitools signs %v and %x, we %v and %x", name, peer.Time, peer.Payload, ours.Time, ours.Payload)
		}
		if err := peer.Verify(test.variable, efisig.Replace, by); err != nil {
			t.Errorf("the update that efitools signed: %v", err)
		}
		if err := ours.Verify(test.variable, efisig.Append, by); err == nil {
			t.Errorf("%s: Verify(Append) of a Replace = nil, want a refusal", name)
		}
	}
}

// TestRevoke: efitools reads the lists of dbx as we mean them.
func TestRevoke(t *testing.T) {
	tools, dir := sdktest.Open(t), t.TempDir()
	st := developmentKeys(t)
	image, err := keys.SignPE(st, buildUKI(t, tools))
	if err != nil {
		t.Fatal(err)
	}
	old, err := st.Certificate(keys.PK)
	if err != nil {
		t.Fatal(err)
	}
	data, err := keys.Revoke(st, keys.Revocation{Images: [][]byte{image}, Certificates: certificates(old)}, efisig.Append, keyTime)
	if err != nil {
		t.Fatal(err)
	}
	u, err := efisig.ParseUpdate(data)
	if err != nil {
		t.Fatal(err)
	}
	kek, err := st.Certificate(keys.KEK)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Verify(efisig.DBX, efisig.Append, kek); err != nil {
		t.Error(err)
	}
	digest, err := authenticode.Digest(image)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir, "dbx.esl", u.Payload)
	out := mustTool(t, tools, dir, "sig-list-to-certs", "dbx.esl", "out")
	for _, want := range []string{"SHA256", "X509", st.Owner().String()} {
		if !strings.Contains(out, want) {
			t.Errorf("sig-list-to-certs does not show %s:\n%s", want, out)
		}
	}
	if got := readFile(t, filepath.Join(dir, "out-1.der")); string(got) != string(old.Raw) {
		t.Errorf("sig-list-to-certs gives another certificate: %x", got)
	}
	// efitools computes the image's digest by itself.
	writeFile(t, dir, "image.efi", image)
	mustTool(t, tools, dir, "hash-to-efi-sig-list", "image.efi", "hash.esl")
	lists, err := efisig.Parse(readFile(t, filepath.Join(dir, "hash.esl")))
	if err != nil || len(lists) != 1 || len(lists[0].Signatures) != 1 || string(lists[0].Signatures[0].Data) != string(digest[:]) {
		t.Errorf("hash-to-efi-sig-list = %x, %v, want %x", lists, err, digest)
	}
}
