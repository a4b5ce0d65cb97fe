package clock

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const ms = time.Millisecond

func TestAgree(t *testing.T) {
	for _, test := range []struct {
		name             string
		samples          []sample
		voters           int
		ok               bool
		offset, distance time.Duration
		false_           string
	}{
		{"none", nil, 0, false, 0, 0, ""},
		{"none of one", nil, 1, false, 0, 0, ""},
		{"one", []sample{{"a", 5 * ms, 20 * ms}}, 1, true, 5 * ms, 20 * ms, ""},
		{"one is sure of itself", []sample{{"a", 5 * ms, 0}}, 1, true, 5 * ms, minDistance, ""},
		{"one of two", []sample{{"a", 5 * ms, 20 * ms}}, 2, false, 0, 0, ""},
		{"two of two", []sample{{"a", 0, 20 * ms}, {"b", 30 * ms, 20 * ms}}, 2, true, 15 * ms, 5 * ms, ""},
		{"two that touch", []sample{{"a", 0, 20 * ms}, {"b", 40 * ms, 20 * ms}}, 2, true, 20 * ms, 0, ""},
		{"two apart", []sample{{"a", 0, 20 * ms}, {"b", 41 * ms, 20 * ms}}, 2, false, 0, 0, ""},
		{"two of three", []sample{{"a", 0, 20 * ms}, {"b", 1000 * ms, 20 * ms}, {"c", 0, 20 * ms}}, 3, true, 0, 20 * ms, "b"},
		{"two of three, one silent", []sample{{"a", 0, 20 * ms}, {"b", 0, 20 * ms}}, 3, true, 0, 20 * ms, ""},
		{"two of four", []sample{{"a", 0, 20 * ms}, {"b", 0, 20 * ms}}, 4, false, 0, 0, ""},
		{"two against two", []sample{{"a", 0, 20 * ms}, {"b", 0, 20 * ms}, {"c", 100 * ms, 20 * ms}, {"d", 100 * ms, 20 * ms}}, 4, false, 0, 0, ""},
		{"the nearer counts more", []sample{{"a", 0, 20 * ms}, {"b", 30 * ms, 40 * ms}}, 2, true, 10 * ms, 20 * ms, ""},
		{"a vague one reaches both", []sample{{"a", 0, 100 * ms}, {"b", -60 * ms, 20 * ms}, {"c", 60 * ms, 20 * ms}}, 3, true, 0, 80 * ms, ""},
	} {
		e, ok := agree(test.samples, test.voters)
		if ok != test.ok || (e.offset-test.offset).Abs() > time.Microsecond || (e.distance-test.distance).Abs() > time.Microsecond || strings.Join(e.falsetickers, " ") != test.false_ {
			t.Errorf("%s: agree = %+v, %t, want %v ± %v, false %q, %t", test.name, e, ok, test.offset, test.distance, test.false_, test.ok)
		}
	}
}

// TestAgreeWithTruth: where more than half are true and nobody else joins them,
// the true time is within what is said of the estimate, whatever the others say.
func TestAgreeWithTruth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		truth := time.Duration(rapid.IntRange(-1000, 1000).Draw(t, "truth")) * ms
		var samples []sample
		good := rapid.IntRange(1, 6).Draw(t, "good")
		for range good {
			distance := time.Duration(rapid.IntRange(10, 500).Draw(t, "distance")) * ms
			off := time.Duration(rapid.IntRange(-10, 10).Draw(t, "off")) * distance / 10
			samples = append(samples, sample{"true", truth + off, distance})
		}
		for range rapid.IntRange(0, good-1).Draw(t, "bad") {
			// None of the false reaches the true ones.
			sign := time.Duration(2*rapid.IntRange(0, 1).Draw(t, "sign") - 1)
			samples = append(samples, sample{"false", truth + sign*time.Duration(rapid.IntRange(2000, 9000).Draw(t, "lie"))*ms, 500 * ms})
		}
		samples = rapid.Permutation(samples).Draw(t, "order")
		e, ok := agree(samples, len(samples))
		if !ok || (e.offset-truth).Abs() > e.distance || len(e.truechimers) != good {
			t.Errorf("agree(%v) = %+v, %t: the truth is %v, %d are true", samples, e, ok, truth, good)
		}
	})
}

// TestOverlap compares with a search of all points where something changes.
func TestOverlap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var samples []sample
		for range rapid.IntRange(1, 8).Draw(t, "n") {
			samples = append(samples, sample{"", time.Duration(rapid.IntRange(-20, 20).Draw(t, "offset")), time.Duration(rapid.IntRange(0, 10).Draw(t, "distance"))})
		}
		var low, high time.Duration
		most := 0
		for at := time.Duration(-40); at <= 40; at++ {
			depth := 0
			for _, s := range samples {
				if s.low() <= at && at <= s.high() {
					depth++
				}
			}
			if depth > most {
				most, low = depth, at
			}
			if depth == most {
				high = at
			}
		}
		if l, h, m := overlap(samples); l != low || h != high || m != most {
			t.Errorf("overlap(%v) = %d, %d, %d, want %d, %d, %d", samples, l, h, m, low, high, most)
		}
	})
}
