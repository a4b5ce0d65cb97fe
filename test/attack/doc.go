// Package attack has no code: its test boots an image in which a probe has taken
// the place of each service, and sees that it cannot get out. It needs what a
// build and a machine need.
package attack
