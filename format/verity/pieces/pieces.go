// Package pieces works through numbered pieces of a long job on all cores and
// reports the failure with the lowest number, so that a parallel check names
// the same first fault as a serial one. It needs nothing but the standard
// library.
package pieces

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Run calls a worker for each piece 0 … n-1. Every goroutine gets a worker of
// its own from newWorker, which may keep buffers between pieces; pieces are
// handed out in ascending order. After a failure no further piece is begun.
// Run returns the error of the lowest piece that failed: every lower piece has
// then run without error.
func Run(n uint64, newWorker func() (func(piece uint64) error, error)) error {
	workers := uint64(runtime.GOMAXPROCS(0))
	if workers > n {
		workers = n
	}
	var (
		wait   sync.WaitGroup
		next   atomic.Uint64
		failed atomic.Bool

		mu    sync.Mutex
		first error
		at    uint64
	)
	fail := func(piece uint64, err error) {
		failed.Store(true)
		mu.Lock()
		defer mu.Unlock()
		if first == nil || piece < at {
			first, at = err, piece
		}
	}
	for range workers {
		wait.Go(func() {
			work, err := newWorker()
			if err != nil {
				fail(0, err)
				return
			}
			for !failed.Load() {
				piece := next.Add(1) - 1
				if piece >= n {
					return
				}
				if err := work(piece); err != nil {
					fail(piece, err)
				}
			}
		})
	}
	wait.Wait()
	return first
}
