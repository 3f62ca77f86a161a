//go:build !race

package udpport

const raceEnabled = false
