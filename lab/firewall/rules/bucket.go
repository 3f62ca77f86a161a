package rules

import "time"

// bucket is a policer's token bucket: it fills at a rate, holds so much, and what does not fit is not queued but lost. A
// new one is full.
type bucket struct {
	used float64 // bytes taken that did not flow back yet
	last time.Duration
}

// take reports whether size bytes may pass at now, at rate bits a second with at most burst bytes at once.
func (b *bucket) take(now time.Duration, size int, rate, burst int) bool {
	b.used = max(0, b.used-(now-b.last).Seconds()*float64(rate)/8)
	b.last = now
	if b.used+float64(size) > float64(burst) {
		return false
	}
	b.used += float64(size)
	return true
}
