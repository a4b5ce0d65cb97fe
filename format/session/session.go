// Package session prints and reads tickets: what PID 1 says of a session that it
// has started, signed, so that any service can tell who is behind a role's
// connection. The services of a role's sessions have one user; a session has its
// own ticket and no other.
//
// The key is of one boot and leaves PID 1 only as its public half. The format is
// Cloison's own (docs/formats.md); Ed25519 is RFC 8032.
package session

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Session is who is behind a role's connection.
type Session struct {
	ID   uint64 // counts from 1 in each boot
	Role string // "admin", "audit" or "update"
	Name string // of the person, from the access document
	From string // an address, or "console"
	// Started is when PID 1 started it, since the boot.
	Started time.Duration
}

var (
	roleForm = regexp.MustCompile(`^(admin|audit|update)$`)
	nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$`)
	fromForm = regexp.MustCompile(`^[0-9a-z.:\[\]]{1,64}$`)
)

// MaxTicket bounds a ticket, in bytes.
const MaxTicket = 512

// context keeps a ticket's signature from meaning anything else.
const context = "cloison session 1\n"

// Sign prints the ticket of a session.
func (s Session) Sign(key ed25519.PrivateKey) (string, error) {
	if err := s.check(); err != nil {
		return "", err
	}
	text := s.text()
	return text + " " + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(context+text))), nil
}

func (s Session) text() string {
	return strings.Join([]string{strconv.FormatUint(s.ID, 10), s.Role, s.Name, s.From, strconv.FormatInt(int64(s.Started), 10)}, " ")
}

func (s Session) check() error {
	switch {
	case s.ID == 0:
		return errors.New("session: it has no number")
	case !roleForm.MatchString(s.Role):
		return fmt.Errorf("session: %.40q is no role", s.Role)
	case !nameForm.MatchString(s.Name):
		return fmt.Errorf("session: %.80q is no name", s.Name)
	case !fromForm.MatchString(s.From):
		return fmt.Errorf("session: %.80q is no place to come from", s.From)
	case s.Started < 0:
		return errors.New("session: it began before the boot")
	}
	return nil
}

// Verify reads a ticket that the key has signed.
func Verify(ticket string, key ed25519.PublicKey) (Session, error) {
	if len(ticket) > MaxTicket || len(key) != ed25519.PublicKeySize {
		return Session{}, errors.New("session: no ticket, or no key")
	}
	words := strings.Split(ticket, " ")
	if len(words) != 6 {
		return Session{}, errors.New("session: the ticket has not six words")
	}
	text := strings.Join(words[:5], " ")
	signature, err := base64.RawURLEncoding.Strict().DecodeString(words[5])
	if err != nil || !ed25519.Verify(key, []byte(context+text), signature) {
		return Session{}, errors.New("session: the ticket is not signed by PID 1")
	}
	id, err1 := strconv.ParseUint(words[0], 10, 64)
	started, err2 := strconv.ParseInt(words[4], 10, 64)
	s := Session{ID: id, Role: words[1], Name: words[2], From: words[3], Started: time.Duration(started)}
	if err := errors.Join(err1, err2, s.check()); err != nil {
		return Session{}, err
	}
	if s.text() != text {
		return Session{}, errors.New("session: the ticket is not in its one form")
	}
	return s, nil
}
