// Package confine has no code: its test makes boxes on the host and tries to get
// out of them. It needs root and Linux 6.14 or newer. What a host's kernel does
// not have (the newer half of Landlock's rights) is tried in a boot: test/attack.
package confine
