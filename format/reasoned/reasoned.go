// Package reasoned reads the list format that Cloison's sources use wherever
// a person has to be able to ask "why is this here?": one item a line, and
// beside it its reason.
//
//	ITEM   # REASON
//
// A line that begins with # is a comment for the whole list; an empty line
// is ignored. An item without a reason, or one that is listed twice, is an
// error. It needs nothing; the format is Cloison's own (docs/formats.md).
package reasoned

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// Item is one line of a list.
type Item struct {
	Text   string // what stands before the #, without the space around it
	Reason string // never empty
	Line   int    // counted from 1
}

// Parse reads a whole list. name is what errors call it.
func Parse(name string, r io.Reader) ([]Item, error) {
	var items []Item
	seen := map[string]int{}
	scanner := bufio.NewScanner(r)
	for n := 1; scanner.Scan(); n++ {
		line := strings.TrimSpace(scanner.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		text, reason, _ := strings.Cut(line, " #")
		text, reason = strings.TrimSpace(text), strings.TrimSpace(reason)
		if reason == "" {
			return nil, fmt.Errorf("%s:%d: %q has no reason beside it", name, n, text)
		}
		if first, twice := seen[text]; twice {
			return nil, fmt.Errorf("%s:%d: %q stands on line %d already", name, n, text, first)
		}
		seen[text] = n
		items = append(items, Item{text, reason, n})
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", name, err)
	}
	return items, nil
}
