package quic

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	quicgo "github.com/sagernet/quic-go"
	"github.com/sagernet/quic-go/http3"

	"github.com/godwit-vpn/godwit/internal/decoy"
	"github.com/godwit-vpn/godwit/internal/transport"
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
	guests  *guests
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
	l := &Listener{cfg: cfg, udp: udp, guests: newGuests(cfg.Key), conns: make(chan transport.Conn), closed: make(chan struct{})}
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
			g, err := l.guests.enter(info.RemoteAddr)
			if err != nil {
				return nil, err
			}
			context.AfterFunc(ctx, func() { l.guests.leave(g) })
			return mark(ctx, g), nil
		},
		// When many come, they first have to show that they are where they say they are.
		VerifySourceAddress: func(net.Addr) bool { return l.guests.many() },
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
		if !ok || !l.guests.is(g, qc) {
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
	case <-l.guests.gone():
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

// guests are the website's connections from the first packet on until they end or turn out to be links. There is room
// for so many in all and for so many of one prefix; when it is full the oldest one goes of the prefix that has most, so
// that a flood from somewhere does not keep out those from elsewhere.
type guests struct {
	most, mostAlike int

	mu    sync.Mutex
	n     int
	from  map[netip.Prefix]map[*guest]struct{}
	last  uint64
	empty chan struct{} // closed when the last one leaves, if somebody waits for that
}

type guest struct {
	prefix netip.Prefix
	number uint64       // in order of coming
	conn   *quicgo.Conn // nil until the server has it
}

// How much room there is. A visitor takes some 70 KiB, all of them the library's own.
const (
	mostGuests   = 320
	mostAlike    = 48
	guestsSpread = 32
	prefix4      = 24
	prefix6      = 48
)

// newGuests makes the numbers a little different at every gateway: where exactly a server begins to close connections
// would be something that only gateways share.
func newGuests(key [sha256.Size]byte) *guests {
	h := sha256.Sum256(append([]byte("godwit guests v1"), key[:]...))
	return &guests{most: mostGuests + int(h[0])%guestsSpread, mostAlike: mostAlike + int(h[1])%guestsSpread,
		from: make(map[netip.Prefix]map[*guest]struct{})}
}

var errFull = errors.New("there is no more room")

// enter lets one in, for whom another may have to go. Whoever has not shown an address yet cannot be made to go.
func (v *guests) enter(from net.Addr) (*guest, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	g := &guest{prefix: prefixOf(from)}
	alike := v.from[g.prefix]
	if len(alike) >= v.mostAlike {
		if !v.dropLocked(alike) {
			return nil, errFull
		}
	} else if v.n >= v.most {
		if !v.dropLocked(v.crowdLocked()) {
			return nil, errFull
		}
	}
	v.last++
	g.number = v.last
	if v.from[g.prefix] == nil {
		v.from[g.prefix] = make(map[*guest]struct{})
	}
	v.from[g.prefix][g] = struct{}{}
	v.n++
	return g, nil
}

// is says which connection is whose, and reports whether it is still wanted.
func (v *guests) is(g *guest, qc *quicgo.Conn) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	g.conn = qc
	_, there := v.from[g.prefix][g]
	return there
}

// many reports whether half of the room is taken.
func (v *guests) many() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.n >= v.most/2
}

// crowdLocked finds those of the prefix that has most.
func (v *guests) crowdLocked() (most map[*guest]struct{}) {
	for _, alike := range v.from {
		if len(alike) > len(most) {
			most = alike
		}
	}
	return most
}

// dropLocked has the oldest one go.
func (v *guests) dropLocked(alike map[*guest]struct{}) bool {
	var oldest *guest
	for g := range alike {
		if g.conn != nil && (oldest == nil || g.number < oldest.number) {
			oldest = g
		}
	}
	if oldest == nil {
		return false
	}
	v.leaveLocked(oldest)
	go oldest.conn.CloseWithError(noError, "")
	return true
}

// leave takes one out, and reports whether it was there.
func (v *guests) leave(g *guest) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.leaveLocked(g)
}

func (v *guests) leaveLocked(g *guest) bool {
	alike := v.from[g.prefix]
	if _, there := alike[g]; !there {
		return false
	}
	if delete(alike, g); len(alike) == 0 {
		delete(v.from, g.prefix)
	}
	v.n--
	if v.n == 0 && v.empty != nil {
		close(v.empty)
		v.empty = nil
	}
	return true
}

// gone is closed when nobody is there. It is for one caller, when nobody comes any more.
func (v *guests) gone() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	empty := make(chan struct{})
	if v.n == 0 {
		close(empty)
	} else {
		v.empty = empty
	}
	return empty
}

func prefixOf(a net.Addr) netip.Prefix {
	udp, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.Prefix{}
	}
	addr := udp.AddrPort().Addr().Unmap()
	bits := prefix4
	if addr.Is6() {
		bits = prefix6
	}
	p, _ := addr.WithZone("").Prefix(bits)
	return p
}
