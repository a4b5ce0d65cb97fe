package log

import "time"

// rate is how much one source may have written: a burst at once, and after it
// what the time brings.
type rate struct {
	bytes     float64 // a second
	burst     float64 // bytes
	longest   int     // sources that are remembered
	remembers map[string]*bucket
}

type bucket struct {
	left    float64 // bytes
	filled  time.Time
	dropped uint64 // lines, since it was last told
}

// allow tells whether a line of that many bytes of a source is kept; dropped is
// how many were not since the last that is.
func (r *rate) allow(now time.Time, source string, size int) (ok bool, dropped uint64) {
	b := r.remembers[source]
	if b == nil {
		// More sources than services and users exist are an attack: all that are
		// new share one rate.
		if len(r.remembers) >= r.longest {
			source = "others"
			b = r.remembers[source]
		}
		if b == nil {
			b = &bucket{left: r.burst, filled: now}
			r.remembers[source] = b
		}
	}
	b.left = min(r.burst, b.left+now.Sub(b.filled).Seconds()*r.bytes)
	b.filled = now
	if b.left < float64(size) {
		b.dropped++
		return false, 0
	}
	b.left -= float64(size)
	dropped, b.dropped = b.dropped, 0
	return true, dropped
}
