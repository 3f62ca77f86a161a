package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/godwit-vpn/godwit/internal/dnsmessage/dnstest"
	"github.com/godwit-vpn/godwit/internal/flow"
)

// nameServer is a DNS server with a few names.
type nameServer struct {
	addr  string // host:port of UDP and TCP
	asked atomic.Int32

	mu   sync.Mutex
	last *dns.Msg
}

func (n *nameServer) ServeDNS(w dns.ResponseWriter, m *dns.Msg) {
	n.asked.Add(1)
	n.mu.Lock()
	n.last = m
	n.mu.Unlock()
	a := new(dns.Msg).SetReply(m)
	a.Compress = true
	a.RecursionAvailable = true
	add := func(text string) {
		r, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		if r.Header().Rrtype == m.Question[0].Qtype {
			a.Answer = append(a.Answer, r)
		}
	}
	name := m.Question[0].Name
	switch low := strings.ToLower(name); low {
	case "a.example.", "www.corp.":
		add(name + " 300 IN A 192.0.2.1")
		add(name + " 300 IN AAAA 2001:db8::1")
		add(name + " 300 IN MX 10 mail.example.")
		add(name + ` 300 IN HTTPS 1 . alpn="h2" ipv4hint="192.0.2.1"`)
	case "big.example.":
		for i := range 100 {
			add(fmt.Sprintf(`%s 300 IN TXT "%d %s"`, name, i, strings.Repeat("x", 200)))
		}
	case "slow.example.":
		time.Sleep(300 * time.Millisecond)
		add(name + " 300 IN A 192.0.2.2")
	case "failing.example.":
		a.Rcode = dns.RcodeServerFailure
	case "silent.example.":
		return
	default:
		if !strings.HasPrefix(low, "n") {
			a.Rcode = dns.RcodeNameError
			soa, _ := dns.NewRR("example. 900 IN SOA ns.example. x.example. 1 2 3 4 60")
			a.Ns = append(a.Ns, soa)
			break
		}
		add(name + " 300 IN A 192.0.2.3")
	}
	dnstest.Write(w, m, a)
}

func newNameServer(t testing.TB) *nameServer {
	t.Helper()
	n := &nameServer{}
	n.addr = dnstest.NameServer(t, n)
	return n
}

// questions opens a stream of questions.
func questions(t testing.TB, s *Sockets) *dns.Conn {
	t.Helper()
	c, err := s.Dial(t.Context(), flow.ResolverTarget)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(10 * time.Second))
	t.Cleanup(func() { c.Close() })
	return &dns.Conn{Conn: c}
}

func exchange(t testing.TB, c *dns.Conn, m *dns.Msg) *dns.Msg {
	t.Helper()
	if err := c.WriteMsg(m); err != nil {
		t.Fatal(err)
	}
	a, err := c.ReadMsg()
	if err != nil {
		t.Fatal(err)
	}
	if a.Id != m.Id {
		t.Fatalf("an answer to another question: %v", a)
	}
	return a
}

// Every way of asking a resolver, and the addresses of names by the same way.
func TestQuestions(t *testing.T) {
	n := newNameServer(t)
	cert, key := dnstest.Certificate(t)
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	dnstest.Serve(t, &dns.Server{Listener: l, Handler: n})
	h := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		c := &dns.Conn{}
		up, err := net.Dial("tcp", n.addr)
		if err != nil {
			return
		}
		c.Conn = up
		defer up.Close()
		c.Write(b)
		answer := make([]byte, 1<<16)
		k, _ := c.Read(answer)
		w.Header().Set("Content-Type", "application/dns-message")
		w.Write(answer[:k])
	}))
	h.TLS = config
	h.EnableHTTP2 = true
	h.StartTLS()
	t.Cleanup(h.Close)
	for _, resolver := range []string{n.addr, "tcp://" + n.addr, "tls://" + l.Addr().String(), h.URL + "/dns-query"} {
		kind, _, secured := strings.Cut(resolver, "://")
		t.Run(kind, func(t *testing.T) {
			s, err := New(Config{Resolver: resolver, ResolverRoots: roots, Families: both})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			c := questions(t, s)
			for _, typ := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeMX, dns.TypeHTTPS} {
				for range 2 { // the second time from memory
					a := exchange(t, c, new(dns.Msg).SetQuestion("A.example.", typ))
					if len(a.Answer) != 1 || a.Answer[0].Header().Rrtype != typ || a.Question[0].Name != "A.example." {
						t.Errorf("%d: %v", typ, a)
					}
				}
			}
			if a := exchange(t, c, new(dns.Msg).SetQuestion("big.example.", dns.TypeTXT)); len(a.Answer) != 100 || a.Truncated {
				t.Errorf("%d of 100 records, cut: %v", len(a.Answer), a.Truncated)
			}
			if a := exchange(t, c, new(dns.Msg).SetQuestion("x.example.", dns.TypeA)); a.Rcode != dns.RcodeNameError || len(a.Ns) != 1 {
				t.Errorf("a name that is not there: %v", a)
			}
			if a := exchange(t, c, new(dns.Msg).SetQuestion("failing.example.", dns.TypeA)); a.Rcode != dns.RcodeServerFailure {
				t.Errorf("a failure: %v", a)
			}
			st := s.Stats()
			if st.Questions != 11 || st.QuestionsCached != 4 {
				t.Errorf("%d questions, %d from memory", st.Questions, st.QuestionsCached)
			}
			addrs, err := s.addrsOf(t.Context(), flow.Target{Host: "a.example", Port: 1})
			if got := fmt.Sprint(addrs); err != nil || got != "[2001:db8::1 192.0.2.1]" {
				t.Errorf("addresses %v, %v", got, err)
			}
			if _, err := s.Resolve(t.Context(), "x.example"); flow.CodeOf(err) != flow.CodeNameNotFound {
				t.Errorf("a name that is not there: %v", err)
			}
			if _, err := s.Resolve(t.Context(), "failing.example"); flow.CodeOf(err) != flow.CodeNameFailed {
				t.Errorf("a failure: %v", err)
			}
		})
		if secured && kind != "tcp" {
			s := newSockets(t, Config{Resolver: resolver})
			if a := exchange(t, questions(t, s), new(dns.Msg).SetQuestion("a.example.", dns.TypeA)); a.Rcode != dns.RcodeServerFailure {
				t.Errorf("%s: a resolver whose certificate nobody signed was asked", kind)
			}
		}
	}
}

// What a question says of who asks goes no further.
func TestQuestionsTellNothing(t *testing.T) {
	n := newNameServer(t)
	s := newSockets(t, Config{Resolver: n.addr})
	m := new(dns.Msg).SetQuestion("A.eXample.", dns.TypeA).SetEdns0(4096, true)
	m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: net.IPv4(198, 51, 100, 0)},
		&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"}}
	exchange(t, questions(t, s), m)
	n.mu.Lock()
	defer n.mu.Unlock()
	if o := n.last.IsEdns0(); o == nil || len(o.Option) > 0 || !o.Do() || n.last.Question[0].Name != "a.example." {
		t.Errorf("the resolver was asked %v", n.last)
	}
}

// Many questions at once on one stream, answered as the answers come.
func TestQuestionsAtOnce(t *testing.T) {
	n := newNameServer(t)
	s := newSockets(t, Config{Resolver: n.addr})
	c := questions(t, s)
	const many = 500 // more than may be under way
	go func() {
		c.WriteMsg(new(dns.Msg).SetQuestion("slow.example.", dns.TypeA))
		for i := range many {
			c.WriteMsg(new(dns.Msg).SetQuestion(fmt.Sprintf("n%d.example.", i%50), dns.TypeA))
		}
		c.Conn.(interface{ CloseWrite() error }).CloseWrite()
	}()
	var names []string
	for range many + 1 {
		a, err := c.ReadMsg()
		if err != nil || len(a.Answer) != 1 {
			t.Fatalf("after %d answers: %v, %v", len(names), a, err)
		}
		names = append(names, a.Question[0].Name)
	}
	if at := slices.Index(names, "slow.example."); at < 1 {
		t.Errorf("the slow answer came as number %d", at)
	}
	if n := n.asked.Load(); n != 51 {
		t.Errorf("the resolver was asked %d times", n)
	}
	if _, err := c.ReadMsg(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func TestSpecialQuestions(t *testing.T) {
	n := newNameServer(t)
	closed, err := New(Config{Resolver: n.addr, Families: both})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed.Close() })
	open := newSockets(t, Config{Resolver: n.addr})
	for _, tt := range []struct {
		name         string
		typ          uint16
		closed, open string
	}{
		{"localhost.", dns.TypeA, "127.0.0.1", "127.0.0.1"},
		{"printer.local.", dns.TypeA, "NXDOMAIN", "NXDOMAIN"},
		{"x.onion.", dns.TypeA, "NXDOMAIN", "NXDOMAIN"},
		{"resolver.godwit.internal.", dns.TypeA, "NXDOMAIN", "NXDOMAIN"},
		{"www.corp.", dns.TypeA, "NXDOMAIN", "192.0.2.1"},
		{"n.internal.", dns.TypeA, "NXDOMAIN", "192.0.2.3"},
		{"nas.", dns.TypeA, "NOERROR", "192.0.2.3"},
		{"n.example.", dns.TypeA, "192.0.2.3", "192.0.2.3"},
		{"n.10.in-addr.arpa.", dns.TypeA, "NXDOMAIN", "192.0.2.3"},
	} {
		for s, want := range map[*Sockets]string{closed: tt.closed, open: tt.open} {
			a := exchange(t, questions(t, s), new(dns.Msg).SetQuestion(tt.name, tt.typ))
			got := dns.RcodeToString[a.Rcode]
			if len(a.Answer) > 0 {
				got = a.Answer[0].(*dns.A).A.String()
			}
			if got != want {
				t.Errorf("%s: %s, want %s", tt.name, got, want)
			}
		}
	}
}

// What is no question ends the stream, or is told so; and a resolver that says nothing holds nobody up at the end.
func TestQuestionsMalformed(t *testing.T) {
	n := newNameServer(t)
	s := newSockets(t, Config{Resolver: n.addr})
	c := questions(t, s)
	m := new(dns.Msg).SetQuestion("example.", dns.TypeAXFR)
	if a := exchange(t, c, m); a.Rcode != dns.RcodeNotImplemented {
		t.Errorf("a zone transfer: %v", a)
	}
	c.Conn.Write([]byte{0, 3, 1, 2, 3})
	if _, err := c.ReadMsg(); err == nil {
		t.Error("three bytes were answered")
	}
	c = questions(t, s)
	c.Conn.Write([]byte{0x20, 0})
	if _, err := c.ReadMsg(); err == nil {
		t.Error("a question of 8 KiB was answered")
	}
	c = questions(t, s)
	c.WriteMsg(new(dns.Msg).SetQuestion("silent.example.", dns.TypeA))
	for n.asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	s.Close()
	if _, err := s.Dial(context.Background(), flow.ResolverTarget); flow.CodeOf(err) != flow.CodeLocalShutdown {
		t.Errorf("after the end: %v", err)
	}
}
