package peer

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloison/host/sdk"
	"cloison/host/sdk/sdktest"
	"cloison/linux/clock"
	"cloison/linux/socket"
	"cloison/target/log"
	"cloison/target/varlink"
)

// TestVarlinkctl has systemd's client talk to the log service over its socket, as
// a service that may, and as one that may not.
func TestVarlinkctl(t *testing.T) {
	s, dir := sdktest.Open(t), t.TempDir()
	definition, err := os.ReadFile("../../target/log/cloison.log.varlink")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "log"), 0o700); err != nil {
		t.Fatal(err)
	}
	c, err := log.New(filepath.Join(dir, "log"), log.Settings{
		Limits: log.DefaultLimits, Rate: log.DefaultRate, Boot: strings.Repeat("0", 32), Now: time.Now, Up: clock.SinceBoot,
		Report: func(err error) { t.Errorf("reported: %v", err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	written := make(chan struct{})
	go func() { c.Write(); close(written) }()
	defer func() { c.End(); <-written }()
	if err := c.Output("timed", strings.NewReader("it is late\n")); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	for name, caller := range map[string]string{"may": "console", "not": "timed"} {
		server, err := varlink.New(c.Offer(map[uint32]string{uint32(os.Getuid()): caller}))
		if err != nil {
			t.Fatal(err)
		}
		l, err := socket.Listen(filepath.Join(dir, name), socket.Stream, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error)
		go func() { ended <- server.Serve(l, func(error) {}) }()
		defer func() { l.Close(); <-ended }()
	}
	// varlinkctl runs one of its commands, and says all that it says.
	varlinkctl := func(args ...string) (string, error) {
		var out, said bytes.Buffer
		err := s.Run(t.Context(), sdk.Step{
			Args: append([]string{"varlinkctl", "--json=short"}, args...), Dir: dir, Writable: []string{dir}, Stdout: &out, Stderr: &said,
		})
		return out.String() + said.String(), err
	}
	for _, test := range []struct {
		args []string
		want string
		ok   bool
	}{
		{[]string{"info", "./may"}, `"interfaces":["cloison.Log","org.varlink.service"]`, true},
		{[]string{"info", "./not"}, `"product":"Cloison log"`, true},
		{[]string{"list-methods", "./may"}, "cloison.Log.Last", true},
		{[]string{"call", "./may", "cloison.Log.Last", `{"count":5}`}, `"source":"service/timed","message":"it is late"}]}`, true},
		{[]string{"call", "./not", "cloison.Log.Last", `{"count":5}`}, "org.varlink.service.PermissionDenied", false},
		{[]string{"call", "./may", "cloison.Log.Last", `{"count":0}`}, "cloison.Log.OutOfRange", false},
		{[]string{"call", "./may", "cloison.Log.Last", `{"count":"5"}`}, "org.varlink.service.InvalidParameter", false},
		{[]string{"call", "./may", "cloison.Log.Last", `{}`}, "org.varlink.service.InvalidParameter", false},
		{[]string{"call", "./may", "cloison.Log.Erase", `{}`}, "org.varlink.service.MethodNotFound", false},
		{[]string{"call", "./may", "cloison.other.Last", `{}`}, "org.varlink.service.InterfaceNotFound", false},
	} {
		if out, err := varlinkctl(test.args...); !strings.Contains(out, test.want) || (err == nil) != test.ok {
			t.Errorf("varlinkctl %q: %v, said %q, want %q", test.args, err, out, test.want)
		}
	}
	// It reads our definition, and its own validator has nothing to say.
	out, err := varlinkctl("introspect", "./may", "cloison.Log")
	if err != nil || !strings.Contains(out, "method Last") {
		t.Errorf("varlinkctl introspect: %v, said %q, want the definition", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "definition"), definition, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := varlinkctl("validate-idl", "definition"); err != nil {
		t.Errorf("varlinkctl validate-idl: %v, said %q", err, out)
	}
}
