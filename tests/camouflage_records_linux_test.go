package e2e

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// A mark is what is compared of a record.
type mark struct {
	size  int
	alone bool
}

func (m mark) String() string { return fmt.Sprint(m.size) }

// firsts are the first records each way that passed before a moment, or ever. The server's acknowledgement of SETTINGS
// and the window it opens are one record or two, as its goroutines race: here they are one.
func (c *watched) firsts(until time.Time) (up, down []mark) {
	for _, r := range c.records {
		if !until.IsZero() && r.at.After(until) {
			continue
		}
		m := mark{r.Size, r.alone}
		if r.Up {
			up = append(up, m)
			continue
		}
		if n := len(down); n > 0 && down[n-1].size == windowRecord && r.Size == ackRecord {
			down[n-1].size = windowRecord + ackRecord - recordOverhead
			continue
		}
		down = append(down, m)
	}
	return up[:min(len(up), mostRecords)], down[:min(len(down), mostRecords)]
}

const (
	recordOverhead = 17                     // the type inside, and the tag
	ackRecord      = 9 + recordOverhead     // SETTINGS ACK
	windowRecord   = 9 + 4 + recordOverhead // WINDOW_UPDATE
	helloSizes     = 3 * 32                 // between the least and the largest of encrypted_client_hello's
	cookieSpread   = 8                      // letters of random cookies take five to eight bits each
	usualSpread    = 2                      // a signature's, a date's
)

// spread is by how much two visits' records at one place can differ by what is drawn by lot.
func spread(up bool, i int) int {
	switch {
	case up && i == 0:
		return helloSizes
	case up && i == 4:
		return cookieSpread
	}
	return usualSpread
}

// compareRecords asks of each link whether some visit of Chromium's that is as new has the same first records from the
// client, and has had each of those from the server; and of each record whether it is about as often alone in its segment.
func (c *capture) compareRecords(t *testing.T) {
	odd, all := map[*watched]string{}, 0
	for _, like := range likeness {
		all += len(c.conns[like.links])
		for _, up := range []bool{true, false} {
			c.compareWay(t, like.links, like.visits, up, odd)
		}
	}
	// On a busy machine some that are tired come late.
	if len(odd) > max(1, all/10) {
		t.Errorf("%d of %d links have first records that no visit of Chromium's has: %v", len(odd), all,
			slices.Collect(maps.Values(odd)))
	} else if len(odd) > 0 {
		t.Logf("%d of %d links are odd: %v", len(odd), all, slices.Collect(maps.Values(odd)))
	}
	c.tellOrder(t)
	c.tellRest(t)
}

// compareWay compares links' records in one direction with those of visits, and notes which links are odd.
func (c *capture) compareWay(t *testing.T, kind string, visits []string, up bool, odd map[*watched]string) {
	t.Helper()
	way := map[bool]string{true: "from the client", false: "from the server"}[up]
	var table strings.Builder
	fmt.Fprintf(&table, "records %s, sizes (how many, if not all; s: shares a segment)\n%4s", way, "")
	shown := append(slices.Clone(visits), kind)
	for _, name := range shown {
		fmt.Fprintf(&table, "  %-40s", name)
	}
	for i := range mostRecords {
		want, got := c.place(visits[0], up, i), c.place(kind, up, i)
		if len(want.at)+len(got.at) == 0 {
			break
		}
		fmt.Fprintf(&table, "\n%4d", i+1)
		for _, name := range shown {
			fmt.Fprintf(&table, "  %-40s", c.place(name, up, i))
		}
		if len(want.at) > 0 && len(got.at) > 0 && math.Abs(want.alone()-got.alone()) > 0.9 {
			t.Errorf("record %d %s is alone in its segment in %.0f %% of %q, in %.0f %% of %q", i+1, way,
				100*want.alone(), visits[0], 100*got.alone(), kind)
		}
	}
	t.Log(table.String())
	for _, link := range c.conns[kind] {
		ours := c.marks(link, up)
		if !up { // a server's goroutines race, at both: what it writes in one record or in two is a matter of moments
			for i, m := range ours {
				if !c.seen(visits, m, i) {
					odd[link] += fmt.Sprintf(" %s, record %d from the server: %v", kind, i+1, m)
				}
			}
			continue
		}
		if !slices.ContainsFunc(c.conns[visits[0]], func(visit *watched) bool {
			return begins(c.marks(visit, up), ours, up)
		}) {
			odd[link] += fmt.Sprintf(" %s, %s: %v", kind, way, ours)
		}
	}
}

// marks are a connection's first records in one direction.
func (c *capture) marks(conn *watched, up bool) []mark {
	ups, downs := conn.firsts(c.until[conn])
	if up {
		return ups
	}
	return downs
}

// begins reports whether a visit begins as a link does, but for what is drawn by lot.
func begins(visit, link []mark, up bool) bool {
	if len(link) > len(visit) {
		return false
	}
	for i, m := range link {
		if d := m.size - visit[i].size; max(d, -d) > spread(up, i) {
			return false
		}
	}
	return true
}

// A place is what was seen of one kind's records at one place.
type place struct {
	at  map[*watched]mark
	all int
}

func (c *capture) place(kind string, up bool, i int) place {
	p := place{at: map[*watched]mark{}, all: len(c.conns[kind])}
	for _, conn := range c.conns[kind] {
		if marks := c.marks(conn, up); i < len(marks) {
			p.at[conn] = marks[i]
		}
	}
	return p
}

// seen reports whether visits of Chromium's had such a record from the server there, or a place before or after it.
func (c *capture) seen(visits []string, m mark, at int) bool {
	for _, kind := range visits {
		for i := max(0, at-1); i <= at+1; i++ {
			for _, had := range c.place(kind, false, i).at {
				if d := m.size - had.size; max(d, -d) <= spread(false, at) {
					return true
				}
			}
		}
	}
	return false
}

// alone is the share of records that have a segment of their own.
func (p place) alone() float64 {
	n := 0
	for _, m := range p.at {
		if m.alone {
			n++
		}
	}
	return float64(n) / float64(max(1, len(p.at)))
}

func (p place) String() string {
	if len(p.at) == 0 {
		return "–"
	}
	sizes := map[int]int{}
	for _, m := range p.at {
		sizes[m.size]++
	}
	var s []string
	for _, size := range slices.Sorted(maps.Keys(sizes)) {
		one := fmt.Sprint(size)
		if n := sizes[size]; n < p.all {
			one += fmt.Sprintf("(%d)", n)
		}
		s = append(s, one)
	}
	if p.alone() <= 0.5 {
		s = append(s, "s")
	}
	return strings.Join(s, " ")
}

// tellOrder tells in which order the ways' records come, which is a matter of moments at both.
func (c *capture) tellOrder(t *testing.T) {
	t.Helper()
	for _, kind := range []string{returning, links, revisits, backLinks} {
		var ackFirst, all int
		var times []time.Duration
		for _, conn := range c.conns[kind] {
			var ack, answer, finished, request time.Time
			up, down := 0, 0
			if conn.comesBack() {
				down = 2 // the server's certificate and its signature, which it does not send then
			}
			for _, r := range conn.records {
				if r.Up {
					up++
				} else {
					down++
				}
				switch {
				case r.Up && up == 3:
					finished = r.at
				case r.Up && up == 5:
					request = r.at
				case r.Up && up == 6:
					ack = r.at
				case !r.Up && r.Size > 2*ackRecord && down > 8 && answer.IsZero():
					answer = r.at
				}
			}
			if ack.IsZero() || answer.IsZero() {
				continue
			}
			all++
			if ack.Before(answer) {
				ackFirst++
			}
			times = append(times, request.Sub(finished))
		}
		slices.Sort(times)
		if len(times) == 0 {
			continue
		}
		t.Logf("%s: SETTINGS ACK before the answer in %d of %d; HEADERS %v after Finished (median)", kind, ackFirst, all,
			times[len(times)/2].Round(10*time.Microsecond))
	}
}

// tellRest tells what follows, which is compared with nothing.
func (c *capture) tellRest(t *testing.T) {
	t.Helper()
	for _, kind := range []string{newVisitors, returning, revisits, links, backLinks, early, curlOver, browserOver} {
		conns := c.conns[kind]
		if len(conns) == 0 {
			continue
		}
		conn := conns[len(conns)-1]
		var b strings.Builder
		for i, r := range conn.records {
			if i > 60 {
				b.WriteString(" …")
				break
			}
			fmt.Fprintf(&b, " %s%d", map[bool]string{true: "↑", false: "↓"}[r.Up], r.Size)
			if i+1 < len(conn.records) {
				if gap := conn.records[i+1].at.Sub(r.at); gap > 4*oneWay {
					fmt.Fprintf(&b, " (%v)", gap.Round(10*time.Millisecond))
				}
			}
		}
		t.Logf("%s, for example:%s, %s", kind, b.String(), conn.end)
	}
}
