package rules

import (
	"sync/atomic"

	"github.com/godwit-vpn/godwit/lab/firewall"
)

// Strike stands for whatever a firewall does to the connection that just now carries the most: a scenario arms it, and the
// next large packet towards the client meets it. It is not set in a box but as a profile's worst.
type Strike struct {
	Then  Then
	armed atomic.Bool
	done  atomic.Int64
}

func (r *Strike) check(place firewall.Place) error { return r.Then.check(place) }

// Arm has the next one struck.
func (r *Strike) Arm() { r.armed.Store(true) }

// Struck says how many were.
func (r *Strike) Struck() int { return int(r.done.Load()) }

// large is a packet that is part of a download rather than of a handshake or an echo.
const large = 1000

// after is how much a connection has carried before it is worth a strike, in bytes.
const after = 100 << 10

// Watch waits for the moment.
func (r *Strike) Watch(f *firewall.Flow) firewall.Watcher {
	if !f.FromInside {
		return nil
	}
	return firewall.WatchFunc(func(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
		if p.FromClient || len(p.Payload) < large || f.FromServer.Bytes < after || !r.armed.CompareAndSwap(true, false) {
			return
		}
		r.done.Add(1)
		r.Then.do(f, do, "struck after %d bytes", f.FromServer.Bytes)
	})
}
