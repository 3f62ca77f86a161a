package dns

import (
	"io"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/godwit-vpn/godwit/internal/dnsclient"
	"github.com/godwit-vpn/godwit/internal/transport"
)

// What a usable link costs, through unbound with 20 ms to it and 100 ms from there to the gateway, at the rate that users
// have: the first byte of the gateway's link has come. The package's documentation has the numbers.
func TestCost(t *testing.T) {
	for _, tt := range []struct {
		name    string
		longest int
		query   func(*dns.Msg) *dns.Msg
	}{
		{"long names", MaxName, nil},
		{"short names", ShortName, nil},
		{"small answers", MaxName, func(q *dns.Msg) *dns.Msg { q.Extra = nil; return nil }},
		{"addresses", MaxName, servfail(dns.TypeTXT, dns.TypeCNAME, dns.TypeNULL)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t)
			outer := &box{to: g.addr, delay: 50 * time.Millisecond}
			at := unbound(t, outer.start(t), "")
			inner := &box{to: at, delay: 10 * time.Millisecond, query: tt.query}
			d := &Dialer{Resolvers: []dnsclient.Resolver{resolver(t, inner.start(t))}, LongestName: tt.longest}
			for _, start := range []string{"cold", "warm", "warm"} {
				began, asked := time.Now(), d.Queries()
				client, server := connect(t, g, d)
				dialled := time.Since(began)
				go func() {
					io.ReadFull(server, make([]byte, 100)) // the link's hello, about
					server.Write(make([]byte, 400))
				}()
				client.Write(make([]byte, 100))
				if _, err := io.ReadFull(client, make([]byte, 400)); err != nil {
					t.Fatal(err)
				}
				t.Logf("%s: %d queries (%d with what unbound asks), dialled after %.1f s, usable after %.1f s", start,
					d.Queries()-asked, outer.asked(), dialled.Seconds(), time.Since(began).Seconds())
				client.Close()
				server.Close()
			}
		})
	}
}

// What it carries at the rate that users have, and what it asks when there is nothing to do, on the path of TestCost.
func BenchmarkPace(b *testing.B) {
	for _, bb := range []struct {
		name    string
		longest int
		up      int
	}{{"long names", MaxName, 20_000}, {"short names", ShortName, 4000}} {
		b.Run(bb.name, func(b *testing.B) {
			g := newGateway(b)
			outer := &box{to: g.addr, delay: 50 * time.Millisecond}
			inner := &box{to: unbound(b, outer.start(b), ""), delay: 10 * time.Millisecond}
			d := &Dialer{Resolvers: []dnsclient.Resolver{resolver(b, inner.start(b))}, LongestName: bb.longest}
			client, server := connect(b, g, d)
			for b.Loop() {
				carry := func(what string, from, to transport.Conn, n int) {
					began := time.Now()
					go from.Write(make([]byte, n))
					if _, err := io.ReadFull(to, make([]byte, n)); err != nil {
						b.Fatal(err)
					}
					b.ReportMetric(float64(n)/1000/time.Since(began).Seconds(), what+"-kB/s")
				}
				carry("up", client, server, bb.up)
				carry("down", server, client, 150_000)
				time.Sleep(10 * time.Second)
				asked := d.Queries()
				const idle = 20
				time.Sleep(idle * time.Second)
				b.ReportMetric(float64(d.Queries()-asked)/idle, "idle-queries/s")
			}
		})
	}
}

// asked is how many queries came since it was last asked.
func (b *box) asked() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.count
	b.count = 0
	return n
}
