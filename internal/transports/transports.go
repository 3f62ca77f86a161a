// Package transports lists the transports that there are, in one place.
package transports

import (
	"iter"
	"syscall"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/internal/dnsclient"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/dns"
	"github.com/godwit-vpn/godwit/internal/transports/http"
	"github.com/godwit-vpn/godwit/internal/transports/https"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
	"github.com/godwit-vpn/godwit/internal/transports/quic"
	"github.com/godwit-vpn/godwit/internal/transports/relay"
	"github.com/godwit-vpn/godwit/internal/transports/websocket"
)

// Default is the transport of an endpoint that names none.
const Default = https.Name

// Place is the transport by which an endpoint of an access key is reached, and the address that it dials.
func Place(ep accesskey.Endpoint) (transport, addr string) {
	switch ep.Transport {
	case "":
		return Default, ep.Addr()
	case dns.Name:
		return dns.Name, ep.Host // a zone is at no port
	}
	return ep.Transport, ep.Addr()
}

// Options are what a client's transports need to know. Zero values mean what https.Dialer says.
type Options struct {
	Congestion string
	Control    func(network, address string, c syscall.RawConn) error
	// Resolvers are those that dns asks; empty means those of the network, which Network lists: nil is the system.
	Resolvers []dnsclient.Resolver
	Network   func() ([]dnsclient.Resolver, error)
}

// Dialers makes a client's end of every transport.
func Dialers(o Options) []transport.Dialer {
	return []transport.Dialer{
		&https.Dialer{Congestion: o.Congestion, Control: o.Control},
		&quic.Dialer{Control: o.Control},
		&websocket.Dialer{Congestion: o.Congestion, Control: o.Control},
		&http.Dialer{Congestion: o.Congestion, Control: o.Control},
		&relay.Dialer{Congestion: o.Congestion, Control: o.Control},
		&dns.Dialer{Resolvers: o.Resolvers, Network: o.Network, Control: o.Control},
	}
}

// LookLike has connections from now on look like a browser's, of all dialers that can look like one or another: until then they
// look like Chrome.
func LookLike(dialers iter.Seq[transport.Dialer], b *chrome.Browser) {
	for d := range dialers {
		if d, ok := d.(interface{ LookLike(*chrome.Browser) }); ok {
			d.LookLike(b)
		}
	}
}

// Ends is the name of the transport that a dialer's links end in at the gateway, which a device's proof holds.
func Ends(d transport.Dialer) string {
	if e, ok := d.(interface{ Ends() string }); ok {
		return e.Ends()
	}
	return d.Transport()
}

// Names lists them, in the order of Dialers.
func Names() []string {
	return []string{https.Name, quic.Name, websocket.Name, http.Name, relay.Name, dns.Name}
}
