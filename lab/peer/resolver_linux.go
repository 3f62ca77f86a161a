package peer

import (
	"context"
	"fmt"
	"net/netip"
)

// resolver runs unbound on the client's host, which knows where Zone is and nothing else. What it asks crosses the path,
// as from a network's resolver; asking it costs no time.
func (s *Site) resolver(ctx context.Context) (*Process, error) {
	path, err := debian("unbound", "unbound")
	if err != nil {
		return nil, err
	}
	config, err := s.write("resolver/unbound.conf", fmt.Appendf(nil, `
server:
	interface: %[1]s@53
	do-ip6: no
	access-control: %[1]s/32 allow
	do-daemonize: no
	use-syslog: no
	logfile: ""
	verbosity: 0
	chroot: ""
	username: ""
	directory: "%[2]s"
	pidfile: ""
	num-threads: 1
	module-config: "iterator"
	local-zone: "." refuse
	local-zone: "%[3]s." transparent
stub-zone:
	name: "%[3]s."
	stub-addr: %[4]s@53
	stub-prime: no
remote-control:
	control-enable: no
`, resolverAddr, s.Dir, Zone, s.GatewayAddr))
	if err != nil {
		return nil, err
	}
	if err := s.Client.SetResolvers(resolverAddr); err != nil {
		return nil, err
	}
	p, err := s.start(s.Client, "resolver", nil, path, "-c", config)
	if err != nil {
		return nil, err
	}
	return p, p.listens(ctx, s.Client, "udp", 53)
}

var resolverAddr = netip.MustParseAddr("127.0.0.53")
