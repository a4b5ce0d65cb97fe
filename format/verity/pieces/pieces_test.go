package pieces_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"cloison/format/verity/pieces"
)

func TestRunOnce(t *testing.T) {
	for _, n := range []uint64{0, 1, 2, 1000} {
		var mu sync.Mutex
		seen := map[uint64]int{}
		err := pieces.Run(n, func() (func(uint64) error, error) {
			return func(piece uint64) error {
				mu.Lock()
				defer mu.Unlock()
				seen[piece]++
				return nil
			}, nil
		})
		if err != nil || uint64(len(seen)) != n {
			t.Errorf("Run(%d) = %v after %d pieces", n, err, len(seen))
		}
		for piece, times := range seen {
			if piece >= n || times != 1 {
				t.Errorf("Run(%d) ran piece %d %d times", n, piece, times)
			}
		}
	}
}

// TestRunLowest has many failures, in whatever order the cores meet them.
func TestRunLowest(t *testing.T) {
	for range 200 {
		err := pieces.Run(1000, func() (func(uint64) error, error) {
			return func(piece uint64) error {
				if piece >= 500 {
					return fmt.Errorf("piece %d", piece)
				}
				return nil
			}, nil
		})
		if err == nil || err.Error() != "piece 500" {
			t.Fatalf("Run = %v, want piece 500", err)
		}
	}
}

func TestRunNoWorker(t *testing.T) {
	want := errors.New("no worker")
	err := pieces.Run(3, func() (func(uint64) error, error) { return nil, want })
	if !errors.Is(err, want) {
		t.Errorf("Run = %v, want %v", err, want)
	}
}
