package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/hostnet"
)

// The TUN's networks: of the addresses that are for measuring networks (RFC 2544), which nobody routes,
// and a unique local one. The resolver's address is one of the many that are captured.
var (
	tunPrefix4  = netip.MustParsePrefix("198.18.66.0/24")
	tunPrefix6  = netip.MustParsePrefix("fd67:6f64:7769:7400::/64")
	tunResolver = netip.MustParseAddr("198.18.66.53")
	// Those that stand for names, beside the TUN's own: routed into it like all that is not on a link of this machine.
	firstPrefix4 = netip.MustParsePrefix("198.19.0.0/16")
	firstPrefix6 = netip.MustParsePrefix("fd67:6f64:7769:7401::/64")
	// tunMTU is what most networks carry: programs that find out what their packets may have find what they would without us.
	tunMTU = 1500
)

// machine is this machine's network while up --tun carries it.
//
//	take: the kill switch and the routes, before anything is resolved or dialled
//	configure: the client's sockets go out by the physical network, and so do its questions for names
//	serve: what the TUN brings crosses the session
//	release: everything as before; without it, as after a crash, the kill switch stays
type machine struct {
	host    *hostnet.Host
	desired hostnet.Desired
	tun     client.TUN
	name    string
	portal  *portalWay // once there is a client
}

// repairEvery is how often what others have changed of the machine's network is put right: a DHCP client writes resolv.conf
// when it renews its lease, an administrator loads another firewall.
const repairEvery = 15 * time.Second

// takeMachine makes the TUN and has everything go there.
func takeMachine(f *upFlags) (_ *machine, err error) {
	defer func() {
		if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
			err = &rootError{"to carry all that a machine sends takes root", "up --tun", err}
		}
	}()
	host, err := hostnet.Open(hostnet.Dir)
	if err != nil {
		return nil, err
	}
	m := &machine{host: host}
	if m.tun, m.name, err = createTUN(); err != nil {
		return nil, err // host is left as it is: a network that a dead process has shut stays shut
	}
	m.tun.Prefix4, m.tun.Prefix6 = tunPrefix4, tunPrefix6
	m.desired = hostnet.Desired{
		Tun: m.name, MTU: tunMTU, DNS: []netip.Addr{tunResolver}, LAN: f.lan, Router: f.router,
		Addrs: []netip.Prefix{ownOf(tunPrefix4), ownOf(tunPrefix6)},
	}
	if err := host.Set(m.desired); err != nil && !errors.Is(err, hostnet.ErrDNS) { // captured all the same, whomever they ask
		return nil, errors.Join(fmt.Errorf("setting up this machine's network: %w", err), m.tun.Close(), host.Close())
	}
	return m, nil
}

// ownOf is the first address of a network, with its length.
func ownOf(p netip.Prefix) netip.Prefix { return netip.PrefixFrom(p.Addr().Next(), p.Bits()) }

// configure keeps the client's own traffic out of the TUN.
func (m *machine) configure(cfg *client.Config) {
	cfg.Protect = hostnet.Protect
	cfg.NetworkResolvers = m.host.Resolvers
	// Transports look names of gateways up by this. The system's settings name the TUN's resolver now. Whom to ask instead is
	// found out each time: at boot nobody has said yet, and another network has others.
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		d := net.Dialer{Control: hostnet.Protect}
		err := errors.New("this machine has no resolver but the tunnel's: use an access key with addresses")
		for _, a := range m.host.Resolvers() {
			var c net.Conn
			if c, err = d.DialContext(ctx, network, netip.AddrPortFrom(a, 53).String()); err == nil {
				return c, nil
			}
		}
		return nil, err
	}}
}

// serve carries what the TUN brings until ctx is done, and keeps the machine's network as it is to be.
func (m *machine) serve(ctx context.Context, c *client.Client, log *slog.Logger) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() {
		wait, wrong := time.Second, "" // at boot there is not all that there will soon be, as systemd-resolved
		for {
			select {
			case <-time.After(wait):
				wait = min(2*wait, repairEvery)
				err := m.host.Set(m.desired)
				if err != nil && err.Error() != wrong {
					log.Warn("the machine's network is not as it is to be", "err", err)
				}
				if wrong = ""; err != nil {
					wrong = err.Error()
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return c.ServeTUN(ctx, m.tun)
}

// release gives the machine its own network back.
func (m *machine) release(log *slog.Logger) {
	if err := errors.Join(m.host.Close(), ignoreClosed(m.tun.Close())); err != nil {
		log.Error("the machine's network is not as it was: 'godwit rescue' tries again", "err", err)
	}
}

func ignoreClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// machineDoc is what status tells of it.
type machineDoc struct {
	TUN string `json:"tun"`
	LAN bool   `json:"lan"` // the local network can be reached
	// Portal is the way past the tunnel by which a person logs in to the network, while it is open.
	Portal *portalDoc `json:"portal,omitempty"`
	// Blocked counts what programs tried to send past the tunnel.
	Blocked      uint64 `json:"blocked_packets"`
	BlockedBytes uint64 `json:"blocked_bytes"`
}

func (m *machine) status() *machineDoc {
	if m == nil {
		return nil
	}
	doc := &machineDoc{TUN: m.name, LAN: m.desired.LAN, Portal: m.portal.status()}
	doc.Blocked, doc.BlockedBytes, _ = m.host.Blocked() // zero where it cannot be read
	return doc
}
