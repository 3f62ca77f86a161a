package gatewaydir

import (
	"fmt"
	"net"
	nethttp "net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/doorstep"
	"github.com/godwit-vpn/godwit/internal/transports/http"
	"github.com/godwit-vpn/godwit/internal/transports/pipe"
	"github.com/godwit-vpn/godwit/internal/transports/websocket"
)

// OwnTransports are what a gateway can offer beside https, by itself.
var OwnTransports = []string{websocket.Name, http.Name}

// pipes are the listeners of the transports that are requests to the website.
type pipes struct {
	step            *doorstep.Step
	websocket, http *pipe.Listener // nil if it is not offered
}

// pipes makes what the settings offer.
func (d *Dir) pipes(door transport.Door) (p pipes, err error) {
	p.step = doorstep.New(doorstep.Config{Door: door, Pin: d.TLS.Pin, Secret: d.TLS.derive("godwit doorstep v1")})
	listen := func(name string) *pipe.Listener {
		if !d.Settings.offers(name) || err != nil {
			return nil
		}
		var l *pipe.Listener
		l, err = pipe.Listen(pipe.ListenConfig{Key: d.TLS.key, Door: door, Tickets: d.TLS.derive("godwit pipe tickets v1")})
		return l
	}
	p.websocket, p.http = listen(websocket.Name), listen(http.Name)
	return p, err
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

// Face is what strangers see of the website, without a door in it, for whoever compares the gateway with a plain web
// server.
func (d *Dir) Face() (nethttp.Handler, error) {
	pages, err := d.Website()
	if err != nil || !d.Settings.offers(websocket.Name) {
		return pages, err
	}
	return websocket.Handler(pages, doorstep.New(doorstep.Config{Pin: d.TLS.Pin}), nil), nil
}

func (s Settings) validateTransports(fail func(field, format string, args ...any)) {
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
	if s.offers("quic") {
		for _, e := range own {
			e.Transport = "quic"
			all = append(all, e)
		}
	}
	if ports := s.redirectPorts(); s.offers("http") && len(ports) > 0 {
		for _, e := range own {
			e.Transport, e.Port = "http", ports[0]
			all = append(all, e)
		}
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
