package varlink

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	format "cloison/format/varlink"
	"cloison/linux/socket"
)

// Do calls a method at the socket at path and puts the reply's parameters into
// reply. What the service refuses is an *Error.
func Do(path, method string, parameters, reply any, patience time.Duration) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot call %s: %w", method, err)
		}
	}()
	in, err := json.Marshal(parameters)
	if err != nil {
		return err
	}
	message, err := format.Call{Method: method, Parameters: in}.Print()
	if err != nil {
		return err
	}
	c, err := socket.Dial(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := c.Write(message); err != nil {
		return err
	}
	b, err := format.NewReader(c).Next()
	if err != nil {
		return err
	}
	r, err := format.ParseReply(b)
	if err != nil {
		return err
	}
	if r.Error != "" {
		return &Error{Name: r.Error, Parameters: r.Parameters}
	}
	return json.Unmarshal(r.Parameters, reply)
}
