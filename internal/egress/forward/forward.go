// Package forward has the kernel carry a gateway's packets, of whatever protocol: it routes them from a TUN to the world behind
// its own addresses, and answers back.
//
//	WritePacket  a session's packet ─ checks ─ policy ─ TUN ─ the kernel: hop limit, MTU, NAT ─ the world
//	TUN          answers, ICMP errors ─ put together ─ the session that has the address ─ send
//
// What may be reached is decided by the same policy as for sockets, for each packet, before the kernel has it. What the kernel
// makes of it, its firewall and its tables, is set up by somebody else: see Config.
package forward

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/godwit-vpn/godwit/internal/egress"
	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/packet"
)

// Networks for asking whether the kernel forwards. No session has any of their addresses; the TUN's own are egress.Hop4 and Hop6.
var (
	Probe4 = netip.MustParsePrefix("100.64.0.0/24")
	Probe6 = netip.MustParsePrefix("fd67:6f64:7769:7402::/64")
)

// Config is what an Egress needs.
type Config struct {
	// Sockets dial, look names up, and know the policy. The caller closes them.
	Sockets *egress.Sockets
	// TUN reads and writes one packet at a time; the kernel forwards what is written. Close unblocks Read. The Egress closes it.
	TUN io.ReadWriteCloser
	// Number is this TUN's among those of the machine.
	Number int
	// Take has the kernel route addresses to the TUN, or fails, matching fs.ErrExist if others have one of them. Release undoes it.
	Take    func(...netip.Addr) error
	Release func(...netip.Addr)
	// Forget has the kernel forget the flows of these addresses.
	Forget func([]netip.Addr) error
	// All has the kernel carry UDP and echoes, too. Without it they stay with the sockets:
	// their mappings are the same for whomever is sent to, and the kernel keeps no table of who talks to whom.
	All bool
	// Log is told about the gateway's own condition, never about destinations.
	Log *slog.Logger
}

// Egress is sockets, and the kernel for packets. Safe for concurrent use.
type Egress struct {
	*egress.Sockets
	cfg    Config
	works  [2]bool // the kernel forwards IPv4, IPv6: written before there are sessions
	id     atomic.Uint32
	broken atomic.Bool
	wg     sync.WaitGroup
	probe  [2]chan []byte // what comes back of the questions whether the kernel forwards, of both versions
	gone   chan netip.Addr

	mu       sync.RWMutex
	sessions map[netip.Addr]*sink
	closed   bool
}

var _ interface {
	flow.Egress
	flow.Forwarder
} = (*Egress)(nil)

// New makes an Egress, and asks the kernel whether it forwards. Where it does neither IPv4 nor IPv6, and not All is to go by it,
// that is an error. The caller closes the TUN then.
func New(cfg Config) (*Egress, error) {
	e := &Egress{Sockets: cfg.Sockets, cfg: cfg, sessions: make(map[netip.Addr]*sink), gone: make(chan netip.Addr, 1024)}
	for i := range e.probe {
		e.probe[i] = make(chan []byte, 8) // one is asked at a time; what else comes there is of no use
	}
	e.wg.Go(e.read)
	err := e.check()
	switch {
	case err != nil && !cfg.All && e.works == [2]bool{}:
		cfg.TUN.Close()
		e.wg.Wait()
		return nil, err
	case err != nil:
		cfg.Log.Warn("the kernel does not forward packets as it should: another firewall on this machine may drop them", "err", err)
		if cfg.All {
			e.works = [2]bool{true, true} // it may be that only the test was dropped
		}
	}
	e.wg.Go(e.forget)
	return e, nil
}

// Close ends all sinks and closes the TUN. The Sockets stay.
func (e *Egress) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	var addrs []netip.Addr
	for a := range e.sessions {
		addrs = append(addrs, a)
	}
	clear(e.sessions)
	close(e.gone)
	e.mu.Unlock()
	err := e.cfg.TUN.Close()
	e.wg.Wait()
	if len(addrs) > 0 {
		e.forgetThese(addrs)
	}
	return err
}

// read hands out what the kernel brings.
func (e *Egress) read() {
	var pieces packet.Reassembly
	buf := make([]byte, 65536)
	for {
		n, err := e.cfg.TUN.Read(buf)
		if err != nil {
			if !errors.Is(err, os.ErrClosed) {
				e.broken.Store(true)
				e.cfg.Log.Error("the gateway's TUN is gone: only sockets carry packets now", "err", err)
			}
			return
		}
		b := buf[:n]
		if whole, isPiece := pieces.Add(b, time.Now()); isPiece {
			if b = whole; b == nil {
				continue
			}
		}
		e.deliver(b)
	}
}

func (e *Egress) deliver(b []byte) {
	_, dst, err := packet.Addrs(b)
	if err != nil {
		return
	}
	if Probe4.Contains(dst) || Probe6.Contains(dst) {
		select {
		case e.probe[family(dst)] <- append([]byte(nil), b...):
		default:
		}
		return
	}
	e.mu.RLock()
	k := e.sessions[dst]
	e.mu.RUnlock()
	if k == nil {
		return
	}
	k.paths.Learn(mtuOf(b))
	k.send(b)
}

// forget has the kernel forget whom sessions that have ended talked to.
func (e *Egress) forget() {
	for a := range e.gone {
		addrs := []netip.Addr{a}
		time.Sleep(forgetDelay) // others may end at the same time, and each time the whole table is looked through
		for len(e.gone) > 0 {
			if a, ok := <-e.gone; ok {
				addrs = append(addrs, a)
			}
		}
		e.mu.RLock()
		for i, a := range addrs {
			if e.sessions[a] != nil { // the same device's again, most likely, whose flows go on
				addrs[i] = netip.Addr{}
			}
		}
		e.mu.RUnlock()
		e.forgetThese(addrs)
	}
}

const forgetDelay = 100 * time.Millisecond

func (e *Egress) forgetThese(addrs []netip.Addr) {
	if err := e.cfg.Forget(addrs); err != nil {
		e.cfg.Log.Warn("the kernel's connection tracking may remember flows of sessions that have ended", "err", err)
	}
}

// Forward implements flow.Forwarder.
func (e *Egress) Forward(v4, v6 netip.Addr, send func([]byte)) (flow.PacketSink, error) {
	k := newSink(e, v4, v6, send)
	if err := e.cfg.Take(v4, v6); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || e.sessions[v4] != nil || e.sessions[v6] != nil {
		return nil, fs.ErrExist
	}
	e.sessions[v4], e.sessions[v6] = k, k
	if !e.cfg.All {
		k.sockets = e.Sockets.Packets(send)
	}
	return k, nil
}

// drop forgets a session.
func (e *Egress) drop(k *sink) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	delete(e.sessions, k.v4)
	delete(e.sessions, k.v6)
	e.cfg.Release(k.v4, k.v6)
	for _, a := range []netip.Addr{k.v4, k.v6} {
		select {
		case e.gone <- a:
		default: // there are so many that the worker is far behind
			go e.forgetThese([]netip.Addr{a})
		}
	}
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

func (e *Egress) write(b []byte) { e.cfg.TUN.Write(b) }

func (e *Egress) nextID() uint32 { return e.id.Add(1) }

// mtuOf is what a "packet too big" says about whom, over IPv6.
func mtuOf(b []byte) (to netip.Addr, mtu int) {
	if len(b) < 40+8+40 || b[0]>>4 != 6 || b[6] != packet.ProtoICMPv6 || b[40] != 2 {
		return to, 0
	}
	return netip.AddrFrom16([16]byte(b[48+24:])), int(binary.BigEndian.Uint32(b[44:]))
}
