package https

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// startup ends what BBR's own start-up leaves on: sending at almost three times the path's rate.
//
// Linux's BBR does so until its estimate has not grown by a quarter for three round trips, but counts only those in which
// the application had more to send than the socket took. On a path that holds more than two thirds of the largest send
// buffer (4 MiB unless the machine's administrator says otherwise: 100 Mbit/s and 200 ms) poll never says "writable" in
// time, none counts, and it lasts as long as the connection does: a tenth of all segments is lost, and what is behind them
// waits. So we count ourselves, and bound the pacing rate to what was achieved until BBR leaves its start-up.
type startup struct {
	over    bool // it has ended once, which is for good
	round   time.Time
	full    bool    // more was to be sent than went, in this round
	best    float64 // bytes per second
	flat    int     // rounds in which best has not grown
	bounded bool
}

const (
	startupGain = 2 << 8 // above this BBR's pacing gain, of 256ths, is that of its start-up
	flatRounds  = 3
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
	s.full = s.full || full
	now := time.Now()
	onSocket(c, func(fd int) {
		info, err := unix.GetsockoptTCPCCBBRInfo(fd, unix.IPPROTO_TCP, unix.TCP_CC_INFO)
		if err != nil {
			s.over = true // not BBR
			return
		}
		if info.Pacing_gain <= startupGain {
			// At a gain of one for the window too it only measures the round trip, and may go back.
			if s.over = info.Cwnd_gain > 1<<8; s.over && s.bounded {
				setPacing(fd, ^uint64(0))
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
			s.bounded = true
			setPacing(fd, uint64(bw*headroom))
		}
	})
}

// setPacing bounds the pacing rate, in bytes per second; ^0 frees it.
func setPacing(fd int, rate uint64) {
	unix.SetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, rate)
}
