package rules

import (
	"testing"
	"time"
)

func TestTally(t *testing.T) {
	t.Parallel()
	var y tally[int]
	for i := range 3 {
		if got := y.add(time.Duration(i)*time.Second, time.Minute, 1); got.count != i+1 || got.first != 0 {
			t.Errorf("%+v after %d", got, i+1)
		}
	}
	if got := y.add(2*time.Minute, time.Minute, 1); got.count != 1 || got.first != 2*time.Minute {
		t.Errorf("not forgotten: %+v", got)
	}
	for i := range 3 * maxTally {
		y.add(3*time.Minute, 0, i)
		if got := y.add(3*time.Minute, 0, -1); got.count != i+1 { // seen all the time, never forgotten
			t.Fatalf("%d after %d", got.count, i+1)
		}
	}
	if n := len(y.recent) + len(y.old); n > maxTally {
		t.Errorf("%d keys", n)
	}
}
