package shape

// Level is how much a session may spend on looking like something else.
type Level uint8

// The levels.
const (
	Off Level = iota
	Low
	High
)
