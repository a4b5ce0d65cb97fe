package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"cloison/format/nearest"
)

// Revision is one state of the whole configuration, and how it came to be. The
// first has the number 1; number 0 is what the product brings.
type Revision struct {
	Number uint64 `json:"number"`
	// Time is when it was committed, by the machine's clock, which may have been
	// wrong: the number is what orders revisions.
	Time time.Time `json:"time"`
	What string    `json:"what"` // "commit", "rollback to N", "seed NAME"
	By   Person    `json:"by"`
	// ConfirmedBy is who confirmed it, from another session; nobody has to
	// confirm a seed.
	ConfirmedBy Person   `json:"confirmed_by"`
	Changes     []Change `json:"changes"` // to the revision before
	// Documents has what differs from the product's defaults, by concern.
	Documents map[string]string `json:"documents"`
}

// Person is who did something. The zero one is nobody.
type Person struct {
	Name    string `json:"name"`
	Role    string `json:"role"`
	From    string `json:"from"`
	Session uint64 `json:"session"` // its number in that boot
}

func (p Person) String() string {
	if p == (Person{}) {
		return "nobody"
	}
	return fmt.Sprintf("%s (%s, from %s, session %d)", p.Name, p.Role, p.From, p.Session)
}

// maxRevision bounds a revision, in bytes: its documents, and as much for what
// it changes.
const maxRevision = 1 << 20

// MaxTotal bounds all documents of a revision together, in bytes.
const MaxTotal = 64 << 10

var whatForm = regexp.MustCompile(`^(commit|rollback to [0-9]{1,19}|seed [A-Za-z0-9][A-Za-z0-9._@-]{0,62})$`)

// Print prints a revision: JSON on one line.
func (r Revision) Print() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("cannot print a revision: %w", err)
	}
	r.Time = r.Time.UTC().Truncate(time.Second)
	if r.Changes == nil {
		r.Changes = []Change{}
	}
	if r.Documents == nil {
		r.Documents = map[string]string{}
	}
	b, err := json.Marshal(r)
	if err == nil && len(b) >= maxRevision {
		err = fmt.Errorf("it is larger than %d bytes", maxRevision)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot print a revision: %w", err)
	}
	return append(b, '\n'), nil
}

func (r Revision) check() error {
	total := 0
	for concern, text := range r.Documents {
		// A revision of another release may have a document that this one does
		// not know: who uses it sees to that.
		if concern == "" || len(concern) > 40 || strings.ContainsFunc(concern, unicode.IsControl) {
			return fmt.Errorf("%.40q is no name of a document", concern)
		}
		total += len(text)
	}
	switch {
	case r.Number == 0:
		return errors.New("it has no number")
	case !whatForm.MatchString(r.What):
		return fmt.Errorf("%.80q is not what makes a revision", r.What)
	case r.By.Name == "":
		return errors.New("nobody made it")
	case total > MaxTotal:
		return fmt.Errorf("its documents are larger than %d bytes", MaxTotal)
	case r.Time.Year() < 1970 || r.Time.Year() > 9999:
		return errors.New("its time is none")
	}
	return nil
}

// ParseRevision reads what Print printed, and nothing else.
func ParseRevision(text []byte) (Revision, error) {
	if len(text) > maxRevision || !utf8.Valid(text) {
		return Revision{}, fmt.Errorf("cannot parse a revision: it is larger than %d bytes, or not UTF-8", maxRevision)
	}
	var r Revision
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(&r)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("there is more behind it")
		}
	}
	if err != nil {
		return Revision{}, fmt.Errorf("cannot parse a revision: %w", err)
	}
	again, err := r.Print()
	if err == nil && !bytes.Equal(again, text) {
		err = errors.New("it is not in its one form")
	}
	if err != nil {
		return Revision{}, fmt.Errorf("cannot parse a revision: %w", err)
	}
	return r, nil
}

// Set is all documents, by concern.
type Set map[string]Document

// ParseSet reads documents over others; a concern without a text is as in the
// other set. An unknown one is an error.
func ParseSet(texts map[string]string, over Set) (Set, error) {
	for concern := range texts {
		if err := nearest.Check("document", concern, Concerns()); err != nil {
			return nil, err
		}
	}
	all, total := Set{}, 0
	for _, concern := range Concerns() {
		d, err := Parse(concern, []byte(texts[concern]), over[concern])
		if err != nil {
			return nil, err
		}
		all[concern] = d
		total += len(Print(d))
	}
	if total > MaxTotal {
		return nil, fmt.Errorf("all documents together are larger than %d bytes", MaxTotal)
	}
	return all, nil
}

// Texts prints all documents as their owners get them.
func (s Set) Texts() map[string]string {
	texts := map[string]string{}
	for concern, d := range s {
		texts[concern] = string(Print(d))
	}
	return texts
}

// Complete prints all documents as people get them, so that ParseSet over the
// same others reads them back.
func (s Set) Complete(over Set) map[string]string {
	texts := map[string]string{}
	for concern, d := range s {
		texts[concern] = string(Complete(d, over[concern]))
	}
	return texts
}

// Kept returns what of the documents has to be kept over others.
func (s Set) Kept(over Set) map[string]string {
	texts := map[string]string{}
	for concern, d := range s {
		if text := Difference(d, over[concern]); len(text) > 0 {
			texts[concern] = string(text)
		}
	}
	return texts
}

// Changes is what changes from one set to another, in the order in which it is
// applied.
func Changes(from, to Set) []Change {
	changes := []Change{}
	for _, concern := range Concerns() {
		changes = append(changes, Diff(concern, from[concern], to[concern])...)
	}
	return changes
}
