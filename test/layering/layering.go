// Package layering has no code: its test holds the house to its own rules
// (ARCHITECTURE.md, "Rules of the house"). It needs the go command.
package layering
