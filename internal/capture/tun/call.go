package tun

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// A socket that calls does so as the application does: both connect, and what each of them hears is the other (RFC 9293 §3.5, a
// simultaneous open), but that the application need not know.
//
//	application                                             our socket
//	  SYN ──> held
//	                 the other's SYN goes no further <── SYN
//	          the application's, which was held       ──> SYN
//	  SYN, ACK <──                                    <── SYN, ACK
//	  ACK ──>                                         ──> ACK
//
// So to a firewall that keeps track of connections all that comes to our socket answers what it has sent.

// call connects our socket, and carries the connection to its end.
func (c *Capture) call(ctx context.Context, n *connection) {
	t, key := &c.conns, portKey{n.port, n.own.own.Is6()}
	calls, cancel := context.WithTimeout(ctx, acceptTime)
	defer cancel()
	t.mu.Lock()
	if t.byPort[key] != n {
		t.mu.Unlock()
		return
	}
	n.cancel = cancel
	t.mu.Unlock()

	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		// Only from the port that is known here may the call come: any program can send to the peer's address.
		at, err := bind(raw, n.own.own)
		if err != nil {
			return err
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		n.at = at
		return nil
	}}
	conn, err := c.cfg.Dial(&d, calls, "tcp", netip.AddrPortFrom(n.own.peer, n.port).String())
	t.mu.Lock()
	known := t.byPort[key] == n
	n.cancel = nil
	if err != nil && known {
		held := n.held
		t.removeLocked(n)
		t.mu.Unlock()
		if held.Packet != nil { // the application knows of nothing
			c.writeReset(held, n.first)
		}
		return
	}
	n.taken, n.since = true, time.Now()
	t.mu.Unlock()
	if err != nil {
		return
	}
	if !known {
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
		return
	}
	c.carry(ctx, n, conn.(*net.TCPConn))
}

// callsLocked takes the first segments of a socket that calls. The call itself goes no further: its answer is the application's
// first segment. What our socket says to that goes on as the answer to it.
func (n *connection) callsLocked(f Frame, s segment) (answer Frame, on bool) {
	if n.held.Packet == nil {
		return answer, s.flags&flagACK != 0
	}
	if s.flags&flagACK == 0 {
		answer = n.held
		answer.Packet = bytes.Clone(n.held.Packet)
		n.first.readdress(answer, netip.AddrPortFrom(n.own.peer, n.port), s.src)
		return answer, false
	}
	s.keepOptions(f, n.first.options(n.held.Packet))
	n.held = Frame{}
	return answer, true
}
