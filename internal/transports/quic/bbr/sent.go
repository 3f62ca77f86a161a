package bbr

import (
	"github.com/sagernet/quic-go/congestion"
	"github.com/sagernet/quic-go/monotime"
)

// packet is one that is on its way, with what was known when it was sent.
type packet struct {
	number      congestion.PacketNumber
	at          monotime.Time // zero: there is none
	delivered   int64
	deliveredAt monotime.Time
	firstSent   monotime.Time
	limited     bool
}

// sentPackets are those on their way. Numbers only grow, so a packet's place follows from its number: room is a power of
// two and as large as what lies between the oldest and the newest.
type sentPackets struct {
	room   []packet
	oldest congestion.PacketNumber // none before it is there
	next   congestion.PacketNumber
}

const leastRoom = 64

func (s *sentPackets) at(n congestion.PacketNumber) *packet {
	return &s.room[int(n)&(len(s.room)-1)]
}

func (s *sentPackets) add(p packet) {
	if s.next == 0 || s.oldest > s.next {
		s.oldest = p.number
	}
	for int(p.number-s.oldest) >= len(s.room) {
		s.grow()
	}
	s.next = p.number + 1
	*s.at(p.number) = p
}

func (s *sentPackets) grow() {
	old := *s
	s.room = make([]packet, max(leastRoom, 2*len(old.room)))
	for n := old.oldest; n < old.next && len(old.room) > 0; n++ {
		if p := old.at(n); p.number == n {
			*s.at(n) = *p
		}
	}
}

// take removes a packet.
func (s *sentPackets) take(n congestion.PacketNumber) (p packet, ok bool) {
	if n < s.oldest || n >= s.next {
		return packet{}, false
	}
	there := s.at(n)
	if there.number != n || there.at.IsZero() {
		return packet{}, false
	}
	p, *there = *there, packet{}
	return p, true
}

// forget drops all before n.
func (s *sentPackets) forget(n congestion.PacketNumber) {
	if s.next == 0 {
		return
	}
	for ; s.oldest < min(n, s.next); s.oldest++ {
		*s.at(s.oldest) = packet{}
	}
	if s.oldest == s.next && len(s.room) > leastRoom*16 {
		s.room = nil // a burst's room is not kept by an idle connection
		s.next = 0
	}
}

// maxima has the highest of a value in each of the last rounds.
type maxima struct {
	rounds [rateRounds]int64
	values [rateRounds]float64
	top    float64
	topAt  int64
}

func (m *maxima) add(round int64, v float64) {
	i := round % rateRounds
	if m.rounds[i] != round {
		m.rounds[i], m.values[i] = round, 0
	}
	m.values[i] = max(m.values[i], v)
	if v >= m.top {
		m.top, m.topAt = v, round
	}
}

// max is the highest of the last rounds.
func (m *maxima) max(round int64) float64 {
	if round-m.topAt < rateRounds {
		return m.top
	}
	m.top, m.topAt = 0, round
	for i, at := range m.rounds {
		if round-at < rateRounds && m.values[i] >= m.top {
			m.top, m.topAt = m.values[i], at
		}
	}
	return m.top
}
