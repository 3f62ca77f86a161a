package session

import (
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/wire"
)

const (
	// packetAge is how long a packet may wait for a link: a late one is worth less than a lost one.
	packetAge = 100 * time.Millisecond
	// packetQueueBytes bounds the packets that wait.
	packetQueueBytes = 512 << 10
)

// packetQueue holds IP packets on their way to a link. The zero value is empty.
type packetQueue struct {
	q     fifo[queuedPacket]
	bytes int
}

type queuedPacket struct {
	p  []byte
	at time.Time
}

func (q *packetQueue) len() int { return q.q.len() }

// pop takes the next packet, or nil if it came too late.
func (q *packetQueue) pop(now time.Time, c *counters) []byte {
	p := q.q.pop()
	q.bytes -= len(p.p)
	if now.Sub(p.at) > packetAge {
		c.lateDrops++
		return nil
	}
	return p.p
}

// SendPacket sends one IP packet, which may be lost: it is dropped when links are too slow for it or there is none. It
// never waits for long and does not keep p.
func (s *Session) SendPacket(p []byte) error {
	if len(p) == 0 || len(p) > wire.MaxPacket {
		return flow.Errorf(flow.CodeBadTarget, "a packet of %d bytes cannot be sent", len(p))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if s.packets.bytes > 0 && s.packets.bytes+len(p) > packetQueueBytes { // one may be longer than that by itself
		s.count.overflowDrops++
		return nil
	}
	s.packets.q.push(queuedPacket{append([]byte(nil), p...), time.Now()})
	s.packets.bytes += len(p)
	s.kickLocked()
	return nil
}
