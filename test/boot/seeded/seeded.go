// Package seeded is a PID 1 of boot tests: the real one, which finds documents of
// the configuration that a test has chosen. They are files of documents, which the
// test writes before the image is built.
package seeded

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"cloison/format/service"
	"cloison/target/supervise"
)

//go:embed documents
var documents embed.FS

// Main is PID 1. It does not return.
func Main() {
	if err := seed(service.Configurations); err != nil {
		fmt.Println("cloison: refused: cannot seed the configuration:", err)
		os.Exit(1)
	}
	supervise.Main()
}

// seed writes NAME.toml into a folder NAME.
func seed(to string) error {
	entries, err := documents.ReadDir("documents")
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".toml")
		if !ok {
			continue
		}
		text, err := documents.ReadFile("documents/" + e.Name())
		if err != nil {
			return err
		}
		folder := filepath.Join(to, name)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, e.Name()), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
