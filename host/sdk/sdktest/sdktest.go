// Package sdktest gives tests the SDK of this source tree. It needs what
// package sdk needs.
package sdktest

import (
	"os"
	"testing"

	"cloison/host/progress"
	"cloison/host/sdk"
	"cloison/host/tree"
)

// Open returns the SDK of the tree that the test runs in, made if missing.
func Open(t testing.TB) *sdk.SDK {
	t.Helper()
	root, err := tree.Find(".")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := tree.Cache()
	if err != nil {
		t.Fatal(err)
	}
	s, err := sdk.Open(t.Context(), sdk.Options{Tree: root, Cache: cache, Log: progress.To(os.Stderr)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
