package log

import (
	"sync"
	"time"

	"cloison/format/logrecord"
)

// queue holds records until they are written. Who brings one never waits: each
// source has its own rate and its own share of the queue, and loses its own
// records only.
type queue struct {
	rate  Rate
	ready chan struct{} // has one when there is something to take

	mu      sync.Mutex
	waiting []entry
	sources map[string]*source
}

// Rate is how much one source may have written: a burst at once, and after it
// what the time brings.
type Rate struct {
	Bytes float64 // a second
	Burst float64 // bytes
	Share int     // bytes that wait to be written
	Most  int     // sources that are told apart
}

// entry is a record on its way.
type entry struct {
	record logrecord.Record
	source *source
	size   int
	done   chan<- written // not nil where somebody waits until it is signed
}

// written is where a record came to be.
type written struct {
	sequence uint64
	err      error
}

type source struct {
	name    string        // in the log
	left    float64       // bytes
	filled  time.Duration // by the clock that nobody sets
	waits   int           // bytes
	dropped uint64        // records, since it was last told
}

func newQueue(r Rate) *queue {
	return &queue{rate: r, ready: make(chan struct{}, 1), sources: map[string]*source{}}
}

// overhead is what a record takes besides its texts, about.
const overhead = 160

// push takes a record for the rate of a source, or counts it as dropped. up is the
// time since the machine started.
func (q *queue) push(up time.Duration, key string, r logrecord.Record, done chan<- written) bool {
	size := overhead + len(r.Message) + len(r.Change)
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.sources[key]
	if s == nil {
		// More sources than services and users exist are an attack: all that are
		// new share one rate.
		if len(q.sources) >= q.rate.Most {
			key = "others"
			s = q.sources[key]
		}
		if s == nil {
			s = &source{name: r.Source, left: q.rate.Burst, filled: up}
			q.sources[key] = s
		}
	}
	s.left = min(q.rate.Burst, s.left+(up-s.filled).Seconds()*q.rate.Bytes)
	s.filled = up
	if s.left < float64(size) || s.waits+size > q.rate.Share {
		s.dropped++
		return false
	}
	s.left -= float64(size)
	s.waits += size
	q.waiting = append(q.waiting, entry{r, s, size, done})
	select {
	case q.ready <- struct{}{}:
	default: // it is known
	}
	return true
}

// take returns what waits, oldest first, at most so many bytes.
func (q *queue) take(most int) []entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for n < len(q.waiting) && (n == 0 || most >= q.waiting[n].size) {
		most -= q.waiting[n].size
		q.waiting[n].source.waits -= q.waiting[n].size
		n++
	}
	taken := q.waiting[:n:n]
	if q.waiting = q.waiting[n:]; len(q.waiting) > 0 {
		select {
		case q.ready <- struct{}{}:
		default: // it is known
		}
	}
	return taken
}

// lost counts records that were taken and could not be written.
func (q *queue) lost(entries []entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range entries {
		e.source.dropped++
	}
}

// dropped returns how many records of each source were, since the last call.
func (q *queue) dropped() map[string]uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	counts := map[string]uint64{}
	for _, s := range q.sources {
		if s.dropped > 0 {
			counts[s.name] += s.dropped
			s.dropped = 0
		}
	}
	return counts
}
