package planned

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloison/format/bootfacts"
	"cloison/format/efisig"
	"cloison/format/eventlog"
	"cloison/format/eventlog/eventlogtest"
	"cloison/format/pkcs7/pkcs7test"
)

// machine is a boot of a loader that db's certificate signed.
type machine struct {
	pk, kek, db *pkcs7test.Identity
	boot        eventlog.Boot
}

var (
	owner = efisig.GUID{1}
	at    = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
)

func newMachine(t *testing.T, dbx ...efisig.List) machine {
	m := machine{pk: pkcs7test.New(t, "PK", nil), kek: pkcs7test.New(t, "KEK", nil), db: pkcs7test.New(t, "db", nil)}
	m.boot = boot(t, m, dbx)
	return m
}

// boot makes the log of such a boot, and reads it.
func boot(t *testing.T, m machine, dbx []efisig.List) eventlog.Boot {
	variable := func(kind uint32, v efisig.Variable, content []byte) eventlogtest.Event {
		return eventlogtest.Event{PCR: 7, Type: kind, Data: eventlog.Variable{Vendor: v.Vendor, Name: v.Name, Content: content}.Print()}
	}
	of := func(id *pkcs7test.Identity) []byte { return marshal(t, efisig.Certificates(owner, id.Cert)) }
	l, err := eventlog.Parse(eventlogtest.Print(
		variable(eventlog.VariableDriverConfig, efisig.PK, of(m.pk)),
		variable(eventlog.VariableDriverConfig, efisig.KEK, of(m.kek)),
		variable(eventlog.VariableDriverConfig, efisig.DB, of(m.db)),
		variable(eventlog.VariableDriverConfig, efisig.DBX, marshal(t, dbx)),
		variable(eventlog.VariableAuthority, efisig.DB, append(owner[:], m.db.Cert.Raw...)),
		eventlogtest.Event{PCR: 4, Type: eventlog.BootServicesApplication, Data: []byte("loader")},
	))
	if err != nil {
		t.Fatal(err)
	}
	values := map[uint32][32]byte{}
	for _, index := range eventlog.PCRs {
		var err error
		if values[index], err = l.Replay(index); err != nil {
			t.Fatal(err)
		}
	}
	b, err := l.Boot(values)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func marshal(t *testing.T, lists []efisig.List) []byte {
	b, err := efisig.Marshal(lists)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sign(t *testing.T, by *pkcs7test.Identity, v efisig.Variable, attributes uint32, lists ...efisig.List) []byte {
	u, err := efisig.Sign(by.Key, by.Cert, v, attributes, at, lists)
	if err != nil {
		t.Fatal(err)
	}
	return u.Marshal()
}

func TestPlan(t *testing.T) {
	m := newMachine(t)
	next := pkcs7test.New(t, "next", nil)
	digests := efisig.Digests(owner, [32]byte{1})
	updates := map[string][]byte{
		"db":  sign(t, m.kek, efisig.DB, efisig.Append, efisig.Certificates(owner, next.Cert)...),
		"dbx": sign(t, m.kek, efisig.DBX, efisig.Replace, digests),
	}
	db := marshal(t, efisig.Certificates(owner, m.db.Cert, next.Cert))
	first, err1 := m.boot.Predict(map[string][]byte{"db": db})
	both, err2 := m.boot.Predict(map[string][]byte{"db": db, "dbx": marshal(t, []efisig.List{digests})})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	want := []bootfacts.Change{{Name: "db", Append: true, PCR7: first}, {Name: "dbx", PCR7: both}}
	got, err := Plan(m.boot, updates)
	if err != nil || len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("Plan() = %v, %v, want %v", got, err, want)
	}
	if got, err := Plan(m.boot, nil); err != nil || got != nil {
		t.Errorf("Plan(nothing) = %v, %v, want nothing", got, err)
	}
}

func TestPlanRefuses(t *testing.T) {
	digest := sha256.Sum256([]byte("something"))
	m := newMachine(t, efisig.Digests(owner, digest))
	stranger := pkcs7test.New(t, "stranger", nil)
	theirs := efisig.Certificates(owner, stranger.Cert)
	changed := sign(t, m.kek, efisig.DBX, efisig.Append, efisig.Digests(owner, [32]byte{1}))
	changed[len(changed)-1] ^= 1
	for _, test := range []struct {
		name, variable string
		update         []byte
		want           string
	}{
		{"garbage", "dbx", []byte("garbage"), "planned change of dbx: cannot parse variable update"},
		{"stranger's", "dbx", sign(t, stranger, efisig.DBX, efisig.Append, efisig.Digests(owner, [32]byte{1})), `"stranger" has signed it`},
		{"PK's", "dbx", sign(t, m.pk, efisig.DBX, efisig.Append, efisig.Digests(owner, [32]byte{1})), `"PK" has signed it`},
		{"changed", "dbx", changed, "cannot verify"},
		{"of another variable", "db", sign(t, m.kek, efisig.DBX, efisig.Append, theirs...), "cannot verify"},
		{"allows again", "dbx", sign(t, m.kek, efisig.DBX, efisig.Replace, efisig.Digests(owner, [32]byte{1})), "allow again"},
		{"empties", "dbx", sign(t, m.kek, efisig.DBX, efisig.Replace), "allow again"},
		{"drops our signer", "db", sign(t, m.kek, efisig.DB, efisig.Replace, theirs...), "no longer have"},
		{"forbids our signer", "dbx", sign(t, m.kek, efisig.DBX, efisig.Append, efisig.Certificates(owner, m.db.Cert)...), "forbid the certificate"},
		{"forbids our loader", "dbx", sign(t, m.kek, efisig.DBX, efisig.Append, efisig.Digests(owner, m.boot.Started[0])), "forbid what this machine starts"},
	} {
		if got, err := Plan(m.boot, map[string][]byte{test.variable: test.update}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Plan() = %v, %v, want an error with %q", test.name, got, err, test.want)
		}
	}
}

// variables are a firmware's, which takes what it gets or makes something else
// of it.
type variables struct {
	contents map[string][]byte
	other    bool
	refusal  error
}

func (f *variables) Contents(v efisig.Variable) ([]byte, error) { return f.contents[v.Name], nil }

func (f *variables) Write(v efisig.Variable, attributes uint32, update []byte) error {
	if f.refusal != nil {
		return f.refusal
	}
	u, err := efisig.ParseUpdate(update)
	if err != nil {
		return err
	}
	f.contents[v.Name], err = u.Apply(f.contents[v.Name], attributes)
	if f.other {
		f.contents[v.Name] = u.Payload
	}
	return err
}

func TestApply(t *testing.T) {
	kek := pkcs7test.New(t, "KEK", nil)
	old, added := marshal(t, []efisig.List{efisig.Digests(owner, [32]byte{1})}), efisig.Digests(owner, [32]byte{2})
	text := sign(t, kek, efisig.DBX, efisig.Append, added)
	change := bootfacts.Change{Name: "dbx", Append: true}

	f := &variables{contents: map[string][]byte{"dbx": old}}
	if err := Apply(f, change, text); err != nil || !bytes.Equal(f.contents["dbx"], append(bytes.Clone(old), marshal(t, []efisig.List{added})...)) {
		t.Errorf("Apply() = %v, dbx is %x", err, f.contents["dbx"])
	}
	f = &variables{contents: map[string][]byte{"dbx": old}, other: true}
	if err := Apply(f, change, text); !errors.Is(err, ErrOther) {
		t.Errorf("Apply() to a firmware that replaces = %v, want %v", err, ErrOther)
	}
	no := errors.New("no")
	if err := Apply(&variables{contents: map[string][]byte{}, refusal: no}, change, text); !errors.Is(err, no) {
		t.Errorf("Apply() to a firmware that refuses = %v, want %v", err, no)
	}
	if err := Apply(f, bootfacts.Change{Name: "PK"}, text); err == nil {
		t.Error("Apply() of another variable = nil")
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	if got, err := Read(dir); err != nil || len(got) != 0 {
		t.Errorf("Read(empty) = %v, %v, want nothing", got, err)
	}
	folder := filepath.Join(dir, Folder)
	write := func(name string, size int) {
		if err := os.WriteFile(filepath.Join(folder, name), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	write("db.auth", 10)
	write("dbx.auth", maxUpdate)
	write("PK.auth", 10)
	if got, err := Read(dir); err != nil || len(got) != 2 || len(got["dbx"]) != maxUpdate {
		t.Errorf("Read() = %d updates, %v, want db and dbx", len(got), err)
	}
	if err := errors.Join(Done(dir, "db"), Done(dir, "db"), Refused(dir, "dbx")); err != nil {
		t.Error(err)
	}
	if got, err := Read(dir); err != nil || len(got) != 0 {
		t.Errorf("Read() afterwards = %v, %v, want nothing", got, err)
	}
	if _, err := os.Stat(filepath.Join(folder, "dbx.auth.refused")); err != nil {
		t.Error(err)
	}
	write("db.auth", maxUpdate+1)
	if _, err := Read(dir); err == nil {
		t.Error("Read() of a large file = nil error")
	}
}
