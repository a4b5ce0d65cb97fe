package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"cloison/target/swap"
)

const pageSize = 4096

// text stands at the start of each page that is filled, before its number.
const text = "a page of memory that must never lie on a disk in clear: "

func run(args []string, out io.Writer) error {
	if len(args) != 2 {
		return errors.New("usage: fill PARTITION MIB")
	}
	size, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	area, err := swap.Open(args[0])
	if err != nil {
		return err
	}
	before, err := count(area.Node)
	if err != nil {
		return err
	}
	// One piece, without pointers: the collector has no reason to look at it.
	memory, page := make([]byte, size<<20), make([]byte, pageSize)
	for at := 0; at < len(memory); at += pageSize {
		write(memory[at:at+pageSize], at)
	}
	after, err := count(area.Node)
	if err != nil {
		return err
	}
	back := 0
	for at := 0; at < len(memory); at += pageSize {
		if write(page, at); bytes.Equal(page, memory[at:at+pageSize]) {
			back++
		}
	}
	_, err = fmt.Fprintln(out, before, after, back)
	return err
}

// write fills a page with the text and its place, again and again.
func write(page []byte, place int) {
	part := fmt.Appendf(nil, "%s%07x", text, place)
	for len(page) > 0 {
		page = page[copy(page, part):]
	}
}

// count tells how many pages of the device hold the text, as whoever has the key
// sees it.
func count(node string) (found int, err error) {
	f, err := os.Open(node)
	if err != nil {
		return 0, err
	}
	defer f.Close()                // only read from
	b := make([]byte, 64*pageSize) // the device is a multiple of it
	for {
		if _, err := io.ReadFull(f, b); err == io.EOF {
			return found, nil
		} else if err != nil {
			return 0, err
		}
		for at := 0; at < len(b); at += pageSize {
			if bytes.HasPrefix(b[at:], []byte(text)) {
				found++
			}
		}
	}
}
