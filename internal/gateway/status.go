package gateway

import (
	"time"

	"github.com/godwit-vpn/godwit/internal/session"
)

// Status is a gateway at one moment: numbers, and no one's name, address or destination.
type Status struct {
	Since      time.Time `json:"since"`
	Draining   bool      `json:"draining"` // another process has taken over
	Devices    int       `json:"devices"`  // with a session
	Sessions   int       `json:"sessions"`
	Attached   int       `json:"attached"` // sessions with a link
	Links      int       `json:"links"`
	Streams    int       `json:"streams"`
	Sent       uint64    `json:"bytes_sent"` // by links that are up
	Received   uint64    `json:"bytes_received"`
	Memory     int64     `json:"memory_bytes"` // retained and reassembled
	MemoryMax  int64     `json:"memory_limit_bytes"`
	Admitted   uint64    `json:"links_admitted"`
	Refused    uint64    `json:"links_refused"`
	Enrolled   uint64    `json:"devices_enrolled"`
	Congestion []string  `json:"congestion_control"` // in use on links that are up
}

// Status returns the gateway's state.
func (g *Gateway) Status() Status {
	guests := g.guests(everyone)
	st := Status{
		Since: g.began, Sessions: len(guests), Memory: g.pool.Used(), MemoryMax: g.pool.Limit(),
		Admitted: g.count.admitted.Load(), Refused: g.count.refused.Load(),
		Enrolled:   g.count.enrolled.Load(),
		Congestion: []string{},
	}
	_, st.Draining = g.draining()
	devices := make(map[any]bool)
	seen := make(map[string]bool)
	for _, v := range guests {
		devices[v.device] = true
		s := v.session.Status()
		st.Streams += s.Streams
		st.Links += len(s.Links)
		if len(s.Links) > 0 {
			st.Attached++
		}
		for _, l := range s.Links {
			st.add(l)
			if l.Congestion != "" && !seen[l.Congestion] {
				seen[l.Congestion] = true
				st.Congestion = append(st.Congestion, l.Congestion)
			}
		}
	}
	st.Devices = len(devices)
	return st
}

func (st *Status) add(l session.LinkStatus) {
	st.Sent += l.Sent
	st.Received += l.Received
}
