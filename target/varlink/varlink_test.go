package varlink

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	format "cloison/format/varlink"
	"cloison/linux/socket"
)

const definition = `interface test.echo

method Echo(text: string) -> (text: string)

method Hidden() -> ()

method Broken() -> (n: int)

error Empty ()
`

func service(who ...string) Service {
	return Service{
		Product: "test", Version: "1", Definitions: []string{definition}, Peers: map[uint32]string{uint32(os.Getuid()): "tester"},
		Methods: []Method{
			{"test.echo.Echo", who, func(_ string, p json.RawMessage) (any, error) {
				var in struct {
					Text string `json:"text"`
				}
				if err := json.Unmarshal(p, &in); err != nil {
					return nil, err
				}
				if in.Text == "" {
					return nil, &Error{Name: "test.echo.Empty"}
				}
				return in, nil
			}},
			{"test.echo.Hidden", nil, nil},
			{"test.echo.Broken", who, func(string, json.RawMessage) (any, error) { return map[string]string{"n": "no"}, nil }},
		},
	}
}

// serve runs a server and returns its path.
func serve(t *testing.T, s Service) string {
	t.Helper()
	server, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s")
	l, err := socket.Listen(path, socket.Stream, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(l, func(error) {}); !errors.Is(err, os.ErrClosed) {
			t.Errorf("Serve() = %v, want that the socket is closed", err)
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	return path
}

func TestCalls(t *testing.T) {
	path := serve(t, service("tester"))
	var out struct{ Text string }
	for _, c := range []struct {
		method     string
		parameters any
		want       string
	}{
		{"test.echo.Echo", map[string]any{"text": ""}, "test.echo.Empty"},
		{"test.echo.Echo", map[string]any{"text": 1}, format.InvalidParameter},
		{"test.echo.Echo", map[string]any{}, format.InvalidParameter},
		{"test.echo.Echo", map[string]any{"text": "a", "more": 1}, format.InvalidParameter},
		{"test.echo.Hidden", map[string]any{}, format.PermissionDenied},
		{"test.echo.Other", map[string]any{}, format.MethodNotFound},
		{"test.other.Echo", map[string]any{}, format.InterfaceNotFound},
		{"org.varlink.service.GetInterfaceDescription", map[string]any{"interface": "a.b"}, format.InterfaceNotFound},
	} {
		err := Do(path, c.method, c.parameters, &out, 10*time.Second)
		var refused *Error
		if !errors.As(err, &refused) || refused.Name != c.want {
			t.Errorf("Do(%s, %v) = %v, want %s", c.method, c.parameters, err, c.want)
		}
	}
	if err := Do(path, "test.echo.Echo", map[string]any{"text": "a"}, &out, 10*time.Second); out.Text != "a" || err != nil {
		t.Errorf("Do(Echo) = %q, %v, want a", out.Text, err)
	}
	// A reply that breaks the definition is not sent.
	if err := Do(path, "test.echo.Broken", map[string]any{}, &out, 10*time.Second); err == nil {
		t.Error("Do(Broken) = nil, want an error")
	}
	var info struct{ Interfaces []string }
	if err := Do(path, "org.varlink.service.GetInfo", map[string]any{}, &info, 10*time.Second); strings.Join(info.Interfaces, " ") != "org.varlink.service test.echo" || err != nil {
		t.Errorf("GetInfo = %q, %v", info.Interfaces, err)
	}
}

// Who is not in the table, or not known at all, is refused.
func TestStrangers(t *testing.T) {
	for name, s := range map[string]Service{"no row": service("other"), "no name": func() Service { s := service("tester", ""); s.Peers = nil; return s }()} {
		var refused *Error
		err := Do(serve(t, s), "test.echo.Echo", map[string]any{"text": "a"}, &struct{}{}, 10*time.Second)
		if !errors.As(err, &refused) || refused.Name != format.PermissionDenied {
			t.Errorf("%s: Do() = %v, want %s", name, err, format.PermissionDenied)
		}
	}
}

func TestTheTableIsWhole(t *testing.T) {
	missing := service("tester")
	missing.Methods = missing.Methods[1:]
	double := service("tester")
	double.Methods = append(double.Methods, double.Methods[0])
	other := service("tester")
	other.Methods[0].Name = "test.echo.Ecko"
	for name, s := range map[string]Service{"missing": missing, "double": double, "other": other} {
		if _, err := New(s); err == nil {
			t.Errorf("New with a row %s = nil, want an error", name)
		}
	}
}

// A client that sends what is no call is cut off; others are still served.
func TestNonsense(t *testing.T) {
	path := serve(t, service("tester"))
	for _, nonsense := range []string{"\x00", "{}\x00", strings.Repeat("x", 2*format.MaxMessage)} {
		c, err := socket.Dial(path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.WriteString(nonsense) // it may be cut off before its end
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("after %.10q: Read() = %d, %v, want the end", nonsense, n, err)
		}
		c.Close()
	}
	var out struct{ Text string }
	if err := Do(path, "test.echo.Echo", map[string]any{"text": "b"}, &out, 10*time.Second); out.Text != "b" || err != nil {
		t.Errorf("Do(Echo) after it = %q, %v", out.Text, err)
	}
}
