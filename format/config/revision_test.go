package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var revision = Revision{
	Number: 3, Time: time.Date(2026, 11, 24, 2, 0, 0, 0, time.UTC), What: "rollback to 1",
	By: Person{"alice", "admin", "192.0.2.1", 7}, ConfirmedBy: Person{"bob", "admin", "console", 9},
	Changes:   []Change{{"system", "hostname", `"a"`, `"b"`}},
	Documents: map[string]string{"system": "hostname = \"b\"\n", "sound": "of another release"},
}

func TestRevision(t *testing.T) {
	text, err := revision.Print()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseRevision(text)
	if d := cmp.Diff(revision, got); err != nil || d != "" {
		t.Errorf("ParseRevision(Print) = %v\n%s", err, d)
	}
	for name, change := range map[string][2]string{
		"a key twice": {`{"number":3,`, `{"number":3,"number":3,`}, "another case": {`"number"`, `"Number"`}, "an unknown key": {`{"number"`, `{"x":1,"number"`},
		"no number": {`"number":3`, `"number":0`}, "no such event": {"rollback to 1", "rollback to x"}, "spaces": {`"number":3`, `"number": 3`},
		"nobody": {`"name":"alice"`, `"name":""`}, "more behind it": {"}\n", "}\n{}"}, "no end": {"}\n", "}"}, "no time": {"2026-11-24T02:00:00Z", "2026-11-24"},
	} {
		changed := strings.Replace(string(text), change[0], change[1], 1)
		if r, err := ParseRevision([]byte(changed)); err == nil || changed == string(text) {
			t.Errorf("ParseRevision with %s = %+v", name, r)
		}
	}
	big := revision
	big.Documents = map[string]string{"system": strings.Repeat("#", MaxTotal+1)}
	if _, err := big.Print(); err == nil {
		t.Error("Print of documents without end succeeds")
	}
}

func TestSet(t *testing.T) {
	base, err := ParseSet(map[string]string{"time": examples["time"]}, nil)
	if err != nil {
		t.Fatal(err)
	}
	none := map[string]string{"time": "servers = []\n"}
	set, err := ParseSet(none, base)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(none, set.Kept(base)); d != "" {
		t.Errorf("Kept: %s", d)
	}
	for name, texts := range map[string]map[string]string{"complete": set.Complete(base), "kept": set.Kept(base)} {
		again, err := ParseSet(texts, base)
		if err != nil || len(Changes(set, again)) != 0 {
			t.Errorf("what is %s reads as another: %v, %v", name, Changes(set, again), err)
		}
	}
	if got := set.Texts()["time"]; got != "" {
		t.Errorf("the owner of time gets %q, want nothing", got)
	}
	if _, err := ParseSet(map[string]string{"tim": ""}, base); err == nil {
		t.Error("ParseSet takes an unknown document")
	}
	long := map[string]string{}
	for _, concern := range []string{"access", "log"} {
		long[concern] = examples[concern]
	}
	collector := strings.Replace(examples["log"], "MIIB", strings.Repeat("A", 15<<10), 1)
	long["log"] = strings.Replace(collector, "MIIC", strings.Repeat("A", 15<<10), 1)
	if _, err := ParseSet(long, nil); err != nil {
		t.Errorf("ParseSet of 30 KiB: %v", err)
	}
}

func TestPolicy(t *testing.T) {
	p := Policy{Delegate: []string{"system.*", "access.key.*"}, TwoPersons: true, Console: true, Defaults: map[string]map[string]any{
		"time": {"servers": []string{"ntp.example"}}, "access": {"ssh": map[string]any{"networks": []string{"management"}}},
	}}
	text, err := p.Print()
	if err != nil {
		t.Fatal(err)
	}
	const want = `delegate = ["system.*", "access.key.*"]
two_persons = true
console = true

[documents]
time = "servers = [\"ntp.example\"]\n"
access = "[ssh]\nnetworks = [\"management\"]\n"
`
	if string(text) != want {
		t.Errorf("Print = %s", cmp.Diff(want, string(text)))
	}
	got, documents, err := ParsePolicy(text)
	if err != nil || !got.TwoPersons || !got.Console || cmp.Diff(p.Delegate, got.Delegate) != "" {
		t.Errorf("ParsePolicy(Print) = %+v, %v", got, err)
	}
	defaults, err := p.Documents()
	if err != nil || len(Changes(defaults, documents)) != 0 {
		t.Errorf("its documents are not the defaults: %v, %v", Changes(defaults, documents), err)
	}
	for _, wrong := range []string{"", "delegate = []\n", "delegate = []\ntwo_persons = false\n", want + "x = 1\n", strings.Replace(want, "system.*", "sytem.*", 1), strings.Replace(want, "ntp.example", "-", 1), strings.Replace(want, "access.key.*", "system.*", 1)} {
		if p, _, err := ParsePolicy([]byte(wrong)); err == nil {
			t.Errorf("ParsePolicy(%q) = %+v", wrong, p)
		}
	}
	for _, wrong := range []map[string]map[string]any{{"tim": {}}, {"time": {"server": "x"}}, {"time": {"servers": []string{"-"}}}} {
		if err := (Policy{Defaults: wrong}).Check(); err == nil {
			t.Errorf("Check takes the defaults %v", wrong)
		}
	}
	if _, _, err := ParsePolicy([]byte("delegate = []\ntwo_persons = false\nconsole = false\n")); err != nil {
		t.Errorf("ParsePolicy of the least one = %v", err)
	}
}

func FuzzRevision(f *testing.F) {
	text, err := revision.Print()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ParseRevision(text)
		if err != nil {
			return
		}
		if again, err := r.Print(); err != nil || string(again) != string(text) {
			t.Errorf("Print(ParseRevision(%q)) = %q, %v", text, again, err)
		}
	})
}

func FuzzPolicy(f *testing.F) {
	f.Add([]byte("delegate = [\"system.*\"]\ntwo_persons = true\nconsole = false\n[documents]\ntime = \"servers = []\"\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, documents, err := ParsePolicy(text)
		if err != nil {
			return
		}
		if len(documents) != len(Concerns()) || p.Check() != nil {
			t.Errorf("ParsePolicy(%q) = %+v, with %d documents", text, p, len(documents))
		}
	})
}
