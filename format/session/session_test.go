package session

import (
	"crypto/ed25519"
	"strings"
	"testing"
	"time"
)

var key = ed25519.NewKeyFromSeed([]byte(strings.Repeat("k", ed25519.SeedSize)))

func public() ed25519.PublicKey { p, _ := key.Public().(ed25519.PublicKey); return p }

var alice = Session{ID: 7, Role: "admin", Name: "alice", From: "2001:db8::1", Started: 90 * time.Second}

func TestTicket(t *testing.T) {
	ticket, err := alice.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Verify(ticket, public()); err != nil || got != alice {
		t.Errorf("Verify(%q) = %+v, %v, want %+v", ticket, got, err, alice)
	}
	// Nobody becomes another by changing his ticket.
	for i := range ticket {
		for _, c := range []byte("0a /") {
			changed := ticket[:i] + string(c) + ticket[i+1:]
			if s, err := Verify(changed, public()); err == nil && changed != ticket {
				t.Errorf("Verify(%q) = %+v: it is not what was signed", changed, s)
			}
		}
	}
	other := ed25519.NewKeyFromSeed([]byte(strings.Repeat("o", ed25519.SeedSize)))
	if ticket, err = alice.Sign(other); err != nil {
		t.Fatal(err)
	}
	if s, err := Verify(ticket, public()); err == nil {
		t.Errorf("Verify of a ticket of another boot = %+v", s)
	}
}

func TestSignRefuses(t *testing.T) {
	for _, change := range []func(*Session){
		func(s *Session) { s.ID = 0 },
		func(s *Session) { s.Role = "root" },
		func(s *Session) { s.Name = "" },
		func(s *Session) { s.Name = "a b" },
		func(s *Session) { s.Name = "a\nb" },
		func(s *Session) { s.From = "" },
		func(s *Session) { s.From = "a b" },
		func(s *Session) { s.Started = -1 },
	} {
		s := alice
		change(&s)
		if ticket, err := s.Sign(key); err == nil {
			t.Errorf("Sign(%+v) = %q", s, ticket)
		}
	}
}

func FuzzVerify(f *testing.F) {
	ticket, err := alice.Sign(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ticket)
	f.Fuzz(func(t *testing.T, ticket string) {
		s, err := Verify(ticket, public())
		if err != nil {
			return
		}
		if again, err := s.Sign(key); err != nil || again != ticket {
			t.Errorf("Sign(Verify(%q)) = %q, %v", ticket, again, err)
		}
	})
}
