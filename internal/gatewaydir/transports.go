package gatewaydir

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/internal/flow"
)

// OwnTransports are what a gateway can offer beside https, by itself.
var OwnTransports = []string{}

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
