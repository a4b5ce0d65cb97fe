package config

import (
	"fmt"
	"io"

	"cloison/format/config"
)

// hostname is the owner of the document system: PID 1 has the machine's name, and
// the rest of the document is read by whom it concerns.
type hostname struct {
	// supervisor takes "hostname" and "hostname NAME", one message each, and
	// answers with the name that holds.
	supervisor io.ReadWriter
	applied    *config.System
}

// Apply sets the machine's name.
func (h *hostname) Apply(document []byte) error {
	d, err := config.As[config.System](document)
	if err != nil {
		return err
	}
	got, err := h.ask("hostname " + d.Hostname)
	if err == nil && got != d.Hostname {
		err = fmt.Errorf("the machine is called %q now, and was to be %q", got, d.Hostname)
	}
	if err != nil {
		return fmt.Errorf("cannot set the machine's name: %w", err)
	}
	h.applied = &d
	return nil
}

// Running is the document with the name that the kernel has.
func (h *hostname) Running() ([]byte, error) {
	name, err := h.ask("hostname")
	if err != nil {
		return nil, fmt.Errorf("cannot ask for the machine's name: %w", err)
	}
	d := config.System{}
	if h.applied != nil {
		d = *h.applied
	}
	d.Hostname = name
	return config.Print(&d), nil
}

func (h *hostname) ask(word string) (string, error) {
	if _, err := io.WriteString(h.supervisor, word); err != nil {
		return "", err
	}
	b := make([]byte, 256)
	n, err := h.supervisor.Read(b)
	return string(b[:n]), err
}
