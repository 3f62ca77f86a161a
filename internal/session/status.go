package session

import (
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
)

// Status is a session at one moment.
type Status struct {
	Streams       int
	StreamsTotal  uint64
	Held          int    // bytes retained for sending
	Reassembly    int    // bytes held for readers
	Sent          uint64 // bytes on all links so far
	Received      uint64
	Resent        uint64
	Twice         uint64 // bytes sent on two links at once
	Suspicions    uint64
	PacketsLate   uint64
	PacketsFull   uint64
	LastData      time.Time // when a link last carried anything in; zero if never
	Detached      time.Time // since when there is no link; zero if there is one
	LeaveBy       time.Time // when the session, which is being left, is closed at the latest; zero if it is not
	ProbeInterval time.Duration
	Links         []LinkStatus
}

// LinkStatus is a link at one moment.
type LinkStatus struct {
	Link       *Link
	ID         uint64
	Transport  string
	Since      time.Time
	Confirmed  bool // the far side has answered on it
	Suspected  bool
	Draining   bool
	RTT        time.Duration
	Rate       float64 // best recent rate out, bytes per second
	Sent       uint64  // bytes
	Received   uint64
	InFlight   int
	LastRecv   time.Time
	Congestion string // as read back from the kernel; empty if unknown
}

// Status returns the session's state.
func (s *Session) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{
		Streams: len(s.streams), StreamsTotal: s.count.streams, Held: s.held, Reassembly: s.reassembly,
		Sent: s.count.sent, Received: s.count.received, Resent: s.count.resent, Twice: s.count.twice, Suspicions: s.count.suspicions, PacketsLate: s.count.lateDrops,
		PacketsFull: s.count.overflowDrops, Detached: s.detached, ProbeInterval: s.probeEvery,
		LastData: s.lastHeardLocked(), LeaveBy: s.leaveBy,
	}
	for _, l := range s.links {
		ls := LinkStatus{
			Link: l, ID: l.id, Transport: l.opt.Transport, Since: l.born, Confirmed: l.confirmed, Suspected: l.suspected,
			Draining: l.draining, RTT: l.rtt.smoothed, Rate: l.rate.best(), Sent: l.sent, Received: l.received,
			InFlight: l.inFlight, LastRecv: l.lastRecv,
		}
		if t, ok := l.conn.(transport.Tuned); ok {
			ls.Congestion = t.Congestion()
		}
		st.Links = append(st.Links, ls)
	}
	return st
}

// Carried is how many bytes links have carried so far, in both directions, as Status counts them.
func (s *Session) Carried() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count.sent + s.count.received
}

// Cause is why the link died, nil while it lives.
func (l *Link) Cause() error {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	return l.cause
}

// ID numbers the links of a session in the order they came.
func (l *Link) ID() uint64 { return l.id }

// Probe asks every link whether it lives, as after a change of network or a sleep.
func (s *Session) Probe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, l := range s.links {
		if !l.pinging && !l.dead {
			l.pingLocked(now)
		}
	}
}
