// Package console is the service at the machine's console: it shows what was
// verified and takes a few fixed words. It has no privilege; it asks PID 1 over
// a socket that keeps message boundaries, one word a message, and gets one text
// back. The log it gets from the log service, over Varlink.
package console

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"cloison/format/logrecord"
	format "cloison/format/service"
	"cloison/target/service"
	"cloison/target/varlink"
)

// Prompt is what it prints when it waits for a word.
const Prompt = "cloison> "

const help = `  status    what was verified, measured and repaired
  log       the last records of the log
  escrow    the recovery passphrase of the state volume, encrypted to the integrator
  reboot    restart the machine
  poweroff  switch the machine off
  help      this text
`

// maxAnswer is larger than any text of PID 1, in bytes.
const maxAnswer = 1 << 16

// lastRecords is how many records of the log are shown.
const lastRecords = 100

// patience is how long the log may take to answer.
const patience = 10 * time.Second

// Main is the program: descriptors 0 and 1 are the console, "supervisor" leads to
// PID 1.
func Main() {
	// Keys at the console end no service.
	signal.Ignore(syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP)
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "cloison: console: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	notify, err := service.Notify()
	if err != nil {
		return err
	}
	supervisor, err := service.Descriptor("supervisor")
	if err != nil {
		return err
	}
	return Console{In: os.Stdin, Out: os.Stdout, Supervisor: supervisor, Log: last}.Run(notify.Ready)
}

// last asks the log service for its last records.
func last() ([]string, error) {
	var reply struct {
		Records []logrecord.Record `json:"records"`
	}
	err := varlink.Do(format.SocketPath("logd", "log"), "cloison.Log.Last", map[string]int{"count": lastRecords}, &reply, patience)
	lines := make([]string, len(reply.Records))
	for i, r := range reply.Records {
		lines[i] = r.String()
	}
	return lines, err
}

// Console is what the program works with.
type Console struct {
	In         io.Reader
	Out        io.Writer
	Supervisor io.ReadWriter
	Log        func() ([]string, error) // the last records, a line each
}

// Run says that the console is ready, waits until the whole system is, shows its
// status and serves until In ends.
func (c Console) Run(ready func() error) error {
	if err := ready(); err != nil {
		return err
	}
	banner, err := ask(c.Supervisor, "begin")
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c.Out, "\n%s\nType help for what can be done here.\n%s", banner, Prompt); err != nil {
		return err
	}
	// A longer line is an error and ends the service, which is started again.
	lines := bufio.NewScanner(c.In)
	for lines.Scan() {
		answer, err := c.obey(strings.TrimSpace(lines.Text()))
		if err != nil {
			return err
		}
		if _, err := io.WriteString(c.Out, answer+Prompt); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (c Console) obey(word string) (string, error) {
	switch word {
	case "":
		return "", nil
	case "help":
		return help, nil
	case "status", "escrow":
		return ask(c.Supervisor, word)
	case "log":
		lines, err := c.Log()
		if err != nil {
			return err.Error() + "\n", nil // the console stays
		}
		return strings.Join(append(lines, ""), "\n"), nil
	case "reboot", "poweroff":
		// The answer is the end of this program.
		if _, err := io.WriteString(c.Supervisor, word); err != nil {
			return "", err
		}
		return "", wait(c.Supervisor)
	}
	return fmt.Sprintf("unknown command %q: type help for what can be done here\n", word), nil
}

func ask(supervisor io.ReadWriter, word string) (string, error) {
	if _, err := io.WriteString(supervisor, word); err != nil {
		return "", fmt.Errorf("cannot ask the supervisor: %w", err)
	}
	b := make([]byte, maxAnswer)
	n, err := supervisor.Read(b)
	if err != nil {
		return "", fmt.Errorf("cannot hear the supervisor: %w", err)
	}
	return string(b[:n]), nil
}

func wait(supervisor io.Reader) error {
	_, err := supervisor.Read(make([]byte, 1))
	return errors.Join(errors.New("supervisor did not end the machine"), err)
}
