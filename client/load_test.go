package client

import (
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/session"
)

// A third link is wanted where two share the load, and not where one carries it and the other is warm.
func TestSharedLoad(t *testing.T) {
	now := time.Now()
	status := func(bytes ...uint64) (st session.Status) {
		for i, n := range bytes {
			st.Links = append(st.Links, session.LinkStatus{ID: uint64(i), Received: n})
		}
		return st
	}
	var l load
	for i, c := range []struct {
		after time.Duration
		st    session.Status
		want  bool
	}{
		{0, status(0, 0), false},
		{loadEvery, status(50<<20, 10<<10), false},
		{loadEvery, status(100<<20, 20<<10), false},
		{time.Second, status(101<<20, 5<<20), false}, // too early to tell
		{loadEvery, status(110<<20, 10<<20), true},
		{time.Minute, status(110<<20, 10<<20), true},
		{time.Hour, status(500<<20, 500<<20), false}, // over a long time, two may have carried it in turn
		{loadEvery, status(500<<20, 500<<20, 0), false},
		{loadEvery, status(501<<20, 500<<20, 1<<20), true},
	} {
		now = now.Add(c.after)
		if got := l.shared(c.st, now); got != c.want {
			t.Errorf("step %d: %v, want %v", i, got, c.want)
		}
	}
}
