// Package rogue is a PID 1 that somebody has taken over: the real one, and
// beside it in the same process what the file cloison/rogue of the ESP orders. Only
// boot tests have an image with it (cloison/host/build/variant).
//
// It needs what PID 1 needs. What it does it says in the kernel's log, in lines
// that begin with "cloison-test: ".
package rogue

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cloison/format/bootfacts"
	kformat "cloison/format/kmsg"
	"cloison/linux/kmsg"
	"cloison/target/esp"
	"cloison/target/supervise"
)

// rogue is what it knows of the machine.
type rogue struct {
	log   *kmsg.Log
	facts bootfacts.Facts
}

// orders by their word in the file. They are done one after the other: those
// before the word start before the real part begins, the others beside it.
var orders = map[string]func(*rogue) error{
	"unseal":    (*rogue).unseal,
	"ready":     (*rogue).awaitReady,
	"hang":      (*rogue).hang,
	"write":     (*rogue).write,
	"check":     (*rogue).check,
	"read":      (*rogue).read,
	"kill":      (*rogue).kill,
	"kill-long": (*rogue).killLong,
}

// Main is PID 1. It does not return.
func Main() {
	if log, err := kmsg.Open(); err == nil {
		r := &rogue{log: log}
		words, err := r.learn()
		if err != nil {
			r.say("no orders: %v", err)
		}
		before := max(0, slices.Index(words, "start"))
		r.obey(words[:before])
		go r.obey(slices.DeleteFunc(words[before:], func(word string) bool { return word == "start" }))
	}
	supervise.Main()
}

func (r *rogue) say(format string, args ...any) {
	// Who waits for the line notices where it is missing.
	_ = r.log.Printf(kmsg.Warning, "cloison-test: %s", fmt.Sprintf(format, args...))
}

// learn reads the note of the initramfs, and the orders.
func (r *rogue) learn() ([]string, error) {
	note, err := os.ReadFile(bootfacts.Note)
	if err != nil {
		return nil, err
	}
	if r.facts, err = bootfacts.Parse(string(note)); err != nil {
		return nil, err
	}
	var text []byte
	err = esp.With(r.facts.ESP, func(dir string) error {
		var err error
		text, err = os.ReadFile(filepath.Join(dir, "cloison/rogue"))
		return err
	})
	return strings.Fields(string(text)), err
}

func (r *rogue) obey(words []string) {
	for _, word := range words {
		do, ok := orders[word]
		if !ok {
			r.say("no order is called %q", word)
			return
		}
		if err := do(r); err != nil {
			r.say("%s: cannot go on: %v", word, err)
			return
		}
		r.say("%s: done", word)
	}
}

// awaitReady waits until the real part of the process has said that all is
// ready.
func (r *rogue) awaitReady() (err error) {
	f, err := kmsg.Follow()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for {
		text, err := f.Next()
		if err != nil {
			return err
		}
		record, err := kformat.Parse(text)
		if err != nil {
			return err
		}
		if strings.HasPrefix(record.Text, "cloison: ready ") {
			return nil
		}
	}
}
