package machine

import "testing"

func TestInMenu(t *testing.T) {
	for text, want := range map[string]bool{
		"":                            false,
		"BdsDxe: starting Boot0001\n": false,
		"BdsDxe: starting Boot0001\n  Cloison   Cloison (recovery)  ":                      false,
		"BdsDxe: starting Boot0001\n  Cloison   Cloison (recovery)   Boot in 1 s.   ─────": true,
		"  Cloison (recovery)   Boot in 1 s.   ─────   Cloison":                            true,
		"  Cloison (recovery)   Boot in 1 s.   ─────cloison: 1.2 s: initramfs of 0.1.0\n":  false,
		"Boot in 1 s.  ──cloison: refused\n BdsDxe: starting\n Boot in 1 s.  ──":           true,
	} {
		if got := inMenu(text); got != want {
			t.Errorf("inMenu(%q) = %t", text, got)
		}
	}
}
