package dns

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/godwit-vpn/godwit/internal/dnsclient"
	"github.com/godwit-vpn/godwit/internal/dnsmessage/dnstest"
	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
	"github.com/godwit-vpn/godwit/lab/firewall/rules"
)

// unbound runs Debian's recursive resolver on a port of loopback, which knows the test's zone and nothing else, and
// returns its address.
func unbound(t testing.TB, gateway, server string) string {
	t.Helper()
	host, port, _ := net.SplitHostPort(gateway)
	return dnstest.Unbound(t, fmt.Sprintf(`
	outgoing-interface: 127.0.0.1
	do-not-query-localhost: no
	access-control: 127.0.0.0/8 allow
	local-zone: "%s." transparent
%s
stub-zone:
	name: "%s."
	stub-addr: %s@%s
	stub-prime: no`, testZone, server, testZone, host, port), testZone+".")
}

// box is what stands between two of the three: it forwards queries over UDP and does something to them.
type box struct {
	to     string
	delay  time.Duration                      // each way
	loss   float64                            // each way
	twice  float64                            // queries
	jitter time.Duration                      // more delay for some
	query  func(q *dns.Msg) (answer *dns.Msg) // may change q; nil forwards it
	drop   func(query []byte) bool
	forge  bool // say first that there is no such name

	mu    sync.Mutex
	count int
}

func (b *box) start(t testing.TB) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(func() { c.Close(); running.Wait() })
	wait := func() { time.Sleep(b.delay + time.Duration(rand.Float64()*float64(b.jitter))) }
	running.Go(func() {
		for {
			buf := make([]byte, 4096)
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			b.mu.Lock()
			b.count++
			b.mu.Unlock()
			if b.drop != nil && b.drop(buf[:n]) {
				continue
			}
			if b.forge {
				if m := new(dns.Msg); m.Unpack(buf[:n]) == nil {
					forged, _ := new(dns.Msg).SetRcode(m, dns.RcodeNameError).Pack()
					c.WriteTo(forged, from)
				}
			}
			for i := range 2 {
				if i == 1 && rand.Float64() >= b.twice || rand.Float64() < b.loss {
					continue
				}
				running.Go(func() {
					wait()
					if answer := b.forward(buf[:n]); answer != nil && rand.Float64() >= b.loss {
						wait()
						c.WriteTo(answer, from)
					}
				})
			}
		}
	})
	return c.LocalAddr().String()
}

func (b *box) forward(wire []byte) []byte {
	if b.query != nil {
		m := new(dns.Msg)
		if m.Unpack(wire) != nil {
			return nil
		}
		answer := b.query(m)
		if answer == nil {
			wire, _ = m.Pack()
		} else {
			wire, _ = answer.Pack()
			return wire
		}
	}
	up, err := net.Dial("udp", b.to)
	if err != nil {
		return nil
	}
	defer up.Close()
	up.SetDeadline(time.Now().Add(3 * time.Second))
	up.Write(wire)
	buf := make([]byte, 4096)
	n, err := up.Read(buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}

func servfail(types ...uint16) func(*dns.Msg) *dns.Msg {
	return func(q *dns.Msg) *dns.Msg {
		for _, t := range types {
			if q.Question[0].Qtype == t {
				return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
			}
		}
		return nil
	}
}

// Through a real resolver, as it is and as it could be.
func TestUnbound(t *testing.T) {
	for _, tt := range []struct {
		name   string
		server string // of unbound's settings
		inner  *box   // between client and unbound
		outer  *box   // between unbound and gateway
		change func(*Dialer)
		bytes  int
		way    way
		anyWay bool
	}{
		{name: "as it is", bytes: 50_000, way: ways[0]},
		{name: "short names", bytes: 5000, change: func(d *Dialer) { d.LongestName = ShortName }, way: ways[0]},
		{name: "case shuffled", server: "use-caps-for-id: yes", bytes: 20_000, way: ways[0]},
		{name: "asks label by label", server: "qname-minimisation-strict: yes", bytes: 5000, anyWay: true},
		{name: "caches for an hour", server: "cache-min-ttl: 3600\n\tprefetch: yes", bytes: 20_000, way: ways[0]},
		{name: "small answers from the gateway", server: "edns-buffer-size: 512", bytes: 20_000, way: ways[0]},
		{name: "small answers to the client", server: "max-udp-size: 512", bytes: 20_000, way: ways[1]},
		{name: "no EDNS to the client", bytes: 20_000, way: ways[1], inner: &box{query: func(q *dns.Msg) *dns.Msg {
			q.Extra = nil
			return nil
		}}},
		{name: "EDNS is a mistake", bytes: 20_000, way: ways[1], inner: &box{query: func(q *dns.Msg) *dns.Msg {
			if q.IsEdns0() != nil {
				q.Extra = nil
				return new(dns.Msg).SetRcode(q, dns.RcodeFormatError)
			}
			return nil
		}}},
		{name: "lost, twice, out of order", bytes: 5000, anyWay: true,
			inner: &box{loss: 0.05, twice: 0.1, jitter: 20 * time.Millisecond}, outer: &box{loss: 0.05, twice: 0.1, jitter: 20 * time.Millisecond}},
		{name: "fails now and then", bytes: 5000, anyWay: true, inner: &box{query: func(q *dns.Msg) *dns.Msg {
			if rand.IntN(10) == 0 {
				return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
			}
			return nil
		}}},
		{name: "no TXT", bytes: 5000, way: ways[4], inner: &box{query: servfail(dns.TypeTXT)}},
		{name: "AAAA and A", bytes: 5000, way: ways[6], inner: &box{query: servfail(dns.TypeTXT, dns.TypeCNAME, dns.TypeNULL)}},
		{name: "A alone", bytes: 2000, way: ways[7], inner: &box{query: servfail(dns.TypeTXT, dns.TypeCNAME, dns.TypeNULL, dns.TypeAAAA)}},
		{name: "long names are dropped", bytes: 5000, way: ways[2], inner: &box{drop: dnsTunnelRule(t)}},
		{name: "long names are dropped, and it is known", bytes: 5000, way: ways[0],
			change: func(d *Dialer) { d.LongestName = ShortName }, inner: &box{drop: dnsTunnelRule(t)}},
		{name: "forged answers first", bytes: 5000, way: ways[0], inner: &box{forge: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t)
			at := g.addr
			if tt.outer != nil {
				tt.outer.to = at
				at = tt.outer.start(t)
			}
			at = unbound(t, at, "\t"+tt.server)
			if tt.inner != nil {
				tt.inner.to = at
				at = tt.inner.start(t)
			}
			d := &Dialer{Resolvers: []dnsclient.Resolver{resolver(t, at)}, Rate: 2000}
			if tt.change != nil {
				tt.change(d)
			}
			start := time.Now()
			client, server := connect(t, g, d)
			k := d.known[testZone]
			t.Logf("dialled after %v, %d queries, by %s of %d, long %v", time.Since(start), d.Queries(), dns.TypeToString[k.way.mode], k.way.size, k.way.long)
			if k.way != tt.way && !tt.anyWay {
				t.Errorf("it goes by %s of %d, long %v", dns.TypeToString[k.way.mode], k.way.size, k.way.long)
			}
			echo(t, client, server, tt.bytes)
			t.Logf("%d bytes there and back after %v, %d queries", tt.bytes, time.Since(start), d.Queries())
		})
	}
}

// dnsTunnelRule is the lab's rule against tunnels as it stands in its profile of a shutdown.
func dnsTunnelRule(t *testing.T) func(query []byte) bool {
	t.Helper()
	set := rules.Set{DNSTunnel: []*rules.DNSTunnel{{Name: ShortName, Then: rules.Then{Drop: true}}}}
	named, err := set.Named(firewall.InPath, rules.Groups{})
	if err != nil {
		t.Fatal(err)
	}
	wall, err := firewall.New(firewall.Config{Name: "wall", Place: firewall.InPath, Rules: named, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var at time.Duration
	return func(query []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		at += time.Millisecond
		frames := firewalltest.Conn(t, firewall.UDP, "198.51.100.2:5353", "203.0.113.53:53", at, ">"+string(query))
		return len(firewalltest.Pass(wall, frames).Dropped) > 0
	}
}
