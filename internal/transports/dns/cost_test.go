package dns

import (
	"io"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
)

// What a usable link costs, through unbound with 20 ms to it and 100 ms from there to the gateway, at the rate that users
// have: the first byte of the gateway's link has come. The package's documentation has the numbers.
func TestCost(t *testing.T) {
	for _, tt := range []struct {
		name    string
		longest int
	}{{"long names", MaxName}, {"short names", ShortName}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t)
			outer := &box{to: g.addr, delay: 50 * time.Millisecond}
			at := unbound(t, outer.start(t), "")
			inner := &box{to: at, delay: 10 * time.Millisecond}
			d := &Dialer{Directory: testDirectory, Resolvers: []Resolver{resolver(t, inner.start(t))}, LongestName: tt.longest}
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

// What it carries at the rate that users have, and what it asks when there is nothing to do.
func TestPace(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	for _, tt := range []struct {
		name    string
		longest int
		up      int
	}{{"long names", MaxName, 20_000}, {"short names", ShortName, 4000}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t)
			outer := &box{to: g.addr, delay: 50 * time.Millisecond}
			inner := &box{to: unbound(t, outer.start(t), ""), delay: 10 * time.Millisecond}
			d := &Dialer{Directory: testDirectory, Resolvers: []Resolver{resolver(t, inner.start(t))}, LongestName: tt.longest}
			client, server := connect(t, g, d)
			carry := func(what string, from, to transport.Conn, n int) {
				began, asked := time.Now(), d.Queries()
				go from.Write(make([]byte, n))
				if _, err := io.ReadFull(to, make([]byte, n)); err != nil {
					t.Fatal(err)
				}
				seconds := time.Since(began).Seconds()
				t.Logf("%s: %.1f kB/s, %.0f queries a second", what, float64(n)/1000/seconds, float64(d.Queries()-asked)/seconds)
			}
			carry("up", client, server, tt.up)
			carry("down", server, client, 150_000)
			for _, after := range []time.Duration{0, 5 * time.Second, 10 * time.Second} {
				asked := d.Queries()
				time.Sleep(5 * time.Second)
				t.Logf("idle for %v: %d queries in 5 s", after, d.Queries()-asked)
			}
			began := time.Now()
			carry("a byte down", server, client, 1)
			carry("a byte up", client, server, 1)
			t.Logf("both took %.2f s", time.Since(began).Seconds())
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
