package client

import (
	"testing"
	"time"
)

func TestStalls(t *testing.T) {
	var s stalls
	now := time.Now()
	see := func(after time.Duration, through bool, heard time.Duration, paused ...time.Duration) {
		now = now.Add(after)
		s.see(through, now.Add(-heard), append(paused, 0)[0], now)
	}
	see(0, false, time.Hour)
	see(time.Minute, true, 0) // before the first link there is nothing to stall
	see(time.Second, false, 400*time.Millisecond)
	if st := s.status(now); st.Now != 400 || st.Count != 0 {
		t.Errorf("in the first: %+v", st)
	}
	see(100*time.Millisecond, false, 500*time.Millisecond)
	see(200*time.Millisecond, true, 0)
	see(time.Minute, false, time.Minute) // an idle one
	see(300*time.Millisecond, true, 0)
	if st := s.status(now); st != (Stalls{Count: 2, Lately: 2, Longest: 700, Last: now}) {
		t.Errorf("after two: %+v", st)
	}
	see(time.Minute, true, 0, 900*time.Millisecond)
	see(time.Minute, true, 0, time.Minute) // one that was idle
	if st := s.status(now); st.Count != 3 || st.Longest != 900 {
		t.Errorf("after one link gave way to another: %+v", st)
	}
	if st := s.status(now.Add(2 * time.Hour)); st != (Stalls{Count: 3}) {
		t.Errorf("later: %+v", st)
	}
}
