//go:build unix && !android

package dnsclient

import (
	"net"

	"github.com/miekg/dns"

	"github.com/godwit-vpn/godwit/internal/transport"
)

var errNoResolver = transport.Reason("this machine names no resolver: name one in the settings")

// System returns those of resolv.conf(5).
func System() (all []Resolver, err error) {
	config, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil || len(config.Servers) == 0 {
		return nil, errNoResolver
	}
	const most = 3 // MAXNS
	for _, s := range config.Servers[:min(most, len(config.Servers))] {
		all = append(all, Resolver{kind: "udp", addr: net.JoinHostPort(s, "53")})
	}
	return all, nil
}
