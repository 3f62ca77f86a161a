package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/netutil"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/pipe"
)

// ListenConfig is what Listen needs.
type ListenConfig struct {
	// Zone is the zone that is delegated to this gateway, without its last dot.
	Zone string
	// UDP and TCP are the sockets on port 53. Queries that a resolver repeats over TCP, for the answer was too long for
	// UDP, come to TCP.
	UDP net.PacketConn
	TCP net.Listener
	// NameServer is the name that the delegation gives this gateway; empty is ns.<zone>.
	NameServer string
	// Addrs are what the zone's own name resolves to, and that of a name server within it. May be empty.
	Addrs []netip.Addr
	// Hold is how long an empty answer is held back; zero is the constant Hold.
	Hold time.Duration
	// Pipe is for what is inside. Its Door must be a transport.Shader.
	Pipe pipe.ListenConfig
}

// Listener is the gateway's end: a name server with sessions. It implements transport.Listener and transport.Drainer.
type Listener struct {
	*pipe.Listener
	cfg     ListenConfig
	key     *key
	zone    *zone
	limiter *limiter
	servers []*dns.Server
	running sync.WaitGroup
	closed  chan struct{}
	once    sync.Once

	mu       sync.Mutex
	sessions map[uint32]*session
	spent    [2]map[uint64]time.Time // what has been opened and probed: now and before
}

const (
	// maxSessions is how many there are at once. One takes 5 KB, and when neither its link nor its resolver takes anything
	// 300 KB.
	maxSessions = 512
	// gatewayRoom is how many segments there is room for: clients have a small voice.
	gatewayRoom = 48
	// maxSpent is how many session ids are remembered at least, so that a query that was seen by others opens nothing a
	// second time.
	maxSpent = 8192
	// again is how soon a resolver repeats a query.
	again = 10 * time.Second
	// maxTCP is how many connections of resolvers are served at once.
	maxTCP = 256
	// idleTime ends a session whose client asks no more; clients ask every few seconds.
	idleTime = time.Minute
	// goneTime is how long after the end of a session its client is told.
	goneTime = 30 * time.Second
	// closeTime is how long what was written before Close is still tried to be sent.
	closeTime = 5 * time.Second
)

// Listen starts a name server on its sockets, which it owns.
func Listen(cfg ListenConfig) (*Listener, error) {
	if err := CheckZone(cfg.Zone); err != nil {
		return nil, err
	}
	holders, ok := cfg.Pipe.Door.(transport.Shader)
	if !ok {
		return nil, errNoShade
	}
	if cfg.Hold == 0 {
		cfg.Hold = Hold
	}
	if cfg.Pipe.Addr == nil {
		cfg.Pipe.Addr = addr(cfg.Zone)
	}
	inner, err := pipe.Listen(cfg.Pipe)
	if err != nil {
		return nil, err
	}
	l := &Listener{
		Listener: inner, cfg: cfg, key: newKey(holders, cfg.Zone), zone: newZone(cfg.Zone, cfg.NameServer, cfg.Addrs, time.Now()),
		limiter: newLimiter(), closed: make(chan struct{}), sessions: make(map[uint32]*session),
	}
	if cfg.UDP != nil {
		l.servers = append(l.servers, &dns.Server{PacketConn: cfg.UDP, UDPSize: maxMessage})
	}
	if cfg.TCP != nil {
		l.servers = append(l.servers, &dns.Server{Listener: netutil.LimitListener(cfg.TCP, maxTCP), ReadTimeout: 5 * time.Second, MaxTCPQueries: -1})
	}
	for _, s := range l.servers {
		started := make(chan struct{})
		s.Handler = dns.HandlerFunc(l.serve)
		s.NotifyStartedFunc = func() { close(started) }
		failed := make(chan error, 1) // nobody waits for it once the server has started
		l.running.Go(func() { failed <- s.ActivateAndServe() })
		select {
		case <-started:
		case err := <-failed:
			l.Close()
			return nil, fmt.Errorf("serving zone %q: %w", cfg.Zone, err)
		}
	}
	l.running.Go(l.sweep)
	return l, nil
}

// Close implements transport.Listener. Sessions end with it.
func (l *Listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.Listener.Close()
		l.mu.Lock()
		for _, s := range l.sessions {
			s.end(net.ErrClosed)
		}
		l.mu.Unlock()
		for _, s := range l.servers {
			s.Shutdown()
		}
		l.running.Wait()
	})
	return nil
}

// Drain implements transport.Drainer. What has come cannot go on without the sockets, which whoever comes next answers on:
// clients are told that there is no such session, and dial again.
func (l *Listener) Drain(context.Context) { l.Close() }

// addr is a zone as an address.
type addr string

func (addr) Network() string  { return Name }
func (a addr) String() string { return string(a) }

// serve answers one query.
func (l *Listener) serve(w dns.ResponseWriter, r *dns.Msg) {
	from, _ := netip.ParseAddrPort(w.RemoteAddr().String())
	_, udp := w.RemoteAddr().(*net.UDPAddr)
	m, limit := l.reply(r, from.Addr(), udp)
	if m == nil {
		return
	}
	b, err := m.Pack()
	if err == nil && len(b) > limit {
		m.Truncated, m.Answer, m.Ns = true, nil, nil
		m.Extra = slices.DeleteFunc(m.Extra, func(rr dns.RR) bool { return rr.Header().Rrtype != dns.TypeOPT })
		b, err = m.Pack()
	}
	if err == nil {
		w.Write(b) // whoever does not get it asks again
	}
}

// reply makes the answer to one query, and says how long it may be; nil is none.
func (l *Listener) reply(r *dns.Msg, from netip.Addr, udp bool) (*dns.Msg, int) {
	if len(r.Question) != 1 || r.Response {
		return nil, 0
	}
	m := new(dns.Msg).SetReply(r)
	m.Compress = true
	limit := dns.MaxMsgSize
	if udp {
		limit = minMessage
	}
	opt := r.IsEdns0()
	if opt != nil {
		m.SetEdns0(maxMessage, false)
		if udp {
			limit = min(max(minMessage, int(opt.UDPSize())), maxMessage)
		}
	}
	q := r.Question[0]
	switch {
	case opt != nil && opt.Version() != 0:
		m.Rcode = dns.RcodeBadVers
	case q.Qclass != dns.ClassINET || !l.zone.has(q.Name) || q.Qtype == dns.TypeAXFR || q.Qtype == dns.TypeIXFR:
		m.Rcode = dns.RcodeRefused
	default:
		switch sealed, found := l.carry(q, udp, opt != nil, limit); found {
		case carried:
			m.Authoritative = true
			m.Answer = answerRecords(q.Qtype, q.Name, sealed, l.cfg.Zone)
			return m, limit
		case otherType:
			m.Authoritative = true
			m.Ns = []dns.RR{l.zone.soa(l.zone.name+".", negativeTTL)}
			return m, limit
		}
		l.zone.answer(m)
	}
	if udp {
		switch l.limiter.take(from, time.Now()) {
		case dropped:
			return nil, 0
		case slipped:
			m.Truncated, m.Answer, m.Ns, m.Extra = true, nil, nil, nil
		}
	}
	return m, limit
}

// found is what a name turned out to be.
type found int

const (
	stranger  found = iota
	otherType       // a user's; the resolver first asks for another type, to hide the one (RFC 9156, section 2.1)
	carried
)

// carry returns the sealed answer to a query, if it is a user's.
func (l *Listener) carry(q dns.Question, udp, edns bool, limit int) ([]byte, found) {
	sealed, err := parseName(q.Name, l.cfg.Zone)
	if err != nil || len(sealed) < tagLen+queryHead {
		return nil, stranger
	}
	tag := [tagLen]byte(sealed)
	plain, err := l.key.open(isQuery, nil, sealed)
	if err != nil {
		return nil, stranger
	}
	ask, ok := parseQuery(plain)
	if !ok {
		return nil, stranger
	}
	now := time.Now()
	if q.Qtype != ask.mode {
		if l.known(&ask, now) {
			return nil, otherType
		}
		return nil, stranger
	}
	room := answerRoom(ask.mode, min(limit, ask.size), len(q.Name)-1, edns, l.cfg.Zone) - tagLen - answerHead
	if room < 0 {
		return nil, stranger
	}
	if ask.kind == kindProbe {
		if !l.spend(ask.probe(), now) {
			return nil, stranger
		}
		return l.key.seal(isAnswer, tag[:], make([]byte, answerHead+room)), carried
	}
	s := l.session(&ask, now)
	if s == nil {
		return nil, stranger
	}
	hold := l.cfg.Hold
	if !udp {
		hold = 0 // a connection's queries are answered one after another
	}
	if plain, ok = s.ask(&ask, room, hold, now); !ok {
		return nil, stranger
	}
	return l.key.seal(isAnswer, tag[:], plain), carried
}

// What spent remembers: probes for themselves, queries that open by their session.
func (q *query) probe() uint64  { return uint64(q.session)<<16 | uint64(q.nonce) | 1<<63 }
func (q *query) opened() uint64 { return uint64(q.session) }

// known reports whether a query would be answered, if it were asked as it wants.
func (l *Listener) known(ask *query, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch ask.kind {
	case kindProbe:
		return l.unspentLocked(ask.probe(), now)
	case kindOpen:
		return l.sessions[ask.session] != nil || l.unspentLocked(ask.opened(), now)
	}
	return l.sessions[ask.session] != nil
}

// session finds a query's session, or begins it; nil is none.
func (l *Listener) session(ask *query, now time.Time) *session {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.sessions[ask.session]; s != nil {
		return s
	}
	if ask.kind != kindOpen || len(l.sessions) >= maxSessions {
		return nil
	}
	select {
	case <-l.closed:
		return nil
	default:
	}
	if !l.unspentLocked(ask.opened(), time.Time{}) {
		return nil
	}
	l.spendLocked(ask.opened(), now)
	s := newSession(ask.segment, l.cfg.Zone, l.closed, now)
	l.sessions[ask.session] = s
	go l.Serve(s.conn) // until its link is closed
	return s
}

// spend notes what may be used once, or again for as long as resolvers repeat themselves, and reports whether it may be.
func (l *Listener) spend(what uint64, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.unspentLocked(what, now) {
		return false
	}
	l.spendLocked(what, now)
	return true
}

func (l *Listener) unspentLocked(what uint64, now time.Time) bool {
	for _, m := range l.spent {
		if at, ok := m[what]; ok {
			return now.Sub(at) < again && !now.IsZero()
		}
	}
	return true
}

func (l *Listener) spendLocked(what uint64, now time.Time) {
	for _, m := range l.spent {
		if _, ok := m[what]; ok {
			return // the first time counts
		}
	}
	if l.spent[0] == nil || len(l.spent[0]) >= maxSpent {
		l.spent = [2]map[uint64]time.Time{make(map[uint64]time.Time), l.spent[0]}
	}
	l.spent[0][what] = now
}

// sweep ends sessions whose client has gone and forgets those that have ended.
func (l *Listener) sweep() {
	t := time.NewTicker(5 * time.Second)
	defer t.Stop()
	for {
		select {
		case <-l.closed:
			return
		case now := <-t.C:
			l.mu.Lock()
			for id, s := range l.sessions {
				if s.over(now) {
					delete(l.sessions, id)
				}
			}
			l.mu.Unlock()
		}
	}
}
