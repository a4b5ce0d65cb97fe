package config

import (
	"crypto/ed25519"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"cloison/format/config"
	"cloison/format/hint"
	"cloison/format/session"
	"cloison/target/varlink"
)

//go:embed cloison.config.varlink
var definition string

const (
	interfaceName = "cloison.Config"
	admin         = "role-admin"
	audit         = "role-audit"
	rolePrefix    = "role-"
)

// maxHistory is how many revisions are told at once.
const maxHistory = 50

// maxReply leaves room in a message for its frame, in bytes.
const maxReply = 100 << 10

// Offer is what the service offers on its socket. key is the public half of PID
// 1's for tickets.
func (e *Engine) Offer(peers map[uint32]string, key ed25519.PublicKey) varlink.Service {
	s := server{e, key}
	row := func(name string, do func(s session.Session, in parameters) (any, error), who ...string) varlink.Method {
		return varlink.Method{Name: interfaceName + "." + name, Who: who, Do: s.call(name, do)}
	}
	return varlink.Service{
		Product: "cloison", Version: "1", Definitions: []string{definition}, Peers: peers,
		Methods: []varlink.Method{
			row("Documents", s.documents, admin),
			row("Check", s.check, admin),
			row("Commit", s.commit, admin),
			row("Rollback", s.rollback, admin),
			row("Confirm", s.confirm, admin),
			row("TakeBack", s.takeBack, admin),
			row("History", s.history, admin, audit),
			row("Between", s.between, admin, audit),
		},
	}
}

// parameters are those of all methods: the definition says which are there.
type parameters struct {
	Ticket    string            `json:"ticket"`
	Revision  uint64            `json:"revision"`
	Documents map[string]string `json:"documents"`
	Seconds   int64             `json:"seconds"`
	Number    uint64            `json:"number"`
	Before    uint64            `json:"before"`
	After     uint64            `json:"after"`
}

type server struct {
	*Engine
	key ed25519.PublicKey
}

// call finds out who asks, and says in the log what was refused to whom.
func (s server) call(name string, do func(session.Session, parameters) (any, error)) func(string, json.RawMessage) (any, error) {
	return func(caller string, raw json.RawMessage) (any, error) {
		var in parameters
		if err := json.Unmarshal(raw, &in); err != nil {
			// The definition has integers of 64 bits with a sign.
			return nil, refusal(errors.New("a number is out of range"))
		}
		who, err := session.Verify(in.Ticket, s.key)
		if err != nil || rolePrefix+who.Role != caller {
			s.o.Say(fmt.Sprintf("%s calls %s with a ticket that is not its own: %v", caller, name, err))
			return nil, &varlink.Error{Name: interfaceName + ".NoSession", Parameters: struct{}{}}
		}
		reply, err := do(who, in)
		if err != nil {
			s.o.Say(fmt.Sprintf("%s is refused to %v: %v", name, person(who), err))
			return nil, refusal(err)
		}
		return reply, nil
	}
}

func refusal(err error) error {
	return &varlink.Error{Name: interfaceName + ".Refused", Parameters: map[string]string{"reason": err.Error(), "hint": hint.Of(err)}}
}

func (s server) documents(session.Session, parameters) (any, error) {
	number, set := s.Documents()
	return map[string]any{"revision": number, "documents": set.Complete(s.o.Defaults), "defaults": s.o.Defaults.Texts()}, nil
}

func (s server) check(_ session.Session, in parameters) (any, error) {
	changes, err := s.Check(in.Revision, in.Documents)
	return map[string]any{"changes": changes}, err
}

func (s server) commit(who session.Session, in parameters) (any, error) {
	return committed(s.Commit(who, in.Revision, in.Documents, seconds(in.Seconds)))
}

func (s server) rollback(who session.Session, in parameters) (any, error) {
	return committed(s.Rollback(who, in.Number, seconds(in.Seconds)))
}

func committed(number uint64, wait time.Duration, changes []config.Change, err error) (any, error) {
	return map[string]any{"number": number, "seconds": int64(wait / time.Second), "changes": changes}, err
}

// seconds is a duration of a caller, who may have said anything.
func seconds(n int64) time.Duration {
	return time.Duration(min(max(n, 0), int64(maxWait/time.Second))) * time.Second
}

func (s server) confirm(who session.Session, _ parameters) (any, error) {
	number, err := s.Confirm(who)
	return map[string]any{"number": number}, err
}

func (s server) takeBack(who session.Session, _ parameters) (any, error) {
	return struct{}{}, s.TakeBack(who)
}

func (s server) between(_ session.Session, in parameters) (any, error) {
	changes, err := s.Between(in.Before, in.After)
	return map[string]any{"changes": changes}, err
}

// told is a revision without its documents, which have secrets.
type told struct {
	Number      uint64          `json:"number"`
	Time        time.Time       `json:"time"`
	What        string          `json:"what"`
	By          config.Person   `json:"by"`
	ConfirmedBy config.Person   `json:"confirmed_by"`
	Changes     []config.Change `json:"changes"`
}

func tell(r config.Revision) told {
	return told{r.Number, r.Time.UTC().Truncate(time.Second), r.What, r.By, r.ConfirmedBy, r.Changes}
}

func (s server) history(session.Session, parameters) (any, error) {
	revisions, err := s.History(maxHistory)
	if err != nil {
		return nil, err
	}
	reply := struct {
		Revisions []told `json:"revisions"`
		Waiting   *told  `json:"waiting,omitempty"`
		Seconds   int64  `json:"seconds"`
	}{Revisions: []told{}}
	if r, left, ok := s.Waiting(); ok {
		w := tell(r)
		reply.Waiting, reply.Seconds = &w, int64(max(left, 0)/time.Second)
	}
	size := 0
	for _, r := range revisions {
		t := tell(r)
		b, err := json.Marshal(t)
		if err != nil {
			return nil, err
		}
		if size += len(b); size > maxReply {
			break
		}
		reply.Revisions = append(reply.Revisions, t)
	}
	return reply, nil
}
