// Package proxy is the capture for applications that know what a proxy is: SOCKS5 (RFC 1928) and HTTP (CONNECT and
// plain requests) on one loopback port. What they ask for leaves through a flow.Outside; nothing is looked up or dialled
// here.
//
// The first byte tells who speaks:
//
//	0x05         SOCKS5: CONNECT and UDP ASSOCIATE
//	0x04         SOCKS4: refused in its own words, for it cannot carry IPv6 nor, in its plain form, names
//	'A' … 'Z'    HTTP/1.1 or 1.0
//	any other    reset
//
// Early answers, honestly: CONNECT of either protocol is answered before the gateway has dialled only when
// flow.Target.Early allows it; if the dial then fails the application gets a TCP reset, as from a host that accepted
// and went away. Everything else waits, and is told the true reason.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
)

// The keys of this package's log lines. None holds where an application went, nor which application it was.
const (
	keyCode  = "code"  // a flow.Code's text
	keyError = "error" // of a local system call
	keyStack = "stack"
)

// Config is what a Server needs. Zero values mean what each field says.
type Config struct {
	// Outside carries everything. Required.
	Outside flow.Outside
	// Logger gets rare, local events. Nil discards them.
	Logger *slog.Logger
	// Auth, if not nil, must be satisfied by every SOCKS and HTTP client.
	Auth *Auth
	// AllowNonLoopback lets Serve take a listener that other machines can reach. Whoever sets it answers for who they
	// are: without Auth that is an open proxy.
	AllowNonLoopback bool
	// MaxConns bounds the applications' connections, over all listeners. Zero means 4096.
	MaxConns int
	// MaxAssociations bounds the UDP associations; each may hold 128 KiB of buffers. Zero means 256.
	MaxAssociations int
	// FirstRequest bounds the time from a connection's first packet to its complete first request, and later the time
	// from a further HTTP request's first byte to the end of its header. Zero means 10 s.
	FirstRequest time.Duration
	// KeepAlive bounds how long an HTTP connection may idle between requests. Zero means 2 min.
	KeepAlive time.Duration
	// OpenTimeout bounds the wait for the gateway's answer. Zero means 60 s.
	OpenTimeout time.Duration
	// AssociationIdle ends a UDP association that carried nothing for so long, either way. Zero means 5 min, the time
	// RFC 4787 recommends for a mapping.
	AssociationIdle time.Duration
}

// Stats are counts since New, apart from Conns and Associations which are of now.
type Stats struct {
	Conns           int64  // applications' connections
	Associations    int64  // UDP associations
	TurnedAway      uint64 // connections and associations over the limits
	OpenFailed      uint64 // targets that could not be opened, and the application was told why
	EarlyFailed     uint64 // targets that could not be opened after the application had been told "connected"
	DroppedPackets  uint64 // datagrams that could not be understood, looked up or sent
	FirstTooLate    uint64 // connections without a complete first request in time
	Unintelligible  uint64 // connections that spoke neither SOCKS5 nor HTTP
	Unauthenticated uint64 // clients without the right user and password
}

// Server answers applications. Its methods may be called at once, Serve too: the limits hold over all listeners.
type Server struct {
	cfg Config // defaults filled in
	log *slog.Logger

	conns, associations                                 atomic.Int64
	turnedAway, openFailed, earlyFailed, droppedPackets atomic.Uint64
	firstTooLate, unintelligible, unauthenticated       atomic.Uint64
}

// New makes a Server.
func New(cfg Config) *Server {
	setDefault(&cfg.MaxConns, 4096)
	setDefault(&cfg.MaxAssociations, 256)
	setDefault(&cfg.FirstRequest, 10*time.Second)
	setDefault(&cfg.KeepAlive, 2*time.Minute)
	setDefault(&cfg.OpenTimeout, time.Minute)
	setDefault(&cfg.AssociationIdle, 5*time.Minute)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, log: cfg.Logger}
}

func setDefault[T int | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// Stats returns the counts.
func (s *Server) Stats() Stats {
	return Stats{
		Conns:           s.conns.Load(),
		Associations:    s.associations.Load(),
		TurnedAway:      s.turnedAway.Load(),
		OpenFailed:      s.openFailed.Load(),
		EarlyFailed:     s.earlyFailed.Load(),
		DroppedPackets:  s.droppedPackets.Load(),
		FirstTooLate:    s.firstTooLate.Load(),
		Unintelligible:  s.unintelligible.Load(),
		Unauthenticated: s.unauthenticated.Load(),
	}
}

// ErrNotLoopback is returned by Serve for a listener that other machines could reach.
var ErrNotLoopback = errors.New("listener is not on a loopback address")

// Serve answers applications on ln, a TCP listener, until ctx is done or ln fails. It owns ln, every connection and
// every goroutine it starts, and returns when they are gone. After ctx is done the error is context.Cause(ctx), and
// connections that were open have been reset.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	defer ln.Close()
	addr, ok := ln.Addr().(*net.TCPAddr)
	if !ok {
		return fmt.Errorf("proxy: listener on %q is not TCP", ln.Addr())
	}
	if !addr.IP.IsLoopback() && !s.cfg.AllowNonLoopback {
		return fmt.Errorf("proxy: %q: %w", addr, ErrNotLoopback)
	}

	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	sv := &serving{Server: s, ctx: inner, handoff: make(chan *conn)}
	front := newFront(sv)
	sv.life.enter()
	go func() {
		defer sv.life.leave()
		front.run()
	}()

	stop := context.AfterFunc(inner, func() { ln.Close() })
	defer stop()
	err := sv.accept(ln)
	cancel()
	front.stop()
	sv.life.end()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("proxy: %w", err)
}

// serving is one call of Serve.
type serving struct {
	*Server
	ctx     context.Context
	life    life
	handoff chan *conn // from the sniffer to net/http; unbuffered, so none is left behind
}

// accept starts a goroutine for each connection. It returns the listener's error.
func (sv *serving) accept(ln net.Listener) error {
	const longest = time.Second
	var pause time.Duration
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
		case errors.Is(err, syscall.ECONNABORTED):
			continue // the application gave up while it was in the queue
		case flow.CodeOf(err) == flow.CodeBusy:
			// Out of file descriptors: those that are open will end.
			pause = min(max(2*pause, 5*time.Millisecond), longest)
			sv.log.Warn("proxy cannot accept", keyError, err)
			select {
			case <-time.After(pause):
				continue
			case <-sv.ctx.Done():
				return err
			}
		default:
			return err
		}
		tcp, ok := nc.(*net.TCPConn)
		if !ok {
			nc.Close()
			return fmt.Errorf("listener gave a %T: flow.Stream.Join is for TCP", nc)
		}
		sv.admit(tcp)
	}
}

// admit starts serving tcp if there is room for it.
func (sv *serving) admit(tcp *net.TCPConn) {
	if remote, ok := tcp.RemoteAddr().(*net.TCPAddr); !ok || !remote.IP.IsLoopback() && !sv.cfg.AllowNonLoopback {
		reset(tcp)
		return
	}
	if sv.conns.Add(1) > int64(sv.cfg.MaxConns) {
		sv.conns.Add(-1)
		sv.turnedAway.Add(1)
		reset(tcp)
		return
	}
	sv.life.enter() // cannot fail: only Serve ends it, after accept
	c := sv.newConn(tcp)
	go c.sniff()
}

// open asks the Outside for a stream to t: early, where the rule allows it.
func (sv *serving) open(ctx context.Context, t flow.Target) (st flow.Stream, early bool, err error) {
	bounded, cancel := context.WithTimeout(ctx, sv.cfg.OpenTimeout)
	defer cancel()
	early = t.Early()
	st, err = sv.cfg.Outside.Open(bounded, t, early)
	if err != nil && ctx.Err() == nil { // otherwise the application gave up
		sv.openFailed.Add(1)
		sv.log.Debug("target could not be opened", keyCode, flow.CodeOf(err).String())
	}
	return st, early, err
}

// abandon gives up a stream that nothing has come through yet.
func abandon(st flow.Stream) {
	st.Reset(flow.CodeReset)
	st.Close()
}

// tunnel joins the application's connection and the stream until both have ended. It comes after the application was
// told that it is connected; whatever it sent meanwhile lies in c or, read by net/http, in ahead.
func (sv *serving) tunnel(c *conn, st flow.Stream, early bool, ahead []byte) {
	// From here on a shutdown resets the stream, so that its far side hears the reason; Join passes it on to the
	// application.
	c.spare()
	stop := context.AfterFunc(c.ctx, func() { st.Reset(flow.CodeLocalShutdown) })
	defer stop()

	var err error
	if ahead = append(ahead, c.takeRead()...); len(ahead) > 0 {
		_, err = st.Write(ahead)
	}
	if err == nil {
		err = st.Join(c.tcp)
	} else {
		st.Reset(flow.CodeReset)
		reset(c.tcp)
	}
	st.Close()
	if early && neverOpened(err) {
		sv.earlyFailed.Add(1)
		sv.log.Debug("an early answer was wrong", keyCode, flow.CodeOf(err).String())
	}
}
