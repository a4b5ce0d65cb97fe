package nearest

import "testing"

func TestTo(t *testing.T) {
	words := []string{"gateway", "admin", "office"}
	for _, test := range []struct{ typed, want string }{
		{"gatway", "gateway"},
		{"gateway", "gateway"},
		{"amdin", "admin"},
		{"ofice", "office"},
		{"server", ""},
		{"", ""},
	} {
		if got := To(test.typed, words); got != test.want {
			t.Errorf("To(%q) = %q, want %q", test.typed, got, test.want)
		}
	}
}
