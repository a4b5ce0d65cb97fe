package cgroup

import (
	"os"
	"path/filepath"
	"testing"
)

// files writes a folder as the kernel shows one.
func files(t *testing.T, contents map[string]string) *Group {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "service")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range contents {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	g, err := Make(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

func TestLimit(t *testing.T) {
	g := files(t, map[string]string{"memory.max": "", "memory.swap.max": "", "memory.oom.group": "", "pids.max": "", "cpu.max": "", "cpu.weight": ""})
	if err := g.Limit(Limits{Memory: 16 << 20, PIDs: 20, CPU: 150, Weight: 50}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"memory.max": "16777216", "memory.swap.max": "16777216", "memory.oom.group": "1", "pids.max": "20", "cpu.max": "150000 100000", "cpu.weight": "50",
	} {
		if got, err := os.ReadFile(filepath.Join(g.path, name)); string(got) != want || err != nil {
			t.Errorf("%s = %q, %v, want %q", name, got, err, want)
		}
	}
	if err := g.Limit(Limits{Memory: 1, PIDs: 1, CPU: 1}); err == nil {
		t.Error("Limit without a weight = nil, want an error")
	}
	if err := files(t, nil).Limit(Limits{1, 1, 1, 1}); err == nil {
		t.Error("Limit without its controllers = nil, want an error")
	}
}

func TestUsage(t *testing.T) {
	g := files(t, map[string]string{
		"memory.current": "4096\n", "pids.current": "3\n", "cgroup.events": "populated 1\nfrozen 0\n",
		"memory.events": "low 0\nhigh 0\nmax 7\noom 2\noom_kill 5\noom_group_kill 1\n", "pids.events": "max 9\n",
	})
	want := Usage{Memory: 4096, PIDs: 3, OOMKills: 5, PIDsDenied: 9}
	if got, err := g.Usage(); got != want || err != nil {
		t.Errorf("Usage() = %+v, %v, want %+v", got, err, want)
	}
	if got, err := g.Populated(); !got || err != nil {
		t.Errorf("Populated() = %v, %v, want true", got, err)
	}
	for _, broken := range []string{"max", "max x", "max -1", "max 1 2"} {
		if _, err := files(t, map[string]string{"memory.current": "0\n", "pids.current": "0\n", "memory.events": broken}).Usage(); err == nil {
			t.Errorf("Usage() of memory.events = %q: no error", broken)
		}
	}
}
