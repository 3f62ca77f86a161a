//go:build !linux

package client

import "time"

// asleep returns what tells for how long the machine has slept since now: the wall clock went on, and the monotonic one, which
// Go's times have besides, did not. A wall clock that is set forward looks the same, and does no harm.
func asleep() func() time.Duration {
	began := time.Now()
	return func() time.Duration {
		now := time.Now()
		return now.Round(0).Sub(began.Round(0)) - now.Sub(began)
	}
}
