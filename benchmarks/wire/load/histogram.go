package main

import "math/bits"

// Sub-buckets of each power of two: a value is told to within 1/32 of it.
const (
	fineBits = 5
	fine     = 1 << fineBits
)

// histogram counts durations in nanoseconds, in buckets that grow with the value.
type histogram struct {
	buckets [64 * fine]uint64
	count   uint64
	largest int64
}

func (h *histogram) add(ns int64) {
	if ns < 0 {
		ns = 0
	}
	h.buckets[bucket(ns)]++
	h.count++
	if ns > h.largest {
		h.largest = ns
	}
}

func bucket(ns int64) int {
	if ns < fine {
		return int(ns)
	}
	shift := bits.Len64(uint64(ns)) - fineBits - 1
	return shift<<fineBits + int(ns>>shift)
}

// middle is the value in the middle of a bucket.
func middle(place int) float64 {
	if place < 2*fine {
		return float64(place)
	}
	shift := place>>fineBits - 1
	return (float64(place-shift<<fineBits) + 0.5) * float64(uint64(1)<<shift)
}

// milliseconds below which this share of what was added lies; 0 of nothing.
func (h *histogram) milliseconds(share float64) float64 {
	left := uint64(share * float64(h.count))
	for place, count := range h.buckets {
		if count > left {
			return middle(place) / 1e6
		}
		left -= count
	}
	return float64(h.largest) / 1e6
}
