package transports

import (
	"slices"
	"testing"
)

func TestNames(t *testing.T) {
	var names []string
	for _, d := range Dialers(Options{}) {
		names = append(names, d.Transport())
	}
	if !slices.Equal(names, Names()) || names[0] != Default {
		t.Errorf("the dialers are %v, the names %v, the default %s", names, Names(), Default)
	}
}
