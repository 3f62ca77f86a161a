// Package tcp is what stands between TLS and TCP in every transport that is on TCP: batches in one write, writes that
// never wait, and what the kernel is asked and told about a connection. It works for other connections, too, with less.
package tcp

import (
	"net"

	"github.com/godwit-vpn/godwit/internal/transport"
)

// SystemCongestion leaves the congestion control to the system.
const SystemCongestion = "system"

// preferredCongestion holds up under loss (draft-ietf-ccwg-bbr); where the kernel has or allows no BBR, the system's
// own serves, and status says so.
const preferredCongestion = "bbr"

// Tune asks for a congestion control; empty prefers BBR, and SystemCongestion asks for none.
func Tune(c net.Conn, congestion string) {
	switch congestion {
	case "":
		setCongestion(c, preferredCongestion)
	case SystemCongestion:
	default:
		setCongestion(c, congestion)
	}
}

// Measure is transport.Tuned's, of the connection below or, if that is a transport's own, as that says.
func (p *Conn) Measure() transport.Path {
	if t, ok := p.Conn.(transport.Tuned); ok {
		return t.Measure()
	}
	p.startup.look(p.Conn, p.wasFull())
	return path(p.Conn)
}

// SetUnsentLimit is transport.Tuned's.
func (p *Conn) SetUnsentLimit(bytes int) {
	if t, ok := p.Conn.(transport.Tuned); ok {
		t.SetUnsentLimit(bytes)
		return
	}
	setUnsentLimit(p.Conn, bytes)
}

// Congestion is transport.Tuned's.
func (p *Conn) Congestion() string {
	if t, ok := p.Conn.(transport.Tuned); ok {
		return t.Congestion()
	}
	return congestion(p.Conn)
}
