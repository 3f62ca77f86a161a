// Package gateway is the server outside: it lets devices in, holds their sessions, and sends what they carry to the
// egress.
//
//	listener ─ door ─ HELLO ─ admit ─┬─ a session that is there: attach ─┐
//	                                 ├─ a new one: make, attach ─────────┼─ streams ─ egress.Dial ─ the world
//	                                 └─ REFUSED, with the cause          └─ packets ─ egress.Packets
//
// It writes nothing about where users go, and keeps nothing of a session after its end.
package gateway

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/device"
	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/session"
	"github.com/godwit-vpn/godwit/internal/transport"
)

const (
	// DefaultMemory is how much sessions may retain and reassemble together, in bytes.
	DefaultMemory = 1 << 30
	// maxDeviceDials bounds the dials that one device may have under way.
	maxDeviceDials = 256
	// maxDeviceAsks bounds the streams of DNS messages that one device may have, each of which may ask a lot at once. A client
	// has one, and two for moments.
	maxDeviceAsks = 3
	// maxDeviceSessions bounds the sessions with links of one device.
	maxDeviceSessions = 4
)

// Config is what a Gateway needs. All but the last fields are required.
type Config struct {
	// Listeners are where links come in, by their transport's name. The gateway owns them once it runs.
	Listeners map[string][]transport.Listener
	Control   *control.Service
	Network   [8]byte
	Egress    flow.Egress
	Logger    *slog.Logger

	// Browser returns the signed profile of a browser of this family that is newer than after, or nil; nil means that there
	// are none. It is called for whatever family a client names, by many at once, and what it returns is not changed.
	Browser func(family string, after time.Time) []byte

	Memory int64         // of all sessions, bytes; 0 means DefaultMemory
	Grace  time.Duration // as in session.Config
	Sleep  time.Duration
}

// Gateway serves one network's devices. Make one with New.
type Gateway struct {
	cfg   Config
	log   *slog.Logger
	pool  *session.Pool
	began time.Time
	gate  *session.Gate

	mu       sync.Mutex
	sessions map[sessionKey]*guest
	addrs    map[[4]byte]*guest // by tunnel address
	turns    map[device.ID]*turn
	visiting int       // visits that are under way
	left     time.Time // when a visit or a session last ended
	stopping bool
	drainBy  time.Time // set by Drain

	drain chan struct{} // closed by Drain

	usage usage
	count struct {
		refused, admitted, enrolled atomic.Uint64
	}
}

// New makes a Gateway.
func New(cfg Config) *Gateway {
	if cfg.Memory == 0 {
		cfg.Memory = DefaultMemory
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	g := &Gateway{
		cfg: cfg, log: cfg.Logger, pool: session.NewPool(cfg.Memory), began: time.Now(),
		gate:     session.NewGate(runtime.GOMAXPROCS(0)),
		sessions: make(map[sessionKey]*guest),
		addrs:    make(map[[4]byte]*guest),
		turns:    make(map[device.ID]*turn),
		drain:    make(chan struct{}),
	}
	cfg.Control.OnRevoked(g.revoked)
	return g
}

// Addrs are the addresses that the gateway takes links on.
func (g *Gateway) Addrs() []net.Addr {
	var all []net.Addr
	for _, name := range slices.Sorted(maps.Keys(g.cfg.Listeners)) {
		for _, l := range g.cfg.Listeners[name] {
			if a := l.Addr(); a != nil { // a pipe comes in at another's
				all = append(all, a)
			}
		}
	}
	return all
}

// errDrained ends Run after Drain.
var errDrained = errors.New("drained")

// Run serves until ctx is done, then tells the clients, ends every session and returns nil; or until it has drained. It
// owns the listeners and every goroutine of theirs.
func (g *Gateway) Run(ctx context.Context) error {
	group, gctx := errgroup.WithContext(ctx)
	var conns sync.WaitGroup
	for name, listeners := range g.cfg.Listeners {
		for _, l := range listeners {
			group.Go(func() error { return g.accept(gctx, name, l, &conns) })
			group.Go(func() error {
				<-gctx.Done()
				return l.Close()
			})
		}
	}
	group.Go(func() error {
		if err := g.cfg.Control.Run(gctx); !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		g.sweep(gctx)
		return nil
	})
	group.Go(func() error {
		g.countUsage(gctx)
		return nil
	})
	group.Go(func() error {
		<-gctx.Done()
		g.stop()
		return nil
	})
	group.Go(func() error {
		select {
		case <-g.drain:
			return g.leave(gctx)
		case <-gctx.Done():
			return nil
		}
	})
	err := group.Wait()
	conns.Wait()
	g.countLast(ctx)
	if ctx.Err() != nil || errors.Is(err, errDrained) {
		return nil
	}
	return err
}

// Drain makes Run take no more connections, ask every client to leave its session, and return when the sessions have
// ended, at the latest when the time has passed: another process has taken over the sockets. It does not wait, and the
// first call counts.
func (g *Gateway) Drain(within time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.drainBy.IsZero() {
		g.drainBy = time.Now().Add(within)
		close(g.drain)
	}
}

// drainLook is how often a draining gateway looks whether it is done.
const drainLook = 250 * time.Millisecond

// leave drains. Connections that came before may still turn out to be links: they are let in, and asked to leave.
func (g *Gateway) leave(ctx context.Context) error {
	ctx, cancel := context.WithDeadline(ctx, g.drainBy)
	defer cancel()
	handshakes, cancel := context.WithTimeout(ctx, transport.HandshakeTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, listeners := range g.cfg.Listeners {
		for _, l := range listeners {
			if d, ok := l.(transport.Drainer); ok {
				wg.Go(func() { d.Drain(handshakes) })
			} else {
				l.Close()
			}
		}
	}
	for _, v := range g.guests(everyone) {
		v.session.Drain(time.Until(g.drainBy))
	}
	wg.Wait()
	tick := time.NewTicker(drainLook)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if len(g.guests(everyone)) == 0 {
				return errDrained
			}
		case <-ctx.Done():
			return errDrained // what is left is ended by stop
		}
	}
}

// draining returns until when the gateway drains, if it does.
func (g *Gateway) draining() (by time.Time, yes bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.drainBy, !g.drainBy.IsZero()
}

// stop sends clients away and ends every session.
func (g *Gateway) stop() {
	g.mu.Lock()
	g.stopping = true
	g.mu.Unlock()
	var wg sync.WaitGroup
	for _, v := range g.guests(everyone) {
		wg.Go(func() {
			v.session.Drain(0)
			v.session.Close(flow.CodeSessionLost)
		})
	}
	wg.Wait()
}

func (g *Gateway) accept(ctx context.Context, name string, l transport.Listener, conns *sync.WaitGroup) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		g.mu.Lock()
		g.visiting++
		g.mu.Unlock()
		conns.Go(func() {
			g.visit(ctx, name, conn)
			g.mu.Lock()
			defer g.mu.Unlock()
			g.visiting--
			g.left = time.Now()
		})
	}
}

// sweep ends sessions whose authority has run out.
func (g *Gateway) sweep(ctx context.Context) {
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for _, v := range g.guests(func(v *guest) bool { return v.until().Before(now) }) {
				go v.session.Close(flow.CodeSessionLost)
			}
		}
	}
}

// revoked ends the sessions of devices and access keys that are refused from now on. It does not wait.
func (g *Gateway) revoked(devices []device.ID, keys [][8]byte) {
	gone := make(map[any]bool, len(devices)+len(keys))
	for _, d := range devices {
		gone[d] = true
	}
	for _, k := range keys {
		gone[k] = true
	}
	for _, v := range g.guests(func(v *guest) bool { return gone[v.device] || gone[v.keyID] }) {
		go v.session.Close(flow.CodeSessionLost)
	}
}

// Idle returns since when nobody has been here who passed the door. ok is false while somebody is, as long as nobody ever
// was, and until what was carried has been counted.
func (g *Gateway) Idle() (since time.Time, ok bool) {
	if !g.usage.counted() {
		return time.Time{}, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.left, g.visiting == 0 && len(g.sessions) == 0 && !g.left.IsZero()
}

// Unvisited reports whether nobody ever was here who passed the door.
func (g *Gateway) Unvisited() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.left.IsZero() && g.visiting == 0 && len(g.sessions) == 0
}

func everyone(*guest) bool { return true }

// guests returns the sessions that match.
func (g *Gateway) guests(match func(*guest) bool) []*guest {
	g.mu.Lock()
	defer g.mu.Unlock()
	var found []*guest
	for _, v := range g.sessions {
		if match(v) {
			found = append(found, v)
		}
	}
	return found
}
