package gatewaydir

import (
	"fmt"
	"net"
	nethttp "net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/internal/decoy"
	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/dns"
	"github.com/godwit-vpn/godwit/internal/transports/doorstep"
	"github.com/godwit-vpn/godwit/internal/transports/http"
	"github.com/godwit-vpn/godwit/internal/transports/pipe"
	"github.com/godwit-vpn/godwit/internal/transports/quic"
	"github.com/godwit-vpn/godwit/internal/transports/websocket"
)

// OwnTransports are what a gateway can offer beside https, by itself.
var OwnTransports = []string{quic.Name, websocket.Name, http.Name}

// pipes are the listeners of the transports that are requests to the website.
type pipes struct {
	step            *doorstep.Step
	websocket, http *pipe.Listener // nil if it is not offered
}

// nameServers answers for the zone, at every address.
func (d *Dir) nameServers(door transport.Door) (all []transport.Listener, ports []netip.AddrPort, err error) {
	s := d.Settings.DNS
	if s.Zone == "" {
		return nil, nil, nil
	}
	defer func() {
		if err != nil {
			for _, l := range all {
				l.Close()
			}
		}
	}()
	listen := s.Listen
	if len(listen) == 0 {
		listen = []string{":53"}
	}
	for _, a := range listen {
		tcp, err := d.listen("tcp", a)
		if err != nil {
			return all, nil, fmt.Errorf("field dns.listen: %w", err)
		}
		udp, err := listenPacket(a)
		if err != nil {
			tcp.Close()
			return all, nil, fmt.Errorf("field dns.listen: %w", err)
		}
		l, err := dns.Listen(dns.ListenConfig{Zone: s.Zone, UDP: udp, TCP: tcp, NameServer: s.NameServer, Addrs: d.Settings.addrs(),
			Pipe: pipe.ListenConfig{Key: d.TLS.key, Door: door, Tickets: d.TLS.derive("godwit pipe tickets v1"), Addr: tcp.Addr()}})
		if err != nil {
			tcp.Close()
			udp.Close()
			return all, nil, fmt.Errorf("field dns.zone: %w", err)
		}
		all, ports = append(all, l), append(ports, tcp.Addr().(*net.TCPAddr).AddrPort())
	}
	return all, ports, nil
}

// addrs are those of the endpoints that are addresses.
func (s Settings) addrs() (all []netip.Addr) {
	for _, h := range s.hosts() {
		if a, err := netip.ParseAddr(h); err == nil {
			all = append(all, a)
		}
	}
	return all
}

// pipes makes what the settings offer.
func (d *Dir) pipes(door transport.Door) (p pipes, err error) {
	p.step = doorstep.New(doorstep.Config{Door: door, Pin: d.TLS.Pin, Secret: d.TLS.derive("godwit doorstep v1"),
		InSite: d.Settings.ownCookie()})
	listen := func(name string) *pipe.Listener {
		if !d.Settings.offers(name) || err != nil {
			return nil
		}
		var l *pipe.Listener
		l, err = pipe.Listen(pipe.ListenConfig{Key: d.TLS.key, Door: door, Tickets: d.TLS.derive("godwit pipe tickets v1"),
			Congestion: d.Settings.Congestion})
		return l
	}
	p.websocket, p.http = listen(websocket.Name), listen(http.Name)
	return p, err
}

// ownCookie reports whether the website sets a session cookie by itself: one is enough.
func (s Settings) ownCookie() bool {
	return s.Website.Kind == "" || decoy.Kind(s.Website.Kind) == decoy.Site
}

// listeners lists those that there are, by transport.
func (p pipes) listeners(all map[string][]transport.Listener) {
	for name, l := range map[string]*pipe.Listener{websocket.Name: p.websocket, http.Name: p.http} {
		if l != nil {
			all[name] = append(all[name], l)
		}
	}
}

// website is what strangers see of pages: whoever asks for them is greeted as at a doorstep, if pipes are offered.
func (p pipes) website(pages nethttp.Handler) nethttp.Handler {
	if p.websocket == nil {
		return pages
	}
	return websocket.Handler(pages, p.step, p.websocket)
}

// redirect is what plain HTTP answers.
func (p pipes) redirect(next nethttp.Handler) nethttp.Handler {
	if p.http == nil {
		return next
	}
	return http.Handler(next, p.step, p.http)
}

// Face is what strangers see of the website by TCP, without a door in it, and of plain HTTP, for whoever compares the
// gateway with a plain web server.
func (d *Dir) Face() (pages, bare nethttp.Handler, err error) {
	if pages, err = d.Website(); err != nil {
		return nil, nil, err
	}
	step := doorstep.New(doorstep.Config{Pin: d.TLS.Pin, InSite: d.Settings.ownCookie()})
	if d.Settings.offers(websocket.Name) {
		pages = websocket.Handler(pages, step, nil)
	}
	bare = decoy.Redirect(d.Settings.websitePort())
	if d.Settings.offers(http.Name) {
		bare = http.Handler(bare, step, nil)
	}
	return d.Settings.alternative(pages, d.Settings.websitePort()), bare, nil
}

// alternative says in every answer that the website speaks HTTP/3, too, as web servers do (RFC 7838), if it does.
func (s Settings) alternative(website nethttp.Handler, port uint16) nethttp.Handler {
	if !s.offers(quic.Name) {
		return website
	}
	value := fmt.Sprintf("h3=\":%d\"; ma=2592000", port)
	return nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		w.Header().Set("Alt-Svc", value)
		website.ServeHTTP(w, r)
	})
}

// undrained is a listener that is closed as soon as another process takes over: of two that read one UDP port each would
// miss what the other takes, and links go on by TCP.
type undrained struct{ transport.Listener }

// quic opens the website's UDP side at the address of its TCP side.
func (d *Dir) quic(at net.Addr, cfg quic.ListenConfig) (transport.Listener, error) {
	udp, err := listenPacket(at.String())
	if err != nil {
		return nil, err
	}
	l, err := quic.Listen(udp, cfg)
	if err != nil {
		udp.Close()
		return nil, err
	}
	return undrained{l}, nil
}

// DNSSettings are those of transport dns, which is offered if there is a zone.
type DNSSettings struct {
	// Zone is delegated to the gateway by the zone above it, "t.example.com".
	Zone string `toml:"zone,omitempty"`
	// NameServer is the name that the delegation gives the gateway; empty means ns. and the zone.
	NameServer string `toml:"name_server,omitempty"`
	// Listen are the addresses to answer at, host:port, UDP and TCP; absent means port 53 of all.
	Listen []string `toml:"listen,omitempty"`
}

func (s Settings) validateTransports(fail func(field, format string, args ...any)) {
	if z := s.DNS.Zone; z != "" {
		if err := dns.CheckZone(z); err != nil {
			fail("dns.zone", "%v", err)
		}
	}
	for _, a := range s.DNS.Listen {
		if _, port, err := net.SplitHostPort(a); err != nil || !isPort(port) {
			fail("dns.listen", "%q is not host:port", a)
		}
	}
	for _, t := range s.Transports {
		if !slices.Contains(OwnTransports, t) && t != "https" {
			fail("transports", "there is no %.20q; there are %s", t, strings.Join(append([]string{"https"}, OwnTransports...), ", "))
		}
	}
}

// offers reports whether the gateway takes links by a transport.
func (s Settings) offers(transport string) bool {
	if s.Transports == nil {
		return slices.Contains(OwnTransports, transport)
	}
	return slices.Contains(s.Transports, transport)
}

// accessEndpoints are the endpoints as access keys hold them: those of the settings by https, then the same places by
// what else is offered there, then the ways that lead through others.
func (s Settings) accessEndpoints() ([]accesskey.Endpoint, error) {
	var own, all []accesskey.Endpoint
	for _, e := range s.Endpoints {
		t, err := flow.ParseTarget(e)
		if err != nil {
			return nil, fmt.Errorf("%w: field endpoints: %q is not host:port: %w", ErrSettings, e, err)
		}
		own = append(own, accesskey.Endpoint{Host: t.Host, Port: t.Port})
	}
	all = append(all, own...)
	if s.offers(quic.Name) {
		for _, e := range own {
			e.Transport = quic.Name
			all = append(all, e)
		}
	}
	if ports := s.redirectPorts(); s.offers(http.Name) && len(ports) > 0 {
		for _, e := range own {
			e.Transport, e.Port = http.Name, ports[0]
			all = append(all, e)
		}
	}
	if s.DNS.Zone != "" {
		all = append(all, accesskey.Endpoint{Transport: dns.Name, Host: s.DNS.Zone})
	}
	for _, w := range s.Ways {
		e, err := accesskey.ParseEndpoint(w)
		if err != nil {
			return nil, fmt.Errorf("%w: field ways: %w", ErrSettings, err)
		}
		all = append(all, e)
	}
	return all[:min(len(all), accesskey.MaxEndpoints-len(s.Relays))], nil
}

// redirectPorts are the ports of plain HTTP.
func (s Settings) redirectPorts() (ports []uint16) {
	for _, a := range s.redirects() {
		_, port, err := net.SplitHostPort(a)
		if n, perr := strconv.ParseUint(port, 10, 16); err == nil && perr == nil && n > 0 {
			ports = append(ports, uint16(n))
		}
	}
	return ports
}
