// Package buildtest gives tests a real build of this source tree, signed with
// the development keys. It needs what package build needs.
package buildtest

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"cloison/host/build"
	"cloison/host/build/variant"
	"cloison/host/progress"
	"cloison/host/tree"
)

// Image returns the folder of an up-to-date build of the default product, and
// the folder of the keys that signed it. Neither may be written to.
func Image(t testing.TB) (dir, keysDir string) {
	t.Helper()
	o := Options(t)
	unlock, err := variant.Lock(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	o.Out = filepath.Join(o.Tree, "out/test")
	result, err := build.Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	keysDir, err = build.DevelopmentKeys()
	if err != nil {
		t.Fatal(err)
	}
	return result.Dir, keysDir
}

// Options returns what builds the default product of this tree.
func Options(t testing.TB) build.Options {
	t.Helper()
	root, err := tree.Find(".")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := tree.Cache()
	if err != nil {
		t.Fatal(err)
	}
	return build.Options{Tree: root, Cache: cache, Product: "gateway", Hardware: "qemu", Log: progress.To(os.Stderr)}
}

// Campaign returns how often to repeat what chance decides: CLOISON_CAMPAIGN
// times, and not at all in CI, where each test has tried it once already.
func Campaign(t testing.TB) int {
	t.Helper()
	text := os.Getenv("CLOISON_CAMPAIGN")
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("CLOISON_CAMPAIGN=%q is not a number of repetitions", text)
	}
	return n
}
