package boot

import (
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// recovery-passphrase NAME VOLUME: $NAME is the recovery passphrase of a copy of
// a volume, as a person may type it: in upper case, with spaces.
func (s *stage) recoveryPassphrase(ts *testscript.TestScript, args []string) {
	want(ts, args, "NAME VOLUME")
	w, err := s.workshop()
	must(ts, err)
	text := s.passphrase(ts, w, path(ts, args[1]))
	ts.Setenv(args[0], strings.ToUpper(strings.ReplaceAll(strings.TrimSpace(string(text)), "-", " ")))
}

// silent NAME: no two groups of $NAME have been on the console, however they are
// written.
func (s *stage) silent(ts *testscript.TestScript, args []string) {
	want(ts, args, "NAME")
	bare := strings.NewReplacer(" ", "", "-", "", "\r", "", "\n", "")
	console := strings.ToUpper(bare.Replace(s.machine.Console.Text()))
	groups := strings.Fields(ts.Getenv(args[0]))
	if len(groups) != 7 {
		ts.Fatalf("$%s has %d groups, want 7", args[0], len(groups))
	}
	for i := range groups[1:] {
		if text := groups[i] + groups[i+1]; strings.Contains(console, text) {
			ts.Fatalf("the console shows %q", text)
		}
	}
}
