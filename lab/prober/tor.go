package prober

import (
	"bytes"
	"context"
	"crypto/tls"
	"time"
)

// Tor: the first cell of its link protocol inside of TLS (tor-spec, "Negotiating and initializing channels"). The
// censor's own hello has the cipher list of a Tor of 2011 (B7); Go's is sent here, because relays take any.

const torCell = "Tor answers VERSIONS"

var torProbes = []Probe{
	simple{Kind{Name: "Tor's VERSIONS inside TLS", Family: "tor", Network: "tcp", Knocks: true},
		func(ctx context.Context, t *Target) Answer {
			c, bad := t.connect(ctx)
			if c == nil {
				return bad
			}
			defer c.Close()
			c.until(time.Now().Add(t.Patience))
			seen := &watched{Conn: c}
			inner := tls.Client(seen, &tls.Config{InsecureSkipVerify: true})
			if err := inner.HandshakeContext(ctx); err != nil {
				return t.noHandshake(seen, err)
			}
			// Circuit 0, command 7, six bytes: versions 3, 4, 5.
			inner.Write([]byte{0, 0, 7, 0, 6, 0, 3, 0, 4, 0, 5})
			got, end := t.read(&conn{inner, ctx, func() bool { return true }})
			a := Answer{What: describe(got), Bytes: seen.len(), End: end}
			if bytes.HasPrefix(got, []byte{0, 0, 7, 0}) {
				a.What = torCell
			}
			return a
		}},
}
