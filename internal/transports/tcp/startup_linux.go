package tcp

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// startup gives a connection room for what a long path holds, once it has found the path's rate, and ends BBR's search for
// that rate where it does not end by itself.
//
// Linux lets 4 MiB be on their way, unless the machine's administrator says otherwise, and poll says "writable" only below
// two thirds of them. 100 Mbit/s and 200 ms hold as much, and with losses, which keep what came after them, twice as much:
// then the buffer is what limits a connection, at 1 % of losses to half of what the path carries. Worse, BBR leaves its
// start-up, which sends at almost three times the path's rate, only after three round trips in which its estimate does not
// grow by a quarter and the application had more to send than the socket took. With poll so late, none counts, and it
// lasts as long as the connection does: a tenth of all segments is lost for nothing.
//
// So we count ourselves, bound the pacing rate to what was achieved, raise the buffer, and free the rate once BBR has
// left its start-up. While BBR still searches, a small buffer is right: it keeps the search from flooding the path.
type startup struct {
	over    bool // it has ended once, which is for good, or never began
	known   bool // that the congestion control is BBR
	round   time.Time
	full    bool    // more was to be sent than went, in this round
	best    float64 // bytes per second
	flat    int     // rounds in which best has not grown
	bounded bool
}

const (
	startupGain = 2 << 8 // above this BBR's pacing gain, of 256ths, is that of its start-up
	flatRounds  = 8      // BBR itself takes three; losses can make as many flat before their time
	// longPath is how many bytes a path must hold for that to happen at all, and then some less.
	longPath = 1 << 20
	// growth is what counts as such, headroom what is left for the path to become faster meanwhile.
	growth   = 1.25
	headroom = 1.05
)

// look is called several times a round trip while the connection is busy.
func (s *startup) look(c net.Conn, full bool) {
	if s.over {
		return
	}
	if !s.known {
		if s.known = congestion(c) == preferredCongestion; !s.known { // another one's figures mean something else
			s.over = true
			return
		}
	}
	s.full = s.full || full
	now := time.Now()
	onSocket(c, func(fd int) {
		info, err := unix.GetsockoptTCPCCBBRInfo(fd, unix.IPPROTO_TCP, unix.TCP_CC_INFO)
		if err != nil {
			s.over = true
			return
		}
		if info.Pacing_gain <= startupGain {
			// At a gain of one for the window too it only measures the round trip, and may go back.
			if s.over = info.Cwnd_gain > 1<<8; s.over {
				raiseSendBuffer(fd)
				if s.bounded {
					setPacing(fd, ^uint64(0))
				}
			}
			return
		}
		if now.Sub(s.round) < time.Duration(info.Min_rtt)*time.Microsecond {
			return
		}
		bw := float64(uint64(info.Bw_hi)<<32 | uint64(info.Bw_lo))
		switch {
		case bw > s.best*growth:
			s.best, s.flat = bw, 0
		case s.full:
			s.flat++
		}
		s.round, s.full = now, false
		if s.flat >= flatRounds && bw*float64(info.Min_rtt)/1e6 > longPath {
			setPacing(fd, uint64(bw*headroom))
			if !s.bounded {
				s.bounded = true
				raiseSendBuffer(fd)
			}
		}
	})
}

// setPacing bounds the pacing rate, in bytes per second; ^0 frees it.
func setPacing(fd int, rate uint64) {
	unix.SetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, rate)
}

// sendBuffer is the most that may be on its way: more than a gigabit per second and 200 ms hold. It is a bound, not
// memory: what is unsent stays within setUnsentLimit.
const sendBuffer = 32 << 20

// raiseSendBuffer bounds the send buffer by sendBuffer, or by as much as the kernel allows if that is more than it would
// let it grow to by itself.
func raiseSendBuffer(fd int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer/2) == nil { // it is doubled
		return
	}
	was, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
	if err != nil {
		return
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer/2)
	if n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF); err == nil && n < max(was, ownBuffer) {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK, 0) // let the kernel size it again
	}
}

// ownBuffer is what Linux lets a send buffer grow to by itself (tcp_wmem).
const ownBuffer = 4 << 20
