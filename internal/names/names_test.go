package names_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/dnsclient"
	"github.com/godwit-vpn/godwit/internal/dnsmessage/dnstest"
	"github.com/godwit-vpn/godwit/internal/egress"
	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/gatewaydir"
	"github.com/godwit-vpn/godwit/internal/names"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, goleak.IgnoreCurrent()) }

// nameServer is a DNS server on loopback, UDP and TCP, that knows some names.
type nameServer struct {
	addr  string
	tag   string // an address that is in its answers
	asked atomic.Int32
	gate  chan struct{} // "held.example" is answered once it is closed
}

var records = map[string][]string{
	"a.example.": {"300 IN A 192.0.2.1", "300 IN AAAA 2001:db8::1", "300 IN MX 10 mail.example.", "300 IN NS ns.example.", `300 IN TXT "x"`,
		"300 IN SRV 1 2 443 b.example.", `300 IN CAA 0 issue "ca.example"`, "300 IN TLSA 3 1 1 00112233", `300 IN NAPTR 1 2 "s" "x" "" b.example.`,
		`300 IN HTTPS 1 . alpn="h2,h3" mandatory="alpn,ipv4hint" ipv4hint="192.0.2.1" ipv6hint="2001:db8::1"`,
		`300 IN SVCB 1 b.example. port="853" ipv4hint="192.0.2.1"`, "300 IN TYPE65400 \\# 3 010203"},
	"alias.example.":           {"300 IN CNAME a.example."},
	"1.2.0.192.in-addr.arpa.":  {"300 IN PTR a.example."},
	"soon.example.":            {"1 IN A 192.0.2.9"},
	"www.example.com.":         {"300 IN A 192.0.2.80"},
	"host.office.example.net.": {"300 IN A 192.0.2.81"},
}

func (n *nameServer) ServeDNS(w dns.ResponseWriter, m *dns.Msg) {
	n.asked.Add(1)
	a := new(dns.Msg).SetReply(m)
	a.Compress = true
	q := m.Question[0]
	name := strings.ToLower(q.Name)
	add := func(owner, text string) {
		rr, err := dns.NewRR(owner + " " + text)
		if err != nil {
			panic(err)
		}
		if t := rr.Header().Rrtype; t == q.Qtype || t == dns.TypeCNAME {
			a.Answer = append(a.Answer, rr)
			if t == dns.TypeHTTPS {
				extra, _ := dns.NewRR("a.example. 300 IN A 192.0.2.1")
				a.Extra = append(a.Extra, extra)
			}
		}
	}
	switch {
	case name == "big.example.":
		for i := range 200 {
			add(name, fmt.Sprintf(`300 IN TXT "%d %s"`, i, strings.Repeat("x", 200)))
		}
	case name == "who.example." || strings.HasSuffix(name, ".office.example.net."):
		add(name, "300 IN A "+n.tag)
	case name == "held.example.":
		<-n.gate
		add(name, "300 IN A 192.0.2.3")
	case strings.HasPrefix(name, "n"):
		add(name, "300 IN A 192.0.2.4")
	case records[name] == nil:
		a.Rcode = dns.RcodeNameError
		fallthrough
	default:
		for _, text := range records[name] {
			add(name, text)
		}
		if len(a.Answer) == 0 {
			soa, _ := dns.NewRR("example. 900 IN SOA ns.example. x.example. 1 2 3 4 60")
			a.Ns = append(a.Ns, soa)
		}
	}
	dnstest.Write(w, m, a)
}

func newNameServer(t testing.TB, tag string) *nameServer {
	t.Helper()
	n := &nameServer{tag: tag, gate: make(chan struct{})}
	n.addr = dnstest.NameServer(t, n)
	return n
}

// session is a client with a session to a gateway, which asks this resolver.
func session(t *testing.T, resolver string) *client.Client {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	dir, _, err := gatewaydir.Init(t.Context(), t.TempDir(), []string{addr}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	dir.Settings.Listen = []string{addr}
	dir.Settings.Egress.Allow = []string{"127.0.0.0/8"}
	dir.Settings.Egress.Resolver = resolver
	k, err := dir.Control.KeyByName(t.Context(), gatewaydir.FirstKey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := dir.AccessKey(k)
	if err != nil {
		t.Fatal(err)
	}
	g, err := dir.Service(quiet)
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Config{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := g.Run(ctx); err != nil {
			t.Errorf("the gateway ended with %v", err)
		}
		g.Close()
	})
	clientCtx, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { c.Run(clientCtx); close(ended) }()
	t.Cleanup(func() { stop(); <-ended; cancel(); running.Wait() })
	ready, done := context.WithTimeout(t.Context(), 20*time.Second)
	defer done()
	if err := c.Ready(ready); err != nil {
		t.Fatal(err)
	}
	return c
}

func newServer(t testing.TB, c names.Config) *names.Server {
	t.Helper()
	s := names.New(c)
	t.Cleanup(s.Close)
	return s
}

// ask has one question answered.
func ask(t testing.TB, s *names.Server, name string, typ uint16, most int, change ...func(*dns.Msg)) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetQuestion(name, typ)
	for _, c := range change {
		c(m)
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	out := s.Answer(t.Context(), b, most)
	a := new(dns.Msg)
	if err := a.Unpack(out); err != nil {
		t.Fatalf("%s: %v: %x", name, err, out)
	}
	if most > 0 && len(out) > most {
		t.Errorf("%s: an answer of %d bytes where %d are allowed", name, len(out), most)
	}
	if a.Id != m.Id || len(a.Question) != 1 || a.Question[0] != m.Question[0] {
		t.Errorf("%s: answered %v", name, a)
	}
	return a
}

func addrOf(a *dns.Msg) string {
	for _, rr := range a.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			return rr.A.String()
		case *dns.AAAA:
			return rr.AAAA.String()
		}
	}
	return dns.RcodeToString[a.Rcode]
}

// Questions of all types through a real session.
func TestThroughSession(t *testing.T) {
	n := newNameServer(t, "192.0.2.7")
	s := newServer(t, names.Config{Outside: session(t, n.addr)})
	for _, typ := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeMX, dns.TypeNS, dns.TypeTXT, dns.TypeSRV, dns.TypeCAA, dns.TypeTLSA,
		dns.TypeNAPTR, dns.TypeHTTPS, dns.TypeSVCB, 65400} {
		for range 2 {
			a := ask(t, s, "A.Example.", typ, 1232)
			if len(a.Answer) != 1 || a.Answer[0].Header().Rrtype != typ {
				t.Errorf("type %d: %v", typ, a)
			}
		}
	}
	if got := n.asked.Load(); got != 12 {
		t.Errorf("12 questions, each twice, were asked %d times", got)
	}
	if a := ask(t, s, "1.2.0.192.in-addr.arpa.", dns.TypePTR, 512); len(a.Answer) != 1 {
		t.Errorf("backwards: %v", a)
	}
	if a := ask(t, s, "a.example.", dns.TypeHINFO, 512); a.Rcode != 0 || len(a.Answer) != 0 || len(a.Ns) != 1 {
		t.Errorf("a type that is not there: %v", a)
	}
	if a := ask(t, s, "x.example.", dns.TypeA, 512); a.Rcode != dns.RcodeNameError || len(a.Ns) != 1 {
		t.Errorf("a name that is not there: %v", a)
	}
	// Too long for UDP, not for a stream.
	edns := func(m *dns.Msg) { m.SetEdns0(4096, false) }
	if a := ask(t, s, "big.example.", dns.TypeTXT, 1232, edns); !a.Truncated || len(a.Answer) != 0 {
		t.Errorf("%d records by UDP, cut %v", len(a.Answer), a.Truncated)
	}
	if a := ask(t, s, "big.example.", dns.TypeTXT, 0); a.Truncated || len(a.Answer) != 200 {
		t.Errorf("%d records by TCP, cut %v", len(a.Answer), a.Truncated)
	}
	// What was given out is known by name.
	for addr, want := range map[string]string{"192.0.2.1": "a.example", "2001:db8::1": "a.example", "::ffff:192.0.2.1": "a.example", "192.0.2.99": ""} {
		if name, ok := s.NameOf(netip.MustParseAddr(addr)); name != want || ok != (want != "") {
			t.Errorf("%s is %q", addr, name)
		}
	}
	// Many at once, half of them the same.
	before := n.asked.Load()
	var wg sync.WaitGroup
	for i := range 400 {
		wg.Go(func() {
			if a := ask(t, s, fmt.Sprintf("n%d.example.", i/2), dns.TypeA, 512); addrOf(a) != "192.0.2.4" {
				t.Errorf("number %d: %v", i, a)
			}
		})
	}
	wg.Wait()
	if got := n.asked.Load() - before; got != 200 {
		t.Errorf("400 questions of 200 kinds were asked %d times", got)
	}
	if got := s.Answer(t.Context(), []byte{1, 2, 3}, 512); got != nil {
		t.Errorf("three bytes were answered with %x", got)
	}
}

// One device has few streams of questions, since each can ask a lot.
func TestFewStreams(t *testing.T) {
	c := session(t, newNameServer(t, "").addr)
	open := func() (flow.Stream, flow.Code) {
		st, err := c.Open(t.Context(), flow.ResolverTarget, false)
		return st, flow.CodeOf(err)
	}
	var last flow.Stream
	for n := 1; ; n++ {
		st, code := open()
		if code == flow.CodeBusy && n > 2 {
			break
		}
		if code != flow.CodeNone || n > 10 {
			t.Fatalf("stream %d: %v", n, code)
		}
		defer st.Close()
		last = st
	}
	last.Close()
	for {
		st, code := open() // as soon as the gateway has heard of it
		if code == flow.CodeNone {
			st.Close()
			return
		}
		if t.Context().Err() != nil || code != flow.CodeBusy {
			t.Fatal(code)
		}
	}
}

// Applications by TCP, and a real resolver at the other end.
func TestUnbound(t *testing.T) {
	unbound := dnstest.Unbound(t, `
	local-zone: "test." static
	local-data: "one.test. 60 IN A 192.0.2.1"
	local-data: "two.test. 60 IN A 192.0.2.2"`, "one.test.")
	s := newServer(t, names.Config{Outside: session(t, unbound)})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { s.Serve(ctx, c) })
		}
	})
	defer running.Wait()
	defer cancel()
	defer l.Close()
	c, err := dns.DialTimeout("tcp", l.Addr().String(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	want := map[string]string{"one.test.": "192.0.2.1", "two.test.": "192.0.2.2", "none.test.": "NXDOMAIN", "localhost.": "127.0.0.1"}
	for name := range want { // all are asked before one answer is read
		if err := c.WriteMsg(new(dns.Msg).SetQuestion(name, dns.TypeA).SetEdns0(1232, true)); err != nil {
			t.Fatal(err)
		}
	}
	for range want {
		a, err := c.ReadMsg()
		if err != nil {
			t.Fatal(err)
		}
		if name := a.Question[0].Name; addrOf(a) != want[name] {
			t.Errorf("%s: %v", name, a)
		}
	}
}

// outside is a tunnel without a session: an egress alone, whose streams can be cut, or not be had.
type outside struct {
	*egress.Sockets
	opened atomic.Int32

	mu    sync.Mutex
	conns []net.Conn
	down  bool
}

func newOutside(t testing.TB, resolver string) *outside {
	t.Helper()
	s, err := egress.New(egress.Config{Resolver: resolver, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Families: flow.IPv4 | flow.IPv6})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return &outside{Sockets: s}
}

type stream struct{ net.Conn }

func (s stream) CloseWrite() error   { return s.Conn.(interface{ CloseWrite() error }).CloseWrite() }
func (s stream) Reset(flow.Code)     { s.Close() }
func (s stream) Join(net.Conn) error { return io.ErrClosedPipe }

func (o *outside) Open(ctx context.Context, t flow.Target, _ bool) (flow.Stream, error) {
	o.mu.Lock()
	down := o.down
	o.mu.Unlock()
	if down {
		<-ctx.Done()
		return nil, &flow.Error{Code: flow.CodeTimeout}
	}
	c, err := o.Dial(ctx, t)
	if err != nil {
		return nil, err
	}
	o.opened.Add(1)
	o.mu.Lock()
	o.conns = append(o.conns, c)
	o.mu.Unlock()
	return stream{c}, nil
}

func (o *outside) cut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.conns {
		c.Close()
	}
	o.conns = nil
}

// A stream that breaks in mid-question: it is asked again, on another one, once.
func TestBrokenStream(t *testing.T) {
	n := newNameServer(t, "")
	o := newOutside(t, n.addr)
	s := newServer(t, names.Config{Outside: o})
	if got := addrOf(ask(t, s, "a.example.", dns.TypeA, 512)); got != "192.0.2.1" {
		t.Errorf("before: %s", got)
	}
	answered := make(chan string, 1) // the test waits for it at its end
	go func() { answered <- addrOf(ask(t, s, "held.example.", dns.TypeA, 512)) }()
	for n.asked.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	o.cut()
	for o.opened.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	close(n.gate)
	if got := <-answered; got != "192.0.2.3" {
		t.Errorf("a question under way: %s", got)
	}
	o.cut()
	if got := addrOf(ask(t, s, "www.example.com.", dns.TypeA, 512)); got != "192.0.2.80" || o.opened.Load() != 3 {
		t.Errorf("afterwards: %s, %d streams", got, o.opened.Load())
	}
}

// While there is no link, what has just expired is answered at once.
func TestStaleWithoutLink(t *testing.T) {
	n := newNameServer(t, "")
	o := newOutside(t, n.addr)
	var linked atomic.Bool
	linked.Store(true)
	s := newServer(t, names.Config{Outside: o, Linked: linked.Load})
	ask(t, s, "soon.example.", dns.TypeA, 512)
	time.Sleep(1100 * time.Millisecond) // its TTL, by a real server's clock
	linked.Store(false)
	o.mu.Lock()
	o.down = true
	o.mu.Unlock()
	o.cut()
	a := ask(t, s, "soon.example.", dns.TypeA, 512)
	if addrOf(a) != "192.0.2.9" || a.Answer[0].Header().Ttl != 30 {
		t.Errorf("without a link: %v", a)
	}
}

func TestSplit(t *testing.T) {
	inside, office, world := newNameServer(t, "192.0.2.10"), newNameServer(t, "192.0.2.11"), newNameServer(t, "192.0.2.12")
	o := newOutside(t, world.addr)
	parse := func(s string) dnsclient.Resolver {
		r, err := dnsclient.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	var dialled atomic.Int32
	s := newServer(t, names.Config{Outside: o, NamesFirst: prefixes("198.18.0.0/15"), Split: map[string]names.Upstream{
		"who.example": {Resolver: parse(inside.addr)}, // through the tunnel, by TCP
		"Office.Example.Net": {Resolver: parse(office.addr), Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dialled.Add(1)
			return new(net.Dialer).DialContext(ctx, network, addr)
		}},
		"deep.office.example.net": {Resolver: parse(inside.addr)},
	}})
	for name, want := range map[string]string{"who.example.": "192.0.2.10", "host.OFFICE.example.net.": "192.0.2.11",
		"host.deep.office.example.net.": "192.0.2.10", "localhost.": "127.0.0.1"} {
		if got := addrOf(ask(t, s, name, dns.TypeA, 512)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if dialled.Load() != 1 || world.asked.Load() != 0 {
		t.Errorf("the office was dialled %d times, the world asked %d", dialled.Load(), world.asked.Load())
	}
}

func prefixes(all ...string) (out []netip.Prefix) {
	for _, p := range all {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func TestNamesFirst(t *testing.T) {
	n := newNameServer(t, "")
	o := newOutside(t, n.addr)
	s := newServer(t, names.Config{Outside: o, NamesFirst: prefixes("198.18.0.0/15", "fd00:1::/64")})
	seen := map[string]string{}
	for i := range 3000 {
		name := fmt.Sprintf("host%d.example.com.", i)
		for _, typ := range []uint16{dns.TypeA, dns.TypeAAAA} {
			a := ask(t, s, name, typ, 512)
			got := addrOf(a)
			addr, err := netip.ParseAddr(got)
			if err != nil || a.Answer[0].Header().Ttl != 1 || seen[got] != "" || !s.Synthetic(addr) {
				t.Fatalf("%s: %v, given to %q before", name, a, seen[got])
			}
			seen[got] = strings.TrimSuffix(name, ".")
			if again := addrOf(ask(t, s, strings.ToUpper(name), typ, 512)); again != got {
				t.Errorf("%s is %s and then %s", name, got, again)
			}
		}
	}
	for addr, want := range seen {
		if got, ok := s.NameOf(netip.MustParseAddr(addr)); !ok || got != want {
			t.Errorf("%s is %q, want %q", addr, got, want)
		}
	}
	if n.asked.Load() != 0 {
		t.Errorf("the resolver was asked %d times", n.asked.Load())
	}
	// Who has to know gets the real ones.
	for six, want := range map[bool]string{false: "192.0.2.1", true: "2001:db8::1"} {
		if got, err := s.Resolve(t.Context(), "a.example", six); err != nil || len(got) != 1 || got[0].String() != want {
			t.Errorf("a.example is %v, %v; want %s", got, err, want)
		}
	}
	if got, err := s.Resolve(t.Context(), "x.example", false); flow.CodeOf(err) != flow.CodeNameNotFound {
		t.Errorf("a name that is not there: %v, %v", got, err)
	}
	// No other type, nor a name that is nobody's outside or is of a network's own, is made up.
	if a := ask(t, s, "a.example.", dns.TypeMX, 512); len(a.Answer) != 1 {
		t.Errorf("MX: %v", a)
	}
	for _, name := range []string{"printer.", "nas.lan.", "x.home.arpa.", "ipv4only.arpa.", "x.local."} {
		if got := addrOf(ask(t, s, name, dns.TypeA, 512)); strings.HasPrefix(got, "198.") {
			t.Errorf("%s: %s", name, got)
		}
	}
	// An address in another answer would lead round the name.
	for _, typ := range []uint16{dns.TypeHTTPS, dns.TypeSVCB} {
		a := ask(t, s, "a.example.", typ, 1232)
		if text := a.String(); len(a.Answer) != 1 || len(a.Extra) != 0 || strings.Contains(text, "192.0.2.1") || strings.Contains(text, "hint") ||
			!strings.Contains(text, "alpn") && !strings.Contains(text, "port") {
			t.Errorf("%v", a)
		}
	}
	// Without a prefix of IPv6 there is no such address.
	s = newServer(t, names.Config{Outside: o, NamesFirst: prefixes("198.18.0.0/24")})
	if a := ask(t, s, "a.example.", dns.TypeAAAA, 512); a.Rcode != 0 || len(a.Answer) != 0 {
		t.Errorf("AAAA: %v", a)
	}
	// When all are given out, the one used longest ago is given again.
	old := netip.MustParseAddr(addrOf(ask(t, s, "used.example.", dns.TypeA, 512)))
	for i := range 500 {
		ask(t, s, fmt.Sprintf("n%d.example.", i), dns.TypeA, 512)
		if name, ok := s.NameOf(old); !ok || name != "used.example" {
			t.Fatalf("after %d others: %v is %q", i, old, name)
		}
	}
}

// Nobody waits longer than an application does.
func TestNoTunnel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutside(t, "127.0.0.1:1")
		o.down = true
		s := newServer(t, names.Config{Outside: o})
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				if a := ask(t, s, fmt.Sprintf("n%d.example.", i), dns.TypeA, 512); a.Rcode != dns.RcodeServerFailure {
					t.Errorf("%v", a)
				}
			})
		}
		wg.Wait()
		if waited := time.Since(start); waited != 5*time.Second {
			t.Errorf("they waited %v", waited)
		}
	})
}
