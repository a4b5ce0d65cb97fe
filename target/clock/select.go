package clock

import (
	"cmp"
	"slices"
	"time"
)

// minDistance keeps servers that are near from calling each other false for
// the jitter of a network (MINDIST of RFC 5905, with room for a virtual
// machine).
const minDistance = 10 * time.Millisecond

// sample is what one server says: how much our clock has to gain, give or take
// distance. The true time is not outside, if the server is true.
type sample struct {
	server   string
	offset   time.Duration
	distance time.Duration // root distance
}

func (s sample) low() time.Duration  { return s.offset - s.distance }
func (s sample) high() time.Duration { return s.offset + s.distance }

// estimate is what servers agree on.
type estimate struct {
	sample
	truechimers, falsetickers []string
}

// agree finds the servers that can be right together: more than half of voters,
// the number of those that were asked. Their offset is the mean, weighted by
// nearness.
//
// Source: RFC 5905, sections 11.2.1 (intersection) and 11.2.3 (combination). That
// the silent count against the others is stricter than the RFC: who suppresses
// the packets of most servers does not make the rest a majority.
func agree(samples []sample, voters int) (e estimate, ok bool) {
	samples = slices.Clone(samples)
	for i := range samples {
		samples[i].distance = max(samples[i].distance, minDistance)
	}
	low, high, most := overlap(samples)
	if 2*most <= voters {
		return estimate{}, false
	}
	var weights, sum float64
	for _, s := range samples {
		if s.high() < low || s.low() > high {
			e.falsetickers = append(e.falsetickers, s.server)
			continue
		}
		e.truechimers = append(e.truechimers, s.server)
		w := 1 / s.distance.Seconds()
		weights += w
		sum += w * s.offset.Seconds()
	}
	// No mean leaves the interval in which most are right.
	e.offset = min(max(time.Duration(sum/weights*float64(time.Second)), low), high)
	e.distance = max(e.offset-low, high-e.offset)
	return e, true
}

// overlap returns the least interval that has all points where most of the
// samples' intervals overlap, and how many that are.
func overlap(samples []sample) (low, high time.Duration, most int) {
	type edge struct {
		at   time.Duration
		kind int // +1 begins, -1 ends
	}
	var edges []edge
	for _, s := range samples {
		edges = append(edges, edge{s.low(), +1}, edge{s.high(), -1})
	}
	// Intervals that touch in one point overlap there.
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(b.kind, a.kind)) })
	depth := 0
	for _, e := range edges {
		if e.kind < 0 && depth == most {
			high = e.at
		}
		if depth += e.kind; depth > most {
			most, low = depth, e.at
		}
	}
	return low, high, most
}
