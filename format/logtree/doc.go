// Package logtree is the log that cannot be rewritten: the Merkle tree over its
// records (RFC 9162, section 2.1), the checkpoints that a machine signs, the files
// that hold both, and their verification.
//
// A record is a line (cloison/format/logrecord). Its place in the tree is its
// sequence, its leaf the line without the line feed. The forms are Cloison's own
// (docs/formats.md); signatures are those of golang.org/x/mod/sumdb/note.
package logtree
