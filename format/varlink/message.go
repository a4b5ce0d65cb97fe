package varlink

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// MaxMessage is the largest message that is read or printed, in bytes.
const MaxMessage = 128 << 10

// maxDepth is how deep objects and lists may lie in each other.
const maxDepth = 16

// Call is what a client sends.
type Call struct {
	Method     string          `json:"method"` // INTERFACE.METHOD
	Parameters json.RawMessage `json:"parameters,omitempty"`
	Oneway     bool            `json:"oneway,omitempty"`  // no reply is wanted
	More       bool            `json:"more,omitempty"`    // several are understood
	Upgrade    bool            `json:"upgrade,omitempty"` // the connection is to become another
}

// Reply is what a service sends.
type Reply struct {
	Parameters json.RawMessage `json:"parameters,omitempty"`
	Continues  bool            `json:"continues,omitempty"` // another follows
	Error      string          `json:"error,omitempty"`     // INTERFACE.ERROR
}

// Names of the errors that every service has.
const (
	InterfaceNotFound    = "org.varlink.service.InterfaceNotFound"
	MethodNotFound       = "org.varlink.service.MethodNotFound"
	MethodNotImplemented = "org.varlink.service.MethodNotImplemented"
	InvalidParameter     = "org.varlink.service.InvalidParameter"
	PermissionDenied     = "org.varlink.service.PermissionDenied"
)

// Reader cuts a stream into messages.
type Reader struct{ r *bufio.Reader }

// NewReader returns a reader of r.
func NewReader(r io.Reader) *Reader { return &Reader{bufio.NewReader(r)} }

// Next returns the bytes of the next message, without the NUL that ends it. It
// returns io.EOF between two messages only.
func (r *Reader) Next() ([]byte, error) {
	var message []byte
	for {
		part, err := r.r.ReadSlice(0)
		if len(message)+len(part) > MaxMessage+1 {
			return nil, fmt.Errorf("cannot read a message: it is larger than %d bytes", MaxMessage)
		}
		message = append(message, part...)
		switch {
		case err == nil:
			return message[:len(message)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(message) == 0:
			return nil, io.EOF
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("cannot read a message: %w", io.ErrUnexpectedEOF)
		default:
			return nil, fmt.Errorf("cannot read a message: %w", err)
		}
	}
}

// ParseCall reads a call. Unknown and doubled keys are errors.
func ParseCall(message []byte) (Call, error) {
	var c Call
	if err := decode(message, &c); err != nil {
		return Call{}, fmt.Errorf("cannot parse a call: %w", err)
	}
	if _, _, ok := SplitName(c.Method); !ok {
		return Call{}, fmt.Errorf("cannot parse a call: %q is no method", c.Method)
	}
	if !isObject(c.Parameters) {
		return Call{}, errors.New("cannot parse a call: its parameters are no object")
	}
	return c, nil
}

// ParseReply reads a reply.
func ParseReply(message []byte) (Reply, error) {
	var r Reply
	if err := decode(message, &r); err != nil {
		return Reply{}, fmt.Errorf("cannot parse a reply: %w", err)
	}
	if _, _, ok := SplitName(r.Error); !ok && r.Error != "" {
		return Reply{}, fmt.Errorf("cannot parse a reply: %q is no error", r.Error)
	}
	if !isObject(r.Parameters) {
		return Reply{}, errors.New("cannot parse a reply: its parameters are no object")
	}
	return r, nil
}

// Print returns a call as it is sent, with its NUL.
func (c Call) Print() ([]byte, error) { return encode(c) }

// Print returns a reply as it is sent, with its NUL.
func (r Reply) Print() ([]byte, error) { return encode(r) }

func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err == nil && len(b) > MaxMessage {
		err = fmt.Errorf("it is larger than %d bytes", MaxMessage)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot print a message: %w", err)
	}
	return append(b, 0), nil // JSON has no NUL: it is escaped
}

func isObject(b json.RawMessage) bool { return len(b) == 0 || b[0] == '{' }

// decode reads one JSON value that is sane, and nothing behind it.
func decode(b []byte, into any) error {
	if err := sane(b); err != nil {
		return err
	}
	// Go takes keys of any case; Varlink does not.
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(b, &keys); err != nil {
		return errors.New("it is no object")
	}
	for key := range keys {
		if key != strings.ToLower(key) {
			return fmt.Errorf("unknown key %.40q", key)
		}
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return errors.New("it has unknown keys or wrong types")
	}
	return nil
}

// sane refuses what parsers could read differently: bytes that are no UTF-8, a
// key twice in an object, nesting without bound, more than one value.
func sane(b []byte) error {
	if len(b) > MaxMessage {
		return fmt.Errorf("it is larger than %d bytes", MaxMessage)
	}
	if !utf8.Valid(b) {
		return errors.New("it is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := value(d, 0); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more behind it")
	}
	return nil
}

func value(d *json.Decoder, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("it is nested deeper than %d", maxDepth)
	}
	t, err := d.Token()
	if err != nil {
		return errors.New("it is not JSON")
	}
	switch t {
	case json.Delim('{'):
		seen := map[string]bool{}
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return errors.New("it is not JSON")
			}
			name, ok := key.(string)
			if !ok || seen[name] {
				return fmt.Errorf("the key %.40q stands twice", name)
			}
			seen[name] = true
			if err := value(d, depth+1); err != nil {
				return err
			}
		}
	case json.Delim('['):
		for d.More() {
			if err := value(d, depth+1); err != nil {
				return err
			}
		}
	default:
		return nil
	}
	if _, err := d.Token(); err != nil {
		return errors.New("it is not JSON")
	}
	return nil
}
