// Package apply is how a document of the configuration comes to hold: its owner
// serves the interface cloison.Apply, and the configuration service calls it. A
// document is the canonical text of package config.
//
// It needs a socket of the owner that only the configuration service may use.
package apply

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"cloison/target/varlink"
)

// Definition is the text of the interface.
//
//go:embed cloison.apply.varlink
var Definition string

// Caller is the service that may call.
const Caller = "configd"

const (
	applyMethod   = "cloison.Apply.Apply"
	runningMethod = "cloison.Apply.Running"
	refusedError  = "cloison.Apply.Refused"
)

// Owner makes the documents of one concern hold.
type Owner interface {
	// Apply returns when the document holds. An error says why it cannot, and
	// leaves what was.
	Apply(document []byte) error
	// Running returns the document that holds.
	Running() []byte
}

// Methods are the rows of the access table for an owner.
func Methods(o Owner) []varlink.Method {
	return []varlink.Method{
		{Name: applyMethod, Who: []string{Caller}, Do: func(_ string, parameters json.RawMessage) (any, error) {
			var in struct {
				Document string `json:"document"`
			}
			if err := json.Unmarshal(parameters, &in); err != nil {
				return nil, err
			}
			if err := o.Apply([]byte(in.Document)); err != nil {
				return nil, &varlink.Error{Name: refusedError, Parameters: map[string]string{"reason": err.Error()}}
			}
			return struct{}{}, nil
		}},
		{Name: runningMethod, Who: []string{Caller}, Do: func(string, json.RawMessage) (any, error) {
			return map[string]string{"document": string(o.Running())}, nil
		}},
	}
}

// Remote is the owner behind a socket.
type Remote struct {
	Socket   string        // path
	Patience time.Duration // for one call
}

// Apply calls the owner's Apply. What it refuses is told in its words.
func (r Remote) Apply(document []byte) error {
	err := varlink.Do(r.Socket, applyMethod, map[string]string{"document": string(document)}, &struct{}{}, r.Patience)
	var known *varlink.Error
	if !errors.As(err, &known) || known.Name != refusedError {
		return err
	}
	raw, _ := known.Parameters.(json.RawMessage)
	var why struct {
		Reason string `json:"reason"`
	}
	if err := json.Unmarshal(raw, &why); err != nil {
		return fmt.Errorf("cannot hear why the document was refused: %w", err)
	}
	return errors.New(why.Reason)
}

// Running calls the owner's Running.
func (r Remote) Running() ([]byte, error) {
	var reply struct {
		Document string `json:"document"`
	}
	err := varlink.Do(r.Socket, runningMethod, struct{}{}, &reply, r.Patience)
	return []byte(reply.Document), err
}
