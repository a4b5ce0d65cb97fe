// Package kconfig reads the kernel configuration fragments of kernel/, joins
// them, and checks that a finished .config kept every line of them. It needs
// package reasoned, whose list format fragments are written in.
//
// Source: Linux, Documentation/kbuild/kconfig.rst and kconfig-language.rst.
package kconfig

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"cloison/format/reasoned"
)

// Option is one line of a fragment: what is asked for, and where.
type Option struct {
	Name  string // without CONFIG_
	Value string // y, m, n, a number, or a string in its quotes
	Where string // FILE:LINE
}

var line = regexp.MustCompile(`^([A-Z0-9][A-Za-z0-9_]*)=(y|m|n|-?[0-9]+|0x[0-9a-fA-F]+|"[^"\\]*")$`)

// Parse reads one fragment, which errors call name.
func Parse(name string, r io.Reader) ([]Option, error) {
	items, err := reasoned.Parse(name, r)
	if err != nil {
		return nil, err
	}
	var options []Option
	for _, item := range items {
		where := fmt.Sprintf("%s:%d", name, item.Line)
		m := line.FindStringSubmatch(item.Text)
		if m == nil {
			return nil, fmt.Errorf("%s: %q is not OPTION=VALUE", where, item.Text)
		}
		options = append(options, Option{m[1], m[2], where})
	}
	return options, nil
}

// Join puts fragments together. An option that two of them name is an
// error even when they agree: it would have two reasons.
func Join(fragments ...[]Option) ([]Option, error) {
	var all []Option
	first := map[string]string{}
	for _, option := range slices.Concat(fragments...) {
		if where, twice := first[option.Name]; twice {
			return nil, fmt.Errorf("%s: %s stands in %s already", option.Where, option.Name, where)
		}
		first[option.Name] = option.Where
		all = append(all, option)
	}
	return all, nil
}

// Print returns the options as a file for KCONFIG_ALLCONFIG.
func Print(options []Option) []byte {
	var text bytes.Buffer
	for _, option := range options {
		if option.Value == "n" {
			fmt.Fprintf(&text, "# CONFIG_%s is not set\n", option.Name)
		} else {
			fmt.Fprintf(&text, "CONFIG_%s=%s\n", option.Name, option.Value)
		}
	}
	return text.Bytes()
}

// Lost compares what was asked for with the .config that the kernel's own
// configuration program made of it, one line for each option that is not as
// asked. known are the symbols that the kernel's Kconfig files define: an
// option that none of them defines is lost even when it was asked to be off,
// for then a new name has probably taken its place.
func Lost(options []Option, config io.Reader, known map[string]bool) ([]string, error) {
	got := map[string]string{}
	scanner := bufio.NewScanner(config)
	for scanner.Scan() {
		if setting, ok := strings.CutPrefix(scanner.Text(), "CONFIG_"); ok {
			name, value, _ := strings.Cut(setting, "=")
			got[name] = value
		}
	}
	if err := scanner.Err(); err != nil {
		return nil, err
	}
	var lost []string
	for _, option := range options {
		value, set := got[option.Name]
		if !set {
			value = "n"
		}
		switch {
		case !known[option.Name]:
			lost = append(lost, fmt.Sprintf("%s: %s does not exist in this kernel", option.Where, option.Name))
		case value != option.Value:
			lost = append(lost, fmt.Sprintf("%s: %s=%s became %s", option.Where, option.Name, option.Value, value))
		}
	}
	return lost, nil
}

var symbol = regexp.MustCompile(`(?m)^\s*(?:menu)?config\s+([A-Za-z0-9_]+)\s*$`)

// Symbols adds the symbols that a Kconfig file defines to known.
func Symbols(file []byte, known map[string]bool) {
	for _, m := range symbol.FindAllSubmatch(file, -1) {
		known[string(m[1])] = true
	}
}
