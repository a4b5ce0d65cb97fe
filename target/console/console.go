// Package console is the service at the machine's console: it shows what was
// verified and takes a few fixed words. It has no privilege; it asks PID 1 over
// a socket that keeps message boundaries, one word a message, and gets one text
// back.
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
)

// Prompt is what it prints when it waits for a word.
const Prompt = "cloison> "

const help = `  status    what was verified, measured and repaired
  escrow    the recovery passphrase of the state volume, encrypted to the integrator
  reboot    restart the machine
  poweroff  switch the machine off
  help      this text
`

// maxAnswer is larger than any text of PID 1, in bytes.
const maxAnswer = 1 << 16

// Main is the program: descriptors 0 and 1 are the console, 3 leads to PID 1.
func Main() {
	// Keys at the console end no service.
	signal.Ignore(syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP)
	if err := Run(os.Stdin, os.Stdout, os.NewFile(3, "supervisor")); err != nil {
		fmt.Fprintf(os.Stderr, "cloison: console: %v\n", err)
		os.Exit(1)
	}
}

// Run tells PID 1 that the console is ready, shows its first answer, and serves
// until in ends.
func Run(in io.Reader, out io.Writer, supervisor io.ReadWriter) error {
	banner, err := ask(supervisor, "ready")
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "\n%s\nType help for what can be done here.\n%s", banner, Prompt); err != nil {
		return err
	}
	// A longer line is an error and ends the service, which is started again.
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		answer, err := obey(supervisor, strings.TrimSpace(lines.Text()))
		if err != nil {
			return err
		}
		if _, err := io.WriteString(out, answer+Prompt); err != nil {
			return err
		}
	}
	return lines.Err()
}

func obey(supervisor io.ReadWriter, word string) (string, error) {
	switch word {
	case "":
		return "", nil
	case "help":
		return help, nil
	case "status", "escrow":
		return ask(supervisor, word)
	case "reboot", "poweroff":
		// The answer is the end of this program.
		if _, err := io.WriteString(supervisor, word); err != nil {
			return "", err
		}
		return "", wait(supervisor)
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
