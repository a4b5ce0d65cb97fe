// Package swap holds encrypted swap (cloison/target/swap) against the kernel and
// the tools of the SDK, in a guest that has less memory than it uses.
package swap
