// Package kernel has no code: its test builds the kernel's own tests of what a box
// is made of (Landlock, seccomp, W^X memory, checks before execution) from the
// kernel's source, runs them on this tree's kernel in the guest of
// cloison/test/guest, and holds what they say against a list. It needs the SDK.
//
// The guest has the kernel of the image and none of PID 1's settings: PID 1 forbids
// for good what some of the tests need (tracing, memfds that are executable).
//
// Sources: Linux, tools/testing/selftests; Documentation/dev-tools/ktap.rst.
package kernel
