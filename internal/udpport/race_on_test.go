//go:build race

package udpport

// Under the race detector sync.Pool drops items at random.
const raceEnabled = true
