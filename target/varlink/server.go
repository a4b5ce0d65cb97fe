// Package varlink answers Varlink calls on a Unix socket, and makes them. Who
// calls is what the kernel says; which of them may call what stands in one table
// for each service, and a method without a row is called by nobody.
//
// It needs a listening socket (cloison/target/service) and interface definitions
// (cloison/format/varlink). Source: varlink.org, "Service Interface".
package varlink

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	format "cloison/format/varlink"
	"cloison/linux/socket"
)

const (
	// maxConnections is how many clients are served at the same time, by one
	// service; others wait to be accepted.
	maxConnections = 16
	// idle is how long a connection may be silent, or not take its reply.
	idle = 30 * time.Second
)

//go:embed org.varlink.service.varlink
var serviceDefinition string

const serviceInterface = "org.varlink.service"

// Service is what a server offers.
type Service struct {
	Product, Version string
	// Definitions are the texts of its interfaces.
	Definitions []string
	// Methods has a row for each method of each interface.
	Methods []Method
	// Peers names users. One without a name may call nothing at all.
	Peers map[uint32]string
}

// Method is a row of the access table.
type Method struct {
	Name string   // INTERFACE.METHOD
	Who  []string // services that may call it
	// Do answers. Parameters are of the type that the definition says, and so
	// must be the reply.
	Do func(caller string, parameters json.RawMessage) (reply any, err error)
}

// Error is an error of an interface, which the caller gets to see. Others it
// does not: they end the connection, and are the server's to report.
type Error struct {
	Name       string // INTERFACE.ERROR
	Parameters any
}

func (e *Error) Error() string { return e.Name }

// Server serves one Service.
type Server struct {
	service    Service
	interfaces map[string]*format.Interface
	texts      map[string]string
	names      []string
	methods    map[string]Method
}

// New checks that definitions and table fit: each method has its row, and each
// row its method.
func New(s Service) (*Server, error) {
	server := &Server{service: s, interfaces: map[string]*format.Interface{}, texts: map[string]string{}, methods: map[string]Method{}}
	for _, text := range append([]string{serviceDefinition}, s.Definitions...) {
		i, err := format.ParseInterface(text)
		if err != nil {
			return nil, err
		}
		if server.interfaces[i.Name] != nil {
			return nil, fmt.Errorf("the interface %s is there twice", i.Name)
		}
		server.interfaces[i.Name], server.texts[i.Name] = i, text
		server.names = append(server.names, i.Name)
	}
	for _, m := range s.Methods {
		if _, ok := server.methods[m.Name]; ok {
			return nil, fmt.Errorf("the method %s has two rows", m.Name)
		}
		if _, _, ok := server.find(m.Name); !ok {
			return nil, fmt.Errorf("the row %s is of no method", m.Name)
		}
		server.methods[m.Name] = m
	}
	for name, i := range server.interfaces {
		for _, method := range i.Methods() {
			if _, ok := server.methods[name+"."+method]; !ok && name != serviceInterface {
				return nil, fmt.Errorf("the method %s.%s has no row: say who may call it, if nobody else then nobody", name, method)
			}
		}
	}
	slices.Sort(server.names)
	return server, nil
}

// find returns the definition of a method by its full name.
func (s *Server) find(name string) (*format.Interface, format.Member, bool) {
	of, method, ok := format.SplitName(name)
	if !ok || s.interfaces[of] == nil {
		return nil, format.Member{}, false
	}
	m, ok := s.interfaces[of].Find("method", method)
	return s.interfaces[of], m, ok
}

// Serve answers until the listening socket fails. report gets what went wrong
// with single connections, and calls that were refused.
func (s *Server) Serve(l *os.File, report func(error)) error {
	places := make(chan struct{}, maxConnections)
	var open sync.WaitGroup
	defer open.Wait()
	for {
		places <- struct{}{}
		c, err := socket.Accept(l)
		if err != nil {
			return err
		}
		open.Go(func() {
			defer func() { <-places }()
			if err := errors.Join(s.connection(c, report), c.Close()); err != nil {
				report(err)
			}
		})
	}
}

// connection answers the calls of one client, one after the other.
func (s *Server) connection(c *os.File, report func(error)) error {
	peer, err := socket.PeerOf(c)
	if err != nil {
		return err
	}
	caller := s.service.Peers[peer.UID]
	r := format.NewReader(c)
	for {
		if err := c.SetDeadline(time.Now().Add(idle)); err != nil {
			return err
		}
		message, err := r.Next()
		if errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("user %d (%s): %w", peer.UID, caller, err)
		}
		call, err := format.ParseCall(message)
		if err != nil {
			return fmt.Errorf("user %d (%s): %w", peer.UID, caller, err)
		}
		reply, err := s.answer(caller, call)
		if err != nil {
			return fmt.Errorf("cannot answer %s of %s: %w", call.Method, caller, err)
		}
		if reply.Error == format.PermissionDenied {
			report(fmt.Errorf("user %d (%s) may not call %s", peer.UID, caller, call.Method))
		}
		if call.Oneway {
			continue
		}
		b, err := reply.Print()
		if err == nil {
			_, err = c.Write(b)
		}
		if err != nil {
			return fmt.Errorf("cannot answer %s of %s: %w", call.Method, caller, err)
		}
	}
}

// answer finds the reply to a call. Who may not call a method is not told whether
// its parameters are right.
func (s *Server) answer(caller string, call format.Call) (format.Reply, error) {
	of, name, _ := format.SplitName(call.Method)
	i := s.interfaces[of]
	if i == nil {
		return failure(format.InterfaceNotFound, map[string]string{"interface": of})
	}
	m, ok := i.Find("method", name)
	if !ok {
		return failure(format.MethodNotFound, map[string]string{"method": call.Method})
	}
	if of != serviceInterface && (caller == "" || !slices.Contains(s.methods[call.Method].Who, caller)) {
		return failure(format.PermissionDenied, nil)
	}
	if call.Upgrade {
		return failure(format.MethodNotImplemented, map[string]string{"method": call.Method})
	}
	if wrong := i.Check(m.In, call.Parameters); wrong != "" {
		return failure(format.InvalidParameter, map[string]string{"parameter": wrong})
	}
	var reply any
	var err error
	if of == serviceInterface {
		reply, err = s.describe(name, call.Parameters)
	} else {
		reply, err = s.methods[call.Method].Do(caller, call.Parameters)
	}
	var known *Error
	if errors.As(err, &known) {
		return failure(known.Name, known.Parameters)
	}
	if err != nil {
		return format.Reply{}, err
	}
	b, err := json.Marshal(reply)
	if err != nil {
		return format.Reply{}, err
	}
	if wrong := i.Check(m.Out, b); wrong != "" {
		return format.Reply{}, fmt.Errorf("internal error: the reply's %s is not what the definition says", wrong)
	}
	return format.Reply{Parameters: b}, nil
}

func failure(name string, parameters any) (format.Reply, error) {
	r := format.Reply{Error: name}
	if parameters != nil {
		var err error
		if r.Parameters, err = json.Marshal(parameters); err != nil {
			return format.Reply{}, err
		}
	}
	return r, nil
}

// describe answers the methods that every service has.
func (s *Server) describe(method string, parameters json.RawMessage) (any, error) {
	if method == "GetInfo" {
		return map[string]any{
			"vendor": "Cloison", "product": s.service.Product, "version": s.service.Version, "url": "", "interfaces": s.names,
		}, nil
	}
	var in struct {
		Interface string `json:"interface"`
	}
	if err := json.Unmarshal(parameters, &in); err != nil {
		return nil, err
	}
	text, ok := s.texts[in.Interface]
	if !ok {
		return nil, &Error{format.InterfaceNotFound, map[string]string{"interface": in.Interface}}
	}
	return map[string]string{"description": text}, nil
}
