package session

import (
	"slices"
	"sort"

	"github.com/godwit-vpn/godwit/internal/wire"
)

// seqset is a set of sequence numbers that becomes contiguous sooner or later: all below next, plus a few ranges above
// it. The zero value is empty. Not safe for concurrent use.
type seqset struct {
	next   uint64
	ranges []wire.Range // ascending, apart from one another and from next
}

// has reports whether n is in the set.
func (s *seqset) has(n uint64) bool {
	if n < s.next {
		return true
	}
	i := s.search(n)
	return i < len(s.ranges) && s.ranges[i].From <= n
}

// search finds the first range that ends after n.
func (s *seqset) search(n uint64) int {
	return sort.Search(len(s.ranges), func(i int) bool { return s.ranges[i].To > n })
}

// add puts from to to-1 in and calls each for every part of it that was not there. each may be nil.
func (s *seqset) add(from, to uint64, each func(from, to uint64)) {
	from = max(from, s.next)
	if from >= to {
		return
	}
	// The ranges that overlap or touch [from, to) are i to j-1.
	i := sort.Search(len(s.ranges), func(i int) bool { return s.ranges[i].To >= from })
	j := i
	merged := wire.Range{From: from, To: to}
	at := from
	for ; j < len(s.ranges) && s.ranges[j].From <= to; j++ {
		r := s.ranges[j]
		if each != nil && at < r.From {
			each(at, r.From)
		}
		at = max(at, r.To)
		merged.From = min(merged.From, r.From)
		merged.To = max(merged.To, r.To)
	}
	if each != nil && at < to {
		each(at, to)
	}
	if merged.From == s.next { // nothing lies between next and it, so i is 0
		s.next = merged.To
		s.ranges = slices.Delete(s.ranges, i, j)
		return
	}
	s.ranges = slices.Replace(s.ranges, i, j, merged)
}
