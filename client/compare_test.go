package client

import (
	"testing"
	"time"
)

// The oldest link is outdone by one that carried many times as much, by another way, while both were well.
func TestCompare(t *testing.T) {
	start := time.Now()
	old := &tracked{way: 0, since: start, answered: true}
	young := &tracked{way: 1, since: start.Add(time.Second), answered: true}
	for _, step := range []struct {
		about       string
		change      func()
		slow, young uint64 // bytes that they carry
		want        bool
	}{
		{"the first look", func() {}, 1 << 10, 8 << 20, false},
		{"the young one carries the load", func() {}, 1 << 20, 8 << 20, true},
		{"both carry it", func() {}, 2 << 20, 8 << 20, false},
		{"next to nothing", func() {}, 0, outdoneBytes - 1, false},
		{"the old one carries it", func() {}, 8 << 20, 1 << 10, false},
		{"the old one is suspected", func() { old.suspected = true }, 0, 8 << 20, false},
		{"and well again", func() { old.suspected = false }, 0, 8 << 20, true},
		{"the young one goes the same way", func() { young.way = 0 }, 0, 8 << 20, false},
	} {
		step.change()
		old.carried += step.slow
		young.carried += step.young
		slow, better, ok := compare([]*tracked{young, old})
		if ok != step.want || ok && (slow != old || better != young) {
			t.Errorf("%s: %v", step.about, ok)
		}
	}
	if _, _, ok := compare(nil); ok {
		t.Error("none outdoes none")
	}
}
