// Package dialer decides which way to the gateway is dialled next, on the network that the machine is on: best-known
// first, different ones side by side, those that a firewall has found left alone until it has forgotten them. It dials
// nothing and has no clock of its own; whoever dials tells it what came of it.
package dialer

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Way is one way to the gateway: an address, by one transport.
type Way struct {
	Transport string
	Addr      string // host:port
}

// Failure is what became of a dial that brought no link.
type Failure uint8

// A way that answered and was then cut or swallowed has been Struck: firewalls remember whom they strike, and some begin
// anew with every packet that they see meanwhile, so that it is left alone for longer and longer. One that is Unreachable
// may be blocked; or the network is down.
const (
	Unreachable Failure = iota
	Struck
)

// Link is a link that there is.
type Link struct {
	Way       int
	Suspected bool
}

// Dial is a dial that is under way.
type Dial struct {
	Way int
	// Slow says that it takes longer than dials do where nobody interferes.
	Slow bool
}

const (
	// forgets is how long after it one failure no longer counts.
	forgets = 10 * time.Minute
	// mostFailures is how many count at all.
	mostFailures = 6
	// worksFor is how long a way counts as good on a network where it has worked.
	worksFor = 7 * 24 * time.Hour
	// firstPatience is how long a dial may take while there are other ways to try: enough for a SYN that is lost twice,
	// and for four round trips of a second. It doubles with each failure in a row.
	firstPatience = 4 * time.Second
	// exploreFirst is how soon a better kind of way is tried again, and exploreLast how rarely in the end. What blocked it
	// may have been over in seconds, and a makeshift carries a hundredth of what it does.
	exploreFirst, exploreLast = 30 * time.Second, time.Hour
	// foundFor is how long it counts what an examination found of a way.
	foundFor = 24 * time.Hour
	// outdoneFor is how long it counts that another way carried more.
	outdoneFor = 24 * time.Hour
)

// residuals are for how long firewalls were measured to go on blocking whom they have struck: the GFW 90 s and 120 s by
// HTTP Host, ESNI and TLS names, 180 s fully encrypted traffic and QUIC, and the TSPU QUIC 420 s.
var residuals = [...]time.Duration{90 * time.Second, 120 * time.Second, 180 * time.Second, 420 * time.Second}

// classes orders transports by how well they carry; those that are not here carry best. Two that differ by one class
// change places when the better one has failed once more.
var classes = map[string]int{"websocket": 1, "relay": 1, "http": 2, "dns": lastClass}

const lastClass = 3

// What a way costs, by which the next one is chosen.
const (
	costFailure = 2 // each in a row
	costClass   = 2 // each
	costSlow    = 3 // each slow dial by the same transport: what swallows one may well swallow all
	// costLived is for a way that has carried much on this network, when there is no link: it is known to be let be.
	costLived = -3
	// costCarried is for one whose last link was broken when it had carried much, when there is no link: where others are
	// frozen as soon as they begin, that is the way to go on by.
	costCarried = -1
	// costOutdone is for one beside which a link by another way carried many times as much, when there is no link: that other
	// one had better be there first next time. It is less than a class.
	costOutdone = 1
	// costBlocked is for one that was found blocked: as if it had failed as often as counts.
	costBlocked = costFailure * mostFailures
	// costPoor is for one that was found slow: behind the good ones of the next class, and before those of the last.
	costPoor = 3
)

// Ways are the ways there are, and what is known of each on the present network. Not safe for concurrent use.
type Ways struct {
	list  []Way
	known []Known

	explored time.Time // when a better way than those in use was last tried, or first missed
	tries    int       // how often in a row
	changed  bool
}

// Known is what is known of a way on one network.
type Known struct {
	Failures int       `json:"failures,omitempty"` // in a row, as of Failed: dials, and links that the network ended
	Failed   time.Time `json:"failed,omitzero"`
	Strikes  int       `json:"strikes,omitempty"` // dials in a row that were struck
	Until    time.Time `json:"until,omitzero"`    // when whoever struck has forgotten
	Worked   time.Time `json:"worked,omitzero"`
	Lived    time.Time `json:"lived,omitzero"`   // a link carried much, and was let be
	Carried  time.Time `json:"carried,omitzero"` // a link that had carried much was broken
	Outdone  time.Time `json:"outdone,omitzero"` // a link by another way carried many times as much beside it
	// Blocked and Slow are when an examination of the network found the way so.
	Blocked time.Time `json:"blocked,omitzero"`
	Slow    time.Time `json:"slow,omitzero"`
}

// Found is what an examination of the network has shown of a way. Neither Blocked nor Slow is that nothing speaks against it.
type Found struct {
	Way
	Blocked bool      `json:"blocked,omitempty"`
	Slow    bool      `json:"slow,omitempty"` // it works, and badly
	Until   time.Time `json:"until,omitzero"` // when whoever has struck the examination has forgotten
}

// New makes Ways of a list in order of preference.
func New(list []Way) *Ways { return &Ways{list: list, known: make([]Known, len(list))} }

// Len is how many there are.
func (w *Ways) Len() int { return len(w.list) }

// Way returns one of them.
func (w *Ways) Way(i int) Way { return w.list[i] }

// Known returns what is known of one of them.
func (w *Ways) Known(i int) Known { return w.known[i] }

// Next chooses where to dial, and says when: in the past, unless every way has been struck and none forgotten yet.
// A way on which a dial is under way is chosen again only if there is no other.
func (w *Ways) Next(now time.Time, links []Link, dials []Dial) (way int, at time.Time) {
	best := -1
	var least [7]int
	for i := range w.list {
		rank := w.rank(i, now, links, dials)
		if best < 0 || less(rank, least) {
			best, least = i, rank
		}
	}
	return best, w.known[best].Until
}

// less compares ranks: the first number in which they differ decides.
func less(a, b [7]int) bool {
	for i := range a {
		if a[i] != b[i] {
			return a[i] < b[i]
		}
	}
	return false
}

// rank is the order in which ways are chosen, least first.
func (w *Ways) rank(i int, now time.Time, links []Link, dials []Dial) (rank [7]int) {
	standby := slices.ContainsFunc(links, func(l Link) bool { return !l.Suspected })
	slow, anySlow := 0, false
	for _, d := range dials {
		anySlow = anySlow || d.Slow
		if d.Way == i {
			rank[0]++
		}
		if d.Slow && w.list[d.Way].Transport == w.list[i].Transport {
			slow++
		}
		links = append(links, Link{Way: d.Way}) // as there will be
	}
	if len(dials) > 0 && !anySlow && w.Blocked(i, now) {
		rank[0]++ // not side by side with one that may work: it would be cut, and remembered
	}
	if left := w.known[i].Until.Sub(now); left > 0 {
		rank[1] = 1 + int(left/time.Second)
	}
	rank[2] = w.cost(i, now, standby) + slow*costSlow
	for _, l := range links {
		switch {
		case l.Way == i && l.Suspected:
			rank[3]++
		case l.Suspected:
		case l.Way == i:
			rank[4] += 3
		// What strikes a transport, or an address, is to strike one link only.
		case w.list[l.Way].Transport == w.list[i].Transport:
			rank[4]++
		case w.list[l.Way].Addr == w.list[i].Addr:
			rank[5]++
		}
	}
	if standby && w.Slow(i, now) {
		rank[4] += 2 // it stands by where only the same way once more would
	}
	// Only among equals: the links that there are make their own ways ones that worked, and a standby is to be elsewhere.
	if now.Sub(w.known[i].Worked) >= worksFor {
		rank[6] = 1
	}
	return rank
}

// cost says how little is expected of a way. One failure does not count against it when a standby is sought, which had
// better be elsewhere, and can wait for the next one.
func (w *Ways) cost(i int, now time.Time, standby bool) int {
	failures := w.Failures(i, now)
	c := costClass * w.class(i)
	blocked, slow := w.Blocked(i, now), w.Slow(i, now)
	if blocked {
		c += costBlocked
	}
	switch {
	case standby:
		failures = max(0, failures-1)
	case slow:
		c += costPoor
	case !blocked && now.Sub(w.known[i].Lived) < worksFor:
		c += costLived
	case !blocked && now.Sub(w.known[i].Carried) < forgets:
		c += costCarried
	}
	if !standby && w.Beaten(i, now) {
		c += costOutdone
	}
	return c + costFailure*failures
}

func (w *Ways) class(i int) int { return classes[w.list[i].Transport] }

// Failures is how many failures in a row still count.
func (w *Ways) Failures(i int, now time.Time) int {
	return max(0, w.known[i].Failures-int(now.Sub(w.known[i].Failed)/forgets))
}

// Blocked reports whether an examination has lately found a way blocked, and nothing has come by it since.
func (w *Ways) Blocked(i int, now time.Time) bool { return now.Sub(w.known[i].Blocked) < foundFor }

// Slow reports whether an examination has lately found that a way carries badly.
func (w *Ways) Slow(i int, now time.Time) bool { return now.Sub(w.known[i].Slow) < foundFor }

// Beaten reports whether another way has lately carried many times as much beside it.
func (w *Ways) Beaten(i int, now time.Time) bool { return now.Sub(w.known[i].Outdone) < outdoneFor }

// Steer has an examination's findings take the place of those of the last one. Ways that it says nothing of stay as they are,
// and so does all that dials have shown.
func (w *Ways) Steer(found []Found, now time.Time) {
	w.changed = true
	for _, f := range found {
		i := slices.Index(w.list, f.Way)
		if i < 0 {
			continue
		}
		k := &w.known[i]
		k.Blocked, k.Slow = time.Time{}, time.Time{}
		if f.Blocked {
			k.Blocked = now
		}
		if f.Slow {
			k.Slow = now
		}
		if left := min(f.Until.Sub(now), residuals[len(residuals)-1]); left > 0 && left > k.Until.Sub(now) {
			k.Until = now.Add(left)
		}
	}
}

// Patience is how long a dial may take; zero is as long as the transport likes.
func (w *Ways) Patience(i int, now time.Time) time.Duration {
	if len(w.list) == 1 {
		return 0
	}
	return firstPatience << min(w.Failures(i, now), 3)
}

// Failed tells of a dial that brought no link that was answered on. One strike may be for what that connection sent; the
// second in a row says that it is remembered.
func (w *Ways) Failed(i int, now time.Time, how Failure) {
	w.count(i, now)
	if how != Struck {
		return
	}
	k := &w.known[i]
	k.Strikes++
	if n := k.Strikes - 2; n >= 0 {
		wait := residuals[min(n, len(residuals)-1)]
		k.Until = now.Add(wait + rand.N(wait/8))
	}
}

// Broke tells that the network ended a link on which the gateway had answered. One that had carried little counts twice:
// it was not struck by chance, but for how such links begin.
func (w *Ways) Broke(i int, now time.Time, early bool) {
	w.count(i, now)
	if early {
		w.count(i, now)
	} else {
		w.known[i].Carried = now
	}
}

func (w *Ways) count(i int, now time.Time) {
	w.changed = true
	k := &w.known[i]
	k.Failures, k.Failed = min(w.Failures(i, now)+1, mostFailures), now
}

// Worked tells that the gateway has answered on a link: nobody blocks the way as such.
func (w *Ways) Worked(i int, now time.Time) {
	w.changed = true
	k := &w.known[i]
	k.Strikes, k.Until, k.Worked, k.Blocked = 0, time.Time{}, now, time.Time{}
}

// Lived tells that a link has lived so long that no firewall can have taken it at first sight for what it forbids.
func (w *Ways) Lived(i int, now time.Time) {
	w.changed = true
	w.known[i] = Known{Worked: now, Lived: now, Slow: w.known[i].Slow, Outdone: w.known[i].Outdone}
}

// Outdone tells that a link by another way carried many times as much beside one by way i, which would have carried it all if
// it could.
func (w *Ways) Outdone(i, by int, now time.Time) {
	if now.Sub(w.known[i].Outdone) < outdoneFor/2 && w.known[by].Outdone.IsZero() {
		return // as it is known
	}
	w.changed = true
	w.known[i].Outdone, w.known[by].Outdone = now, time.Time{}
}

// Changed reports whether more is known than Memory has kept.
func (w *Ways) Changed() bool { return w.changed }

// Explore chooses a way of a better class than those that there are links on, to be tried beside them: what was blocked
// may work again. ok is false while there is none, or it is too early.
func (w *Ways) Explore(now time.Time, links []Link, dials []Dial) (way int, ok bool) {
	if len(links) == 0 || len(dials) > 0 {
		return 0, false
	}
	have := w.class(links[0].Way)
	for _, l := range links {
		have = min(have, w.class(l.Way))
	}
	best := -1
	for i := range w.list {
		c := costClass * w.class(i)
		if w.Slow(i, now) {
			c += costPoor
		}
		if c < costClass*have && (best < 0 || w.tried(i).Before(w.tried(best))) {
			best = i
		}
	}
	switch {
	case best < 0:
		w.explored, w.tries = time.Time{}, 0
		return 0, false
	case w.explored.IsZero():
		w.explored = now // from here on it is not the best that could be had
	}
	until := w.known[best].Until
	// By the last class too little goes to wait for as long as any firewall may remember.
	if soon := w.tried(best).Add(residuals[0]); have == lastClass && soon.Before(until) {
		until = soon
	}
	if now.Sub(w.explored) < min(exploreFirst<<min(w.tries, 10), exploreLast) || now.Before(until) {
		return 0, false
	}
	w.explored = now
	w.tries++
	return best, true
}

// tried is when it last turned out that a way did not work.
func (w *Ways) tried(i int) time.Time {
	if k := w.known[i]; k.Blocked.After(k.Failed) {
		return k.Blocked
	}
	return w.known[i].Failed
}

// Better reports whether way a is of a better class than b.
func (w *Ways) Better(a, b int) bool { return w.class(a) < w.class(b) }

// Forget is for when the machine has slept: what was blocked need not be any more. What an examination found is a rule of the
// network, and what ways carry lies in its paths: these stay.
func (w *Ways) Forget() {
	for i, k := range w.known {
		w.known[i] = Known{Worked: k.Worked, Lived: k.Lived, Blocked: k.Blocked, Slow: k.Slow, Outdone: k.Outdone}
	}
	w.explored, w.tries = time.Time{}, 0
}
