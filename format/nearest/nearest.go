// Package nearest finds what a person probably meant to type. It needs
// package hint.
//
// Source: Levenshtein, "Binary codes capable of correcting deletions,
// insertions, and reversals", 1966.
package nearest

import (
	"fmt"
	"slices"
	"strings"

	"cloison/format/hint"
)

// Check returns nil if typed is one of the words, and else an error that says
// what kind of word is unknown, with the nearest one, or all, as its hint.
func Check(kind, typed string, words []string) error {
	if slices.Contains(words, typed) {
		return nil
	}
	err := fmt.Errorf("unknown %s %q", kind, typed)
	if near := To(typed, words); near != "" {
		return hint.Wrap(err, "did you mean %s?", near)
	}
	return hint.Wrap(err, "there are: %s", strings.Join(words, ", "))
}

// To returns the word that takes the fewest single-letter edits to get from
// typed, or "" when none is near: more than half of it would have to change.
func To(typed string, words []string) string {
	best, least := "", len(typed)/2+1
	for _, word := range words {
		if d := distance(typed, word); d < least {
			best, least = word, d
		}
	}
	return best
}

func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitute, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
