// Package smallsite makes up a small, harmless website from 32 bytes: a notebook, a workshop, a club, a product. Two
// seeds share no name, no page, no picture, no style sheet, and no more wording or markup than two small sites do.
//
//	seed ─ dice ┬ voice   words: rules of which each site keeps a part          (grammar.go, words.go, topics.go)
//	            ├ plan    which pages there are, what is on them, when written   (plan.go, kinds.go)
//	            ├ hand    how this site's author writes HTML                     (html.go, layout.go, content.go)
//	            ├ look    class names, colours, the style sheet                  (css.go)
//	            └ draw    pictures and the icon                                  (draw.go)
//
// The same seed and base time give the same bytes in every run. A test holds one site's hash: whoever changes what is
// made here changes the site of every gateway at the day of its update, and that can be watched. The generator is
// public, so whoever reads it can tell its sites from others with some work; a site of one's own is better.
package smallsite

import (
	"crypto/sha256"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// New makes up a site. base is about when it was last worked on: no page is newer, and none much older than six years.
func New(seed [32]byte, base time.Time) fs.FS {
	p := newPlan(seed, base.UTC().Truncate(time.Second))
	return newTree(p.files())
}

// A file of the site.
type file struct {
	name    string // slash-separated, without a leading slash
	body    []byte
	changed time.Time
}

// dice draw what a site is. The generator and what is drawn from it are fixed here, as math/rand/v2 promises the stream
// of ChaCha8 but not what its other methods make of it.
type dice struct{ src *rand.ChaCha8 }

// newDice gives every purpose its own stream, so that a change to one leaves the others as they were.
func newDice(seed [32]byte, purpose string) *dice {
	return &dice{rand.NewChaCha8(sha256.Sum256(append([]byte(purpose+"\x00"), seed[:]...)))}
}

// n is 0 to k-1. The bias of the remainder does not matter here.
func (d *dice) n(k int) int { return int(d.src.Uint64() % uint64(k)) }

// between is low to high, both included.
func (d *dice) between(low, high int) int { return low + d.n(high-low+1) }

// p is true in that many of a hundred.
func (d *dice) p(percent int) bool { return d.n(100) < percent }

func pick[T any](d *dice, of []T) T { return of[d.n(len(of))] }

// one picks from words separated by commas.
func (d *dice) one(of string) string { return pick(d, list(of)) }

func list(of string) []string {
	all := strings.Split(of, ",")
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	return all
}

func shuffle[T any](d *dice, of []T) []T {
	all := slices.Clone(of)
	for i := len(all) - 1; i > 0; i-- {
		j := d.n(i + 1)
		all[i], all[j] = all[j], all[i]
	}
	return all
}

// some keeps n of them, in their order.
func some[T any](d *dice, of []T, n int) []T {
	order := make([]int, len(of))
	for i := range order {
		order[i] = i
	}
	order = shuffle(d, order)[:min(n, len(of))]
	slices.Sort(order)
	var kept []T
	for _, i := range order {
		kept = append(kept, of[i])
	}
	return kept
}

// slug is a text as part of an address.
func slug(text, join string) string {
	var words []string
	for _, w := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	}) {
		if len(w) > 1 || len(words) == 0 {
			words = append(words, w)
		}
	}
	if len(words) > 6 {
		words = words[:6]
	}
	return strings.Join(words, join)
}
