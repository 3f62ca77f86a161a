package peer

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/godwit-vpn/godwit/lab/netns"
)

// Peer is one way of getting from client to targets. It is started once: gateway first, then client.
type Peer interface {
	// Proxy is the SOCKS5 address that its client serves on the client host; empty if it captures traffic below TCP:
	// then, from the return of Client on, what the client host sends to Site.Targets takes the tunnel or is lost.
	Proxy() string
	// Gateway starts the gateway's end and returns when it listens; nil if there is none.
	Gateway(ctx context.Context, s *Site) (*Process, error)
	// Client starts the client's end and returns as soon as it can do no more to speed it up; nil if there is none.
	Client(ctx context.Context, s *Site) (*Process, error)
}

// Machine is a Peer that may take names as well: what the client's host asks any resolver, its client answers.
type Machine interface{ TakesNames() bool }

// TakesNames reports whether a peer is such a Machine.
func TakesNames(p Peer) bool {
	m, ok := p.(Machine)
	return ok && m.TakesNames()
}

// Website is a Peer whose gateway is a website to strangers.
type Website interface {
	// Website returns that website for another address. It is asked for when the gateway has started.
	Website(ctx context.Context, s *Site, addr netip.Addr) (Face, error)
}

// Face is what a plain web server needs to be of the same kind as a gateway.
type Face struct {
	Pages http.Handler
	// Bare is what answers without TLS, on port 80.
	Bare http.Handler
	// Certificate is such as the gateway's.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
}

// Site is where a peer is to run.
type Site struct {
	Client, Gateway *netns.Host
	// GatewayAddr is where the client finds the gateway.
	GatewayAddr netip.Addr
	// More are other addresses of the gateway's host, for peers that can use several.
	More []netip.Addr
	// Relays are hosts on which the gateway's side may run another program, for peers that can enter through one.
	Relays []Relay
	// GatewayName, if not empty, is a name for GatewayAddr in /etc/hosts: Godwit's clients ask for it in their hellos.
	GatewayName string
	// Targets are what is to be reached, from the gateway's host: tunnels get a route to them. It must not contain
	// GatewayAddr. Whoever is at the far end of a proxy looks names up in /etc/hosts.
	Targets netip.Prefix
	// Cover is a website with TLS 1.3, and CoverName its name: REALITY and ShadowTLS borrow its handshake, and other
	// peers over TLS go by that name.
	Cover     netip.AddrPort
	CoverName string
	// NAT has the gateway's host translate what comes out of a tunnel, for targets that know no way back to Tunnels.
	NAT bool
	// Resolver has a resolver run on the client's host, as networks have one, for peers that can be reached by DNS.
	Resolver bool
	// Wrap, if not empty, is a program and arguments that start each of the peer's programs, whose path and arguments come
	// next: it confines itself and becomes that program.
	Wrap []string
	// CC, if not empty, is the congestion control of every route that a peer adds.
	CC string
	// Dir is private, empty, and best in memory: keys are written there.
	Dir string
}

// Relay is a host to enter through. Name, if not empty, is what clients ask it for.
type Relay struct {
	Host *netns.Host
	Addr netip.Addr
	Name string
}

// Zone is delegated to the gateway, for peers that can be reached by DNS: resolvers that a test runs ask it there.
const Zone = "t.example"

// Tunnels has the addresses inside of tunnels.
var Tunnels = netip.MustParsePrefix("198.18.0.0/16")

// Info is what a report says about a peer.
type Info struct {
	Version  string `json:"version"`
	Settings string `json:"settings"`
}

// Entry is a peer that can be asked for by name.
type Entry struct {
	Name string
	// Prepare finds or builds the program; it runs outside the sandbox, where there is a network. Check runs inside
	// and says why the peer cannot work there. Either error means that the peer is skipped, and why.
	Prepare func(ctx context.Context, t *Tools) (Info, error)
	Check   func() error
	New     func(t *Tools) Peer
	// Needs is what has to be on its path beside client and gateway, and Slow that it carries some 100 kbit/s at best.
	Needs Needs
	Slow  bool
}

// Needs are parts of a Site that not every one has.
type Needs struct{ Relay, Resolver bool }

// Entries lists every peer.
func Entries() []Entry {
	return []Entry{
		directEntry,
		godwitEntry("godwit", "", 0),
		godwitEntry("godwit-https", "https", 0), godwitEntry("godwit-quic", "quic", 0), godwitEntry("godwit-websocket", byWebSocket, 0),
		godwitEntry("godwit-http", "http", 0),
		godwitEntry("godwit-dns", byDNS, 0),
		openvpnEntry("openvpn-udp", "udp"), openvpnEntry("openvpn-tcp", "tcp"),
		wireguardEntry,
		ikev2Entry,
		shadowsocksEntry("shadowsocks", "chacha20-ietf-poly1305"), shadowsocksEntry("shadowsocks-cfb", "aes-256-cfb"),
		obfs4Entry,
		sshEntry,
		singboxEntry("reality", reality), singboxEntry("trojan", trojan), singboxEntry("hysteria2", hysteria2),
		singboxEntry("vmess", vmess), singboxEntry("shadowsocks-2022", shadowsocks2022),
		singboxEntry("anytls", anytls), singboxEntry("shadowtls", shadowtls), singboxEntry("https-proxy", httpsProxy),
	}
}

// Names lists the names of Entries.
func Names() (names []string) {
	for _, e := range Entries() {
		names = append(names, e.Name)
	}
	return names
}

// Find looks a peer up; beyond Names it knows godwit-relay, which needs a relay; godwit-nginx, by websocket behind nginx;
// godwit-tun, which captures the whole host, and godwit-tun-names, with --names-first; godwit-N, Godwit with N links by https;
// godwit-alone, Godwit with one link at a time, by whatever it likes; and sing-box-tun.
func Find(name string) (Entry, error) {
	entries := Entries()
	if i := slices.IndexFunc(entries, func(e Entry) bool { return e.Name == name }); i >= 0 {
		return entries[i], nil
	}
	if name == "sing-box-tun" {
		return singboxTUN(name, reality), nil
	}
	if links, ok := strings.CutPrefix(name, "godwit-"); ok {
		if links == byRelay {
			return godwitEntry(name, byRelay, 0), nil
		}
		if links == "nginx" {
			return behindNginx(godwitEntry(name, byWebSocket, 0)), nil
		}
		if links == "tun" || links == "tun-names" {
			return godwitTUN(name, links == "tun-names"), nil
		}
		if links == "alone" {
			return godwitEntry(name, "", 1), nil
		}
		n, err := strconv.Atoi(links)
		if err != nil || n < 1 {
			return Entry{}, fmt.Errorf("peer %q: want godwit-N with N links", name)
		}
		return godwitEntry(name, "https", n), nil
	}
	return Entry{}, fmt.Errorf("no peer %q: there are %s", name, strings.Join(Names(), ", "))
}
