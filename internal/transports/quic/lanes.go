package quic

import (
	"io"
	"slices"
	"time"

	quicgo "github.com/sagernet/quic-go"
	"github.com/sagernet/quic-go/quicvarint"

	"github.com/godwit-vpn/godwit/internal/transport"
)

// A lane is a stream of its own, one way, which whoever has something to send begins and leaves:
//
//	client ──> gateway   a request stream, whose answer is empty
//	gateway ──> client   a one-way stream
//
// It begins with laneKind, in the place of the first frame's type or of the stream's, and the rest are the lane's bytes.
// The client begins none before the gateway's marker has come.

// laneKind is a number that HTTP/3 reserves to mean nothing (RFC 9114, sections 6.2.3 and 7.2.8).
const laneKind = 0x21

const (
	// mostLanes is how many are open at once, of the 100 that the far side allows for. More share the last.
	mostLanes = 64
	// laneIdle is how long a lane is kept that carries nothing. It is left with what is sent next: an end of a stream that
	// travels alone would be a packet that nobody else sends.
	laneIdle = 2 * time.Second
	// looseSpacing is the least time between two lanes for what is loose: what is sent in between shares one, for a stream
	// costs more than a packet.
	looseSpacing = 5 * time.Millisecond
)

// lanes are those of our side but lane 0, guarded by conn.mu.
type lanes struct {
	allowed bool
	open    []*lane   // by age
	looked  time.Time // at which of them are idle
}

// lane is one of ours, guarded by conn.mu.
type lane struct {
	key    uint32
	stream outgoing
	queue  []byte // a buffer of buffers, or nil
	fed    bool   // by a goroutine
	left   bool   // and ends when all is fed
	begun  time.Time
	wrote  time.Time // when last
}

// outgoing is the sending half of a stream.
type outgoing interface {
	io.WriteCloser
	SetWriteDeadline(t time.Time) error
}

// laneLocked is the lane of a number, begun if need be; one that is there already, if there are too many.
func (c *conn) laneLocked(key uint32) *lane {
	a := &c.lanes
	if key == 0 || !a.allowed {
		return &c.main
	}
	at := slices.IndexFunc(a.open, func(l *lane) bool { return l.key == key })
	if at >= 0 && (key != transport.LaneLoose || c.wrote.Sub(a.open[at].begun) < looseSpacing) {
		return a.open[at]
	}
	old := at // the loose one before, or one to make room
	if old < 0 && len(a.open) >= mostLanes {
		old = slices.IndexFunc(a.open, func(l *lane) bool { return !l.fed })
	}
	if old >= 0 || len(a.open) < mostLanes {
		if stream, err := c.open(); err == nil {
			if old >= 0 {
				c.leaveLocked(a.open[old])
			}
			l := &lane{key: key, stream: stream, begun: c.wrote}
			a.open = append(a.open, l)
			c.queueLocked(l, []byte{laneKind})
			return l
		}
	}
	switch {
	case at >= 0:
		return a.open[at]
	case len(a.open) > 0:
		return a.open[len(a.open)-1]
	}
	return &c.main
}

// leaveLocked ends a lane as soon as all is fed.
func (c *conn) leaveLocked(l *lane) {
	l.left = true
	c.lanes.open = slices.DeleteFunc(c.lanes.open, func(o *lane) bool { return o == l })
	if !l.fed {
		l.stream.Close()
	}
}

// leaveIdleLocked leaves what has carried nothing for a while.
func (c *conn) leaveIdleLocked() {
	a := &c.lanes
	if c.wrote.Sub(a.looked) < laneIdle/2 {
		return
	}
	a.looked = c.wrote
	for _, l := range slices.Clone(a.open) {
		if !l.fed && c.wrote.Sub(l.wrote) > laneIdle {
			c.leaveLocked(l)
		}
	}
}

// queueLocked has bytes fed to a lane.
func (c *conn) queueLocked(l *lane, b []byte) {
	if l.queue == nil {
		l.queue = *buffers.Get().(*[]byte)
	}
	l.queue = append(l.queue, b...)
	l.wrote = c.wrote
	c.unsent += len(b)
	if !l.fed {
		l.fed = true
		c.feeding++
		go c.feed(l)
	}
}

// feed passes on what is queued for a lane until nothing is.
func (c *conn) feed(l *lane) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(l.queue) > 0 && c.err == nil {
		all := l.queue
		l.queue = nil
		for left := all; len(left) > 0 && c.err == nil; {
			n := min(len(left), c.limit/2)
			c.mu.Unlock()
			_, err := l.stream.Write(left[:n])
			c.mu.Lock()
			left = left[n:]
			c.unsent -= n
			if err != nil {
				c.err = c.why(err)
			}
			if c.backlog && c.unsent <= c.limit/2 && c.err == nil {
				c.backlog = false
				go c.drained()
			}
			c.room.Broadcast()
		}
		if cap(all) <= 2*unsentLimit {
			all = all[:0]
			buffers.Put(&all)
		}
	}
	l.fed = false
	if l.left {
		l.stream.Close()
	}
	if c.feeding--; c.feeding == 0 && c.ending {
		close(c.fed)
	}
}

// OnLane implements transport.Laned.
func (c *conn) OnLane(read func(lane io.Reader)) {
	c.take = read
	close(c.takers)
}

// takeLane reads what the far side sends by a lane.
func (c *conn) takeLane(stream io.Reader) {
	select {
	case <-c.takers:
		c.take(stream)
	case <-c.qc.Context().Done():
	}
}

// takeLanes is the client's: it waits for lanes until the connection ends. The website's server has one-way streams, too,
// and they stay unread.
func (c *conn) takeLanes() {
	select {
	case <-c.takers:
	case <-c.qc.Context().Done():
		return
	}
	for {
		stream, err := c.qc.AcceptUniStream(c.qc.Context())
		if err != nil {
			return
		}
		go func() {
			if kind, err := quicvarint.Read(quicvarint.NewReader(stream)); err == nil && kind == laneKind {
				c.take(stream)
			}
		}()
	}
}

// openRequest begins a lane of the client.
func openRequest(qc *quicgo.Conn) (outgoing, error) {
	s, err := qc.OpenStream()
	if err != nil {
		return nil, err
	}
	return s, nil
}

// openOneWay begins a lane of the gateway.
func openOneWay(qc *quicgo.Conn) (outgoing, error) {
	s, err := qc.OpenUniStream()
	if err != nil {
		return nil, err
	}
	return s, nil
}
