package passphrase

import (
	"crypto/rand"
	"strings"
	"testing"
)

func TestPrint(t *testing.T) {
	for _, test := range []struct {
		random [16]byte
		want   string // made with a few lines of Python
	}{
		{[16]byte{}, "0000-0000-0000-0000-0000-0000-012w"},
		{[16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255}, "000g-40r4-0m30-e209-185g-r38e-zx61"},
	} {
		if got := Print(test.random); got != test.want {
			t.Errorf("Print(%x) = %q, want %q", test.random, got, test.want)
		}
	}
}

func TestParse(t *testing.T) {
	const right = "000g-40r4-0m30-e209-185g-r38e-zx61"
	bare := strings.ReplaceAll(right, "-", "")
	for _, test := range []struct {
		typed string
		ok    bool
	}{
		{right, true},
		{strings.ToUpper(right), true},
		{bare, true},
		{" " + strings.ReplaceAll(right, "-", " ") + "\n", true},
		{strings.ReplaceAll(right, "0", "o"), true},
		{strings.ReplaceAll(right, "1", "l"), true},
		{bare[1:], false},
		{bare + "0", false},
		{"", false},
		{strings.Replace(right, "0", "u", 1), false},
		{bare[:27] + "é", false},
	} {
		got, err := Parse(test.typed)
		if (err == nil) != test.ok || test.ok && got != right {
			t.Errorf("Parse(%q) = %q, %v, want ok %t", test.typed, got, err, test.ok)
		}
	}
	// One character wrong, and two neighbours swapped.
	for i := range bare {
		for _, c := range alphabet {
			if changed := bare[:i] + string(c) + bare[i+1:]; changed != bare {
				if got, err := Parse(changed); err == nil && i < 25 {
					t.Logf("Parse(%q) = %q: one of 4096 that the checksum does not see", changed, got)
				} else if err == nil {
					t.Errorf("Parse(%q) = %q, want an error", changed, got)
				}
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("000g-40r4-0m30-e209-185g-r38e-zx61")
	f.Fuzz(func(t *testing.T, typed string) {
		got, err := Parse(typed)
		if err != nil {
			return
		}
		if again, err := Parse(got); err != nil || again != got {
			t.Fatalf("Parse(%q) = %q, but that reads as %q, %v", typed, got, again, err)
		}
	})
}

func TestRandom(t *testing.T) {
	for range 100 {
		var random [16]byte
		if _, err := rand.Read(random[:]); err != nil {
			t.Fatal(err)
		}
		text := Print(random)
		if got, err := Parse(text); err != nil || got != text {
			t.Fatalf("Parse(%q) = %q, %v", text, got, err)
		}
	}
}

func TestCheckChosen(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"correct horse battery staple", ""},
		{"abcdefgh abcdefgh", ""},
		{"abcdefghabcdefgh", ""},
		{strings.Repeat("abcdefghij", 20), ""},
		{"", "16 characters at least, this one 0"},
		{"abcdefghabcdefg", "16 characters at least, this one 15"},
		{"abcdefgabcdefgabcdefg", "8 different characters at least, this one 7"},
		{strings.Repeat("a", 40), "8 different characters at least, this one 1"},
		{strings.Repeat("abcdefghij", 20) + "x", "200 characters at most, this one 201"},
		{"pässword pässword", "ASCII"},
		{"abcdefgh\tabcdefgh", "ASCII"},
	} {
		err := CheckChosen(test.text)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("CheckChosen(%q) = %v, want %q", test.text, err, test.want)
		}
	}
}
