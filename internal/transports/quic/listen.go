package quic

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	quicgo "github.com/sagernet/quic-go"
	"github.com/sagernet/quic-go/http3"

	"github.com/godwit-vpn/godwit/internal/decoy"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/crowd"
	"github.com/godwit-vpn/godwit/internal/transports/tickets"
)

// ListenConfig is what Listen needs.
type ListenConfig struct {
	// GetCertificate is as in tls.Config. All certificates have the one key that access keys pin.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Key is that key's hash (transport.KeyHash).
	Key  [sha256.Size]byte
	Door transport.Door
	// Website answers strangers.
	Website http.Handler
	// Tickets is what the keys of session tickets follow from, so that they stay good when another process takes over;
	// zero leaves them to crypto/tls, which makes some up.
	Tickets [sha256.Size]byte
	// Begin, if not nil, is closed when the socket is this process's alone. Two processes must not read one socket: each
	// would miss what the other took. Until then nobody is heard.
	Begin <-chan struct{}
}

// Listener is a website on HTTP/3 that accepts links. It implements transport.Listener and transport.Drainer.
type Listener struct {
	cfg     ListenConfig
	udp     net.PacketConn
	tr      *quicgo.Transport
	server  *http3.Server
	guests  *crowd.Crowd
	answers *answers
	cookie  int // how long the value of the cookie is that hides a knock

	conns  chan transport.Conn
	closed chan struct{}
	once   sync.Once
	wg     sync.WaitGroup

	mu    sync.Mutex
	quic  *quicgo.EarlyListener // nil before it reads
	ended bool                  // nobody new is taken
}

// What a client may send before anybody has read it, as servers of this library have it.
const (
	firstStreamWindow     = 512 << 10
	firstConnectionWindow = 768 << 10
)

// Listen makes a Listener of udp, which it owns from then on.
func Listen(udp net.PacketConn, cfg ListenConfig) (*Listener, error) {
	l := &Listener{cfg: cfg, udp: udp, guests: crowd.New("guests", cfg.Key), conns: make(chan transport.Conn), closed: make(chan struct{})}
	name, length := decoy.CookieFor(cfg.Key)
	l.cookie = length
	l.answers = &answers{website: cfg.Website, cookie: name + "=" + strings.Repeat("x", length)}
	l.answers.length()
	l.server = &http3.Server{
		Handler: cfg.Website, Logger: slog.New(slog.DiscardHandler), // it would name visitors' addresses
		StreamDispatcher: l.dispatch,
	}
	l.tr = &quicgo.Transport{
		Conn: udp,
		ConnContext: func(ctx context.Context, info *quicgo.ClientInfo) (context.Context, error) {
			place := l.guests.Enter(info.RemoteAddr, nil)
			if place == nil {
				return nil, errFull
			}
			context.AfterFunc(ctx, func() { l.guests.Leave(place) })
			return mark(ctx, &guest{place: place}), nil
		},
		// When many come, they first have to show that they are where they say they are.
		VerifySourceAddress: func(net.Addr) bool { return l.guests.Many() },
	}
	if cfg.Begin != nil {
		l.wg.Go(func() {
			select {
			case <-cfg.Begin:
				l.open() // that it cannot is known once it is asked for the first time
			case <-l.closed:
			}
		})
		return l, nil
	}
	if err := l.open(); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// open begins to read the socket.
func (l *Listener) open() error {
	config := &tls.Config{GetCertificate: l.cfg.GetCertificate, MinVersion: tls.VersionTLS13}
	keys := &tickets.Keys{Secret: l.cfg.Tickets, Config: config}
	keys.Turn(time.Now())
	config = http3.ConfigureTLSConfig(config)
	keys.Config = config
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		keys.Turn(time.Now())
		return nil, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return net.ErrClosed
	}
	quic, err := l.tr.ListenEarly(config, &quicgo.Config{
		InitialStreamReceiveWindow:     firstStreamWindow,
		InitialConnectionReceiveWindow: firstConnectionWindow,
		MaxStreamReceiveWindow:         streamWindow,
		MaxConnectionReceiveWindow:     connectionWindow,
	})
	if err != nil {
		return err
	}
	l.quic = quic
	l.wg.Go(func() { l.serve(quic) })
	return nil
}

// serve serves whoever comes.
func (l *Listener) serve(quic *quicgo.EarlyListener) {
	for {
		qc, err := quic.Accept(context.Background())
		if err != nil {
			return
		}
		g, ok := qc.Context().Value(guestKey{}).(*guest)
		if !ok || !l.is(g, qc) {
			qc.CloseWithError(noError, "")
			continue
		}
		l.wg.Go(func() { l.server.ServeQUICConn(qc) })
	}
}

// Accept implements transport.Listener.
func (l *Listener) Accept() (transport.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Addr implements transport.Listener.
func (l *Listener) Addr() net.Addr { return l.udp.LocalAddr() }

// Drain implements transport.Drainer. The socket stays open, for it is that of the connections that go on. Another
// process that has it too must wait for Close before it reads it (ListenConfig.Begin): until then new clients and visitors
// find HTTP/3 silent, and come by TCP.
func (l *Listener) Drain(ctx context.Context) {
	l.end()
	select {
	case <-l.guests.Gone():
	case <-ctx.Done():
	case <-l.closed:
	}
}

// Close implements transport.Listener. All connections end with it, those of links, too: they have no other socket. The
// clients are told and need not find out.
func (l *Listener) Close() error {
	var err error
	l.once.Do(func() {
		close(l.closed)
		l.end()
		l.server.Close()
		err = errors.Join(l.tr.Close(), l.udp.Close())
	})
	l.wg.Wait()
	return err
}

// end takes nobody new from now on.
func (l *Listener) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended = true; l.quic != nil {
		l.quic.Close()
	}
}

// A guest is one of the website's connections, from the first packet on until it ends or turns out to be a link. There is
// room for a crowd of them; whoever has not shown an address yet cannot be made to go. One takes some 70 KiB, all of them
// the library's own.
type guest struct {
	place *crowd.Member
	conn  *quicgo.Conn         // nil until the server has it
	link  atomic.Pointer[conn] // what it turned out to be
}

var errFull = errors.New("there is no more room")

// is says which connection is a guest's, and reports whether it is still wanted.
func (l *Listener) is(g *guest, qc *quicgo.Conn) bool {
	g.conn = qc
	return l.guests.Droppable(g.place, func() { go qc.CloseWithError(noError, "") })
}
