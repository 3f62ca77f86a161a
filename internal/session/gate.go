package session

import "sync"

// Gate shares the work of sending among those who do it on one machine, by deficit round robin (Shreedhar and Varghese
// 1995): at a gateway each device is a member, so that one that floods leaves the others their turns. Whoever was silent
// goes first, once, as among the streams of a session (see turns.go). Safe for concurrent use.
type Gate struct {
	mu    sync.Mutex
	slots int // as many may send at once
	busy  int
	// Those who wait stand in one of these, each once.
	fresh fifo[*Member]
	round fifo[*Member]
}

// gateQuantum is how many bytes a member may send per round: a full batch, so that one turn is one write.
const gateQuantum = 2 * batchBytes

// NewGate makes a gate that lets slots members send at once.
func NewGate(slots int) *Gate { return &Gate{slots: max(slots, 1)} }

// Member is one of those who share a Gate. A nil Member is never held up.
type Member struct {
	g       *Gate
	listed  bool // it stands in fresh or round
	deficit int
	waiting fifo[chan struct{}]
}

// Join makes a new member. It needs no leaving: a member that sends nothing costs nothing.
func (g *Gate) Join() *Member { return &Member{g: g} }

// enter waits for the member's turn.
func (m *Member) enter() {
	if m == nil {
		return
	}
	g := m.g
	g.mu.Lock()
	if g.busy < g.slots { // then nobody waits either
		g.busy++
		g.mu.Unlock()
		return
	}
	ch := make(chan struct{})
	m.waiting.push(ch)
	if !m.listed {
		m.listed = true
		m.deficit = gateQuantum
		g.fresh.push(m)
	}
	g.mu.Unlock()
	<-ch
}

// leave ends a turn in which n bytes were sent, and gives it to the next.
func (m *Member) leave(n int) {
	if m == nil {
		return
	}
	g := m.g
	g.mu.Lock()
	defer g.mu.Unlock()
	m.deficit -= n
	g.busy--
	for g.busy < g.slots {
		list := &g.fresh
		if list.len() == 0 {
			list = &g.round
		}
		if list.len() == 0 {
			return
		}
		next := list.first()
		switch {
		case next.deficit <= 0:
			next.deficit += gateQuantum
			g.round.push(list.pop())
		case next.waiting.len() > 0:
			close(next.waiting.pop())
			g.busy++
		case list == &g.fresh: // it is not fresh again before the others had their turn
			g.round.push(list.pop())
		default:
			list.pop().listed = false
		}
	}
}
