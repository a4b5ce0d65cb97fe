// Package role is what boot tests have in the place of a role's session: it says
// whose session it is, and gives back what it was asked.
package role

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"cloison/target/service"
)

// Main is the program.
func Main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "cloison: role: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	files := map[string]*os.File{}
	for _, name := range []string{"session", "channel", "control"} {
		f, err := service.Descriptor(name)
		if err != nil {
			return err
		}
		files[name] = f
	}
	b := make([]byte, 4096)
	n, err := files["session"].Read(b)
	if err != nil {
		return err
	}
	words := strings.Split(string(b[:n]), " ")
	if n, err = files["control"].Read(b); err != nil {
		return err
	}
	var first struct {
		Command string `json:"command"`
		Term    string `json:"term"`
	}
	if err := json.Unmarshal(b[:n], &first); err != nil {
		return err
	}
	code := 0
	channel := files["channel"]
	if _, err := fmt.Fprintf(channel, "session %s\nterminal %q, command %q, user %d\n", strings.Join(words[:4], " "), first.Term, first.Command, os.Getuid()); err != nil {
		return err
	}
	if first.Command == "" {
		for lines := bufio.NewScanner(channel); lines.Scan() && lines.Text() != "exit"; {
			if _, err := fmt.Fprintf(channel, "%s\r\n", strings.ToUpper(lines.Text())); err != nil {
				return err
			}
		}
	} else if _, err := fmt.Sscanf(first.Command, "exit %d", &code); err != nil {
		code = 0
	}
	if _, err := fmt.Fprintf(files["control"], `{"exit":%d}`, code); err != nil {
		return err
	}
	return channel.Close()
}
