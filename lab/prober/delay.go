package prober

import (
	"math"
	"math/rand/v2"
	"time"
)

// longestDelay is the longest wait before a replay that was measured (B2).
const longestDelay = 570 * time.Hour

// delays is what was measured of the time from a payload to its first replay (B2): never less than 0.28 s, more than 20 %
// within 1 s, more than 50 % within 1 min, more than 75 % within 15 min, at most 570 h. The shares here are a little above
// those bounds. Between the points the logarithm of the time is even, which nobody measured.
var delays = []struct {
	share float64
	after time.Duration
}{
	{0, 280 * time.Millisecond},
	{0.22, time.Second},
	{0.52, time.Minute},
	{0.77, 15 * time.Minute},
	{1, longestDelay},
}

// Delay draws how long a censor waits before it replays a payload. It draws for random probes, too: they come with the
// replays.
func Delay(r *rand.Rand) time.Duration {
	u := r.Float64()
	i := 1
	for u > delays[i].share {
		i++
	}
	a, b := delays[i-1], delays[i]
	part := (u - a.share) / (b.share - a.share)
	from, to := math.Log(a.after.Seconds()), math.Log(b.after.Seconds())
	return time.Duration(math.Exp(from+part*(to-from)) * float64(time.Second))
}
