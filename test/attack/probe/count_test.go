package probe

import "testing"

// TestNames: an attempt is ordered by its name.
func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range Attempts() {
		if seen[a.Name] || a.Name == "" || a.Group == "" {
			t.Errorf("%q in %q has no name of its own", a.Name, a.Group)
		}
		seen[a.Name] = true
	}
	t.Log(len(seen))
}
