// Package timekeeping reads and prints what the time service lives by: its
// configuration, and the stamp that it keeps from one boot to the next. It
// needs a TOML parser.
//
// Both formats are Cloison's own (docs/formats.md).
package timekeeping

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// maxServers is more than anybody needs: four tolerate one that lies.
const maxServers = 16

// Config is the configuration of the time service.
type Config struct {
	// Servers are NTP servers, each host or host:port, an IPv6 address with a
	// port in brackets. None is a machine that keeps its own time.
	Servers []string `toml:"servers"`
}

// ParseConfig reads a configuration. Unknown keys are errors; the list of
// servers has to be there, empty or not.
func ParseConfig(text []byte) (Config, error) {
	var c Config
	decoder := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil {
		var strict *toml.StrictMissingError
		var decode *toml.DecodeError
		switch {
		case errors.As(err, &strict):
			row, _ := strict.Errors[0].Position()
			return Config{}, fmt.Errorf("line %d: unknown key %v", row, strict.Errors[0].Key())
		case errors.As(err, &decode):
			row, _ := decode.Position()
			return Config{}, fmt.Errorf("line %d: %w", row, err)
		}
		return Config{}, err
	}
	switch {
	case c.Servers == nil:
		return Config{}, errors.New("servers is missing: an empty list says that there are none")
	case len(c.Servers) > maxServers:
		return Config{}, fmt.Errorf("servers has %d entries, at most %d", len(c.Servers), maxServers)
	}
	for i, server := range c.Servers {
		if err := checkServer(server); err != nil {
			return Config{}, err
		}
		if slices.Contains(c.Servers[:i], server) {
			return Config{}, fmt.Errorf("servers has %q twice: one server has one vote", server)
		}
	}
	return c, nil
}

// hostForm is a host name of RFC 1123, section 2.1. Its last label has a
// letter, so that a mistyped address is not taken for a name.
var hostForm = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

func checkServer(server string) error {
	if isIPv6(server) {
		return nil
	}
	host, port := server, ""
	if at := strings.LastIndexByte(server, ':'); at >= 0 {
		host, port = server[:at], server[at+1:]
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
			return fmt.Errorf("servers has %q: its port is not 1 to 65535", server)
		}
	}
	inner, opened := strings.CutPrefix(host, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	switch {
	case opened && closed && port != "" && isIPv6(inner):
		return nil
	case isIPv4(host), hostForm.MatchString(host) && len(host) <= 253:
		return nil
	}
	return fmt.Errorf("servers has %q, which is neither an address nor a host name, with a port or without", server)
}

// isIPv4 reports whether s is four decimal numbers.
func isIPv4(s string) bool {
	parts := strings.Split(s, ".")
	return len(parts) == 4 && !slices.ContainsFunc(parts, func(p string) bool {
		n, err := strconv.ParseUint(p, 10, 8)
		return err != nil || strconv.FormatUint(n, 10) != p
	})
}

// isIPv6 reports whether s is an address of RFC 4291, section 2.2, in its forms 1
// and 2: without an IPv4 address in it, and without a zone.
func isIPv6(s string) bool {
	left, right, short := strings.Cut(s, "::")
	groups := 0
	for _, half := range []string{left, right} {
		if half == "" {
			continue
		}
		for group := range strings.SplitSeq(half, ":") {
			if len(group) == 0 || len(group) > 4 || strings.Trim(group, "0123456789abcdefABCDEF") != "" {
				return false
			}
			groups++
		}
	}
	return groups == 8 && !short || groups < 8 && short
}

// Stamp is what is known of the time before the network is asked.
type Stamp struct {
	// Clock is what the clock last said. No clock starts before it.
	Clock time.Time
	// Confirmed is the last time that servers agreed on. No servers are
	// believed that are behind it. Zero (1970) if there never was one.
	Confirmed time.Time
}

// stampForm has seconds since 1970. Twelve digits are enough for 30,000 years.
var stampForm = regexp.MustCompile(`^clock=(0|[1-9][0-9]{0,11})\nconfirmed=(0|[1-9][0-9]{0,11})\n$`)

// String prints the stamp, to the second.
func (s Stamp) String() string {
	return fmt.Sprintf("clock=%d\nconfirmed=%d\n", s.Clock.Unix(), s.Confirmed.Unix())
}

// ParseStamp reads a stamp.
func ParseStamp(text string) (Stamp, error) {
	m := stampForm.FindStringSubmatch(text)
	if m == nil {
		return Stamp{}, fmt.Errorf("stamp %.40q is not of the form clock=SECONDS, confirmed=SECONDS", text)
	}
	var at [2]time.Time
	for i := range at {
		n, err := strconv.ParseInt(m[i+1], 10, 64)
		if err != nil {
			return Stamp{}, err
		}
		at[i] = time.Unix(n, 0).UTC()
	}
	if at[1].After(at[0]) {
		return Stamp{}, errors.New("stamp: servers confirmed a time that the clock never said")
	}
	return Stamp{at[0], at[1]}, nil
}
