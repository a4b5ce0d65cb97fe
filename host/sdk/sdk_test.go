package sdk_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloison/host/sdk"
	"cloison/host/sdk/sdktest"
)

// A step has no network, cannot write to its inputs or to the SDK, and sees
// nothing of the host that was not named.
func TestStepIsConfined(t *testing.T) {
	s := sdktest.Open(t)
	in, out := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(in, "input"), []byte("kept"), 0o644); err != nil {
		t.Fatal(err)
	}
	step := sdk.Step{
		Inputs:  []sdk.Bind{{Host: in, Inside: "/in"}},
		Outputs: []sdk.Bind{{Host: out, Inside: "/out"}},
	}
	for _, test := range []struct {
		name, script string
		refused      bool
	}{
		{"reads its input", "grep -q kept /in/input", false},
		{"writes its output", "echo made > /out/output", false},
		{"cannot write its input", "echo changed > /in/input", true},
		{"cannot add to its input", "touch /in/other", true},
		{"cannot write to the SDK", "touch /usr/bin/true", true},
		{"cannot add to the SDK", "touch /usr/bin/new", true},
		{"has no network", "exec 3<>/dev/tcp/127.0.0.1/80 || test $(wc -l < /proc/net/dev) != 3", true},
		{"does not see the host", "ls " + in, true},
		{"sees only its own processes", "test $(ls -d /proc/[0-9]* | wc -l) -lt 6", false},
		{"has no capability", `grep -q "CapEff:.0000000000000000" /proc/self/status`, false},
		{"has a scratch folder", "touch /tmp/x", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			step := step
			step.Args = []string{"bash", "-c", test.script}
			err := s.Run(t.Context(), step)
			if refused := err != nil; refused != test.refused {
				t.Errorf("%s: refused = %t, want %t (%v)", test.script, refused, test.refused, err)
			}
		})
	}
	if text, err := os.ReadFile(filepath.Join(out, "output")); string(text) != "made\n" {
		t.Errorf("the step's output is %q (%v), want %q", text, err, "made\n")
	}
	if text, _ := os.ReadFile(filepath.Join(in, "input")); string(text) != "kept" {
		t.Errorf("the step's input became %q", text)
	}
}

func TestRunTellsWhatFailed(t *testing.T) {
	s := sdktest.Open(t)
	err := s.Run(t.Context(), sdk.Step{Args: []string{"sh", "-c", "echo the reason >&2; exit 3"}})
	if err == nil || !strings.Contains(err.Error(), "cannot run sh: exit status 3") || !strings.Contains(err.Error(), "the reason") {
		t.Errorf("Run = %v, want the tool, its status and what it said", err)
	}
}
