// Package relay is the relay's end: it lets in whoever has an access key of the network whose relay it is, forwards
// bytes between them and their home gateway, and limits how much. It can read nothing of them, and does not know who it
// is but for the access key's id.
package relay

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/godwit-vpn/godwit/internal/link"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/relay"
	"github.com/godwit-vpn/godwit/internal/transports/tcp"
)

// Config is what a Relay needs.
type Config struct {
	Key   Key
	Homes []string // host:port, best first
	// Rate bounds the bytes a second of one access key, each way; 0 is no bound.
	Rate int64
	// PipesPerKey and Pipes bound how many there are at once; 0 means DefaultPipesPerKey and DefaultPipes.
	PipesPerKey, Pipes int
	// Congestion is as in https.Dialer.
	Congestion string
	Logger     *slog.Logger
}

const (
	// DefaultPipesPerKey is enough for five devices of three links each, and their successors.
	DefaultPipesPerKey = 32
	DefaultPipes       = 4096

	dialTimeout = 10 * time.Second
	// idle is how long a pipe may be silent: far longer than a session lets a link be.
	idle = 15 * time.Minute
	// burst is how many bytes may come at once where there is a rate.
	burst     = 1 << 20
	chunkSize = 64 << 10
)

// Relay forwards pipes. Safe for concurrent use.
type Relay struct {
	cfg Config
	ctx context.Context
	end context.CancelFunc

	mu    sync.Mutex
	users map[[8]byte]*user
	pipes int
	left  time.Time // when a pipe last ended
	all   sync.WaitGroup

	forwarded, refused atomic.Int64
}

// user is an access key that has pipes.
type user struct {
	pipes    int
	up, down *rate.Limiter
}

// New makes a Relay. Close it.
func New(cfg Config) *Relay {
	if cfg.PipesPerKey == 0 {
		cfg.PipesPerKey = DefaultPipesPerKey
	}
	if cfg.Pipes == 0 {
		cfg.Pipes = DefaultPipes
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, end := context.WithCancel(context.Background())
	return &Relay{cfg: cfg, ctx: ctx, end: end, users: make(map[[8]byte]*user)}
}

// Close ends every pipe.
func (r *Relay) Close() {
	r.end()
	r.all.Wait()
}

// Door opens for the relay's users, and otherwise leaves it to own.
func (r *Relay) Door(own transport.Door) transport.Door {
	return door{own, link.Door{Secret: r.cfg.Key.DoorSecret}}
}

type door struct {
	transport.Door
	relay link.Door
}

// Opens implements transport.Door. Both are always asked, so that it takes the same time for all.
func (d door) Opens(s transport.Secured, knock []byte) bool {
	relay, own := d.relay.Opens(s, knock), d.Door.Opens(s, knock)
	return relay || own
}

// Listener takes the relay's users out of what l accepts. It owns l.
func (r *Relay) Listener(l transport.Listener) transport.Listener { return &listener{l, r} }

type listener struct {
	transport.Listener
	relay *Relay
}

// Accept implements transport.Listener.
func (l *listener) Accept() (transport.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || !(link.Door{Secret: l.relay.cfg.Key.DoorSecret}).Opens(c, c.Knock()) {
			return c, err
		}
		l.relay.serve(c)
	}
}

// Drain implements transport.Drainer.
func (l *listener) Drain(ctx context.Context) {
	if d, ok := l.Listener.(transport.Drainer); ok {
		d.Drain(ctx)
		return
	}
	l.Close()
}

// serve forwards one connection, on goroutines of its own.
func (r *Relay) serve(c transport.Conn) {
	id := [8]byte(c.Knock())
	u := r.enter(id)
	if u == nil {
		c.Close()
		return
	}
	r.all.Go(func() {
		defer r.leave(id)
		defer c.Close()
		home, err := r.dialHome()
		if err != nil {
			r.cfg.Logger.Warn("the home gateway cannot be reached", "err", err)
			return
		}
		defer home.Close()
		stop := context.AfterFunc(r.ctx, func() { c.Close(); home.Close() })
		defer stop()
		r.splice(relay.Framed(c), home, u)
	})
}

// enter takes a place for one more pipe; nil if there is none.
func (r *Relay) enter(id [8]byte) *user {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.users[id]
	if u == nil {
		u = &user{up: r.limiter(), down: r.limiter()}
	}
	if r.ctx.Err() != nil || r.pipes >= r.cfg.Pipes || u.pipes >= r.cfg.PipesPerKey {
		r.refused.Add(1)
		return nil
	}
	u.pipes++
	r.pipes++
	r.users[id] = u
	return u
}

func (r *Relay) limiter() *rate.Limiter {
	if r.cfg.Rate == 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(r.cfg.Rate), burst)
}

func (r *Relay) leave(id [8]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pipes--
	r.left = time.Now()
	if u := r.users[id]; u.pipes == 1 {
		delete(r.users, id) // nothing is kept of who was here
	} else {
		u.pipes--
	}
}

// dialHome connects to the gateway, at the first of its addresses that answers.
func (r *Relay) dialHome() (net.Conn, error) {
	var err error
	for _, h := range r.cfg.Homes {
		ctx, cancel := context.WithTimeout(r.ctx, dialTimeout)
		var c net.Conn
		c, err = (&net.Dialer{}).DialContext(ctx, "tcp", h)
		cancel()
		if err == nil {
			tcp.Tune(c, r.cfg.Congestion)
			return c, nil
		}
	}
	return nil, err
}

// splice carries bytes both ways until either side ends, or both are silent.
func (r *Relay) splice(c, home net.Conn, u *user) {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	began := time.Now()   // by the monotonic clock: the wall clock may be set meanwhile
	var last atomic.Int64 // when a byte last came, in nanoseconds since
	var all sync.WaitGroup
	all.Go(func() {
		for {
			quiet := time.Since(began) - time.Duration(last.Load())
			if quiet >= idle {
				cancel()
				return
			}
			select {
			case <-time.After(idle - quiet + rand.N(time.Second)):
			case <-ctx.Done():
				return
			}
		}
	})
	half := func(to, from net.Conn, limit *rate.Limiter) {
		defer cancel()
		buf := make([]byte, chunkSize)
		for {
			n, err := from.Read(buf)
			if n > 0 {
				last.Store(int64(time.Since(began)))
				r.forwarded.Add(int64(n))
				if limit.WaitN(ctx, n) != nil {
					return
				}
				if _, err := to.Write(buf[:n]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}
	all.Go(func() { half(home, c, u.up) })
	all.Go(func() { half(c, home, u.down) })
	<-ctx.Done()
	c.Close()
	home.Close()
	all.Wait()
}

// Status is how much a relay has to do.
type Status struct {
	Pipes     int   `json:"pipes"`
	Users     int   `json:"access_keys"` // that have pipes
	Forwarded int64 `json:"bytes_forwarded"`
	Refused   int64 `json:"pipes_refused"`
}

// Status returns how much there is to do.
func (r *Relay) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Status{Pipes: r.pipes, Users: len(r.users), Forwarded: r.forwarded.Load(), Refused: r.refused.Load()}
}

// Idle returns since when there has been no pipe; ok is false while there is one, and as long as there never was.
func (r *Relay) Idle() (since time.Time, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.left, r.pipes == 0 && !r.left.IsZero()
}
