// Package docs has no code: its test holds what the documents say against the
// tree: links, commands, make targets, rooms, tests and files that they name.
package docs
