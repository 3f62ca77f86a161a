//go:build !race

package client_test

// raceEnabled says whether the race detector is on.
const raceEnabled = false
