package guest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloison/host/progress"
	"cloison/host/sdk/sdktest"
	"cloison/host/tree"
	"cloison/test/guest/job"
)

func open(t *testing.T, tools ...string) *Guest {
	t.Helper()
	root, err := tree.Find(".")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := tree.Cache()
	if err != nil {
		t.Fatal(err)
	}
	g, err := New(t.Context(), Options{Tree: root, Cache: cache, SDK: sdktest.Open(t), Log: progress.To(os.Stderr), Tools: tools})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// A guest runs commands in order, hands back what they say, reads one disk,
// writes another, and cannot write the first.
func TestGuest(t *testing.T) {
	g := open(t, "usr/bin/cat", "usr/bin/dd", "usr/bin/ls")
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from.img"), filepath.Join(dir, "to.img")
	text := []byte(strings.Repeat("what the disk says. ", 1024)[:4096])
	if err := os.WriteFile(from, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	results, err := g.Run(t.Context(), Job{
		Disks: []Disk{{Name: "from", Path: from}, {Name: "to", Path: to, Writable: true}},
		Files: map[string][]byte{"note": []byte("a note")},
		Commands: []job.Command{
			{Args: []string{"/usr/bin/cat", Files + "/note", "-"}, Stdin: []byte(" and more")},
			{Args: []string{"/usr/bin/dd", "if=" + Disks + "/from", "of=" + Disks + "/to", "oflag=sync"}},
			{Args: []string{"/usr/bin/dd", "if=" + Disks + "/to", "of=" + Disks + "/from", "oflag=sync"}, MayFail: true},
			{Args: []string{"/usr/bin/ls", "/no such thing"}, MayFail: true},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the guest took %v", time.Since(start))
	if got := string(results[0].Stdout); got != "a note and more" {
		t.Errorf("the guest said %q, want a note and more", got)
	}
	if got, err := os.ReadFile(to); err != nil || string(got) != string(text) {
		t.Errorf("the guest wrote %q, %v, want what the other disk says", got, err)
	}
	if results[2].Code == 0 {
		t.Error("the guest wrote to a disk that is read-only")
	}
	if results[3].Code != 2 || !strings.Contains(string(results[3].Stderr), "No such file or directory") {
		t.Errorf("ls of nothing = %d, %q, want code 2 and why", results[3].Code, results[3].Stderr)
	}
}

// The first command that fails ends the job, and says so.
func TestFailure(t *testing.T) {
	g := open(t, "usr/bin/cat", "usr/bin/ls")
	results, err := g.Run(t.Context(), Job{Commands: []job.Command{
		{Args: []string{"/usr/bin/cat"}, Stdin: []byte("one")},
		{Args: []string{"/usr/bin/ls", "/no such thing"}},
		{Args: []string{"/usr/bin/cat"}, Stdin: []byte("never")},
	}})
	if len(results) != 2 || err == nil || !strings.Contains(err.Error(), "/no such thing: exit 2: ") {
		t.Errorf("Run = %d results, %v, want 2 and exit 2 of ls", len(results), err)
	}
	if _, err := g.Run(t.Context(), Job{Commands: []job.Command{{Args: []string{"/usr/bin/missing"}}}}); err == nil || !strings.Contains(err.Error(), "cannot run /usr/bin/missing") {
		t.Errorf("Run of a missing program = %v", err)
	}
}
