package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/proxy"
	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/lab/capture"
	"github.com/godwit-vpn/godwit/lab/linkmodel"
	"github.com/godwit-vpn/godwit/lab/netns"
	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
)

// buildPeers, in the environment, has the peers that are built from source built before the tests: one to two minutes,
// once. Without it those that were never built are skipped.
const buildPeers = "GODWIT_LAB_BUILD"

func TestMain(m *testing.M) {
	if outside := len(os.Args) < 2 || !strings.HasPrefix(os.Args[1], "sandboxed"); outside && os.Getenv(buildPeers) != "" {
		tools := &Tools{Dir: toolsDir(), Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
		for _, p := range []program{wireguardProgram, singboxProgram} {
			if _, err := tools.install(context.Background(), p); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}
	netnstest.Main(m)
}

func toolsDir() string {
	dir, err := DefaultToolsDir()
	if err != nil {
		return os.TempDir()
	}
	return dir
}

// The test's network. Nothing forwards but the gateway, and it only does for tunnels; the path between client and gateway
// can be a long one.
//
//	client ──────── (path) ──────── gateway ──────────────────── target
//	192.0.2.10            203.0.113.20  198.51.100.1        198.51.100.80
//	      eth0  cl      gw  eth0        eth1                eth0
var (
	clientAddr  = netip.MustParseAddr("192.0.2.10")
	gatewayAddr = netip.MustParseAddr("203.0.113.20")
	targetAddr  = netip.MustParseAddr("198.51.100.80")
	targetNet   = netip.MustParsePrefix("198.51.100.0/24")
	clientNet   = netip.MustParsePrefix("192.0.2.0/24")
	gatewayNet  = netip.MustParsePrefix("203.0.113.0/24")
)

const (
	banned  = "banned.example"
	allowed = "allowed.example"

	gatewayName = "gateway.example"
	// page is what a visit fetches, in parts.
	partSize, parts = 12 << 10, 5
)

// A network is the hosts of the drawing and the websites on the target: one certificate, for both names.
type network struct {
	client, gateway, target *netns.Host
}

// newNetwork makes it, with a path that takes a while in each direction, or none.
func newNetwork(t *testing.T, delay time.Duration, site http.Handler) *network {
	t.Helper()
	netnstest.Need(t)
	n := &network{}
	for _, h := range []struct {
		to   **netns.Host
		name string
	}{{&n.client, "client"}, {&n.gateway, "gateway"}, {&n.target, "target"}} {
		host, err := netns.NewHost(h.name)
		if err != nil {
			t.Fatal(err)
		}
		*h.to = host
		t.Cleanup(func() { host.Close() })
	}
	route := func(h *netns.Host, to netip.Prefix, dev string) error {
		return h.AddRoute(netns.Route{To: to, Dev: dev})
	}
	if err := errors.Join(
		n.connect(t, delay),
		netns.Connect(n.gateway, "eth1", n.target, "eth0"),
		n.client.AddAddr("eth0", netip.PrefixFrom(clientAddr, 24), ""),
		n.gateway.AddAddr("eth0", netip.PrefixFrom(gatewayAddr, 24), ""),
		n.gateway.AddAddr("eth1", netip.MustParsePrefix("198.51.100.1/24"), ""),
		n.target.AddAddr("eth0", netip.PrefixFrom(targetAddr, 24), ""),
		route(n.client, gatewayNet, "eth0"),
		route(n.gateway, clientNet, "eth0"),
		n.client.OffloadsOff("eth0"),
		n.gateway.OffloadsOff("eth0"),
		setHosts(fmt.Sprintf("127.0.0.1 localhost\n%s %s %s\n%s %s\n", targetAddr, banned, allowed, gatewayAddr, gatewayName)),
	); err != nil {
		t.Fatal(err)
	}
	n.serve(t, n.target, targetAddr, site)
	return n
}

// setHosts has every program in the sandbox know these names.
func setHosts(text string) error {
	const file = "/run/names"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return err
	}
	return unix.Mount(file, "/etc/hosts", "", unix.MS_BIND, "")
}

// connect connects client and gateway.
func (n *network) connect(t *testing.T, delay time.Duration) error {
	t.Helper()
	if delay == 0 {
		return netns.Connect(n.client, "eth0", n.gateway, "eth0")
	}
	path, err := netns.NewHost("path")
	if err != nil {
		return err
	}
	t.Cleanup(func() { path.Close() })
	if err := errors.Join(
		netns.Connect(n.client, "eth0", path, "cl"), netns.Connect(path, "gw", n.gateway, "eth0"),
		path.OffloadsOff("cl"), path.OffloadsOff("gw"),
	); err != nil {
		return err
	}
	var f *linkmodel.Forwarder
	if err := path.Do(func() (err error) {
		f, err = linkmodel.Open("cl", "gw", linkmodel.Symmetric(linkmodel.Direction{Delay: delay}, 1))
		return err
	}); err != nil {
		return err
	}
	f.Realtime = true
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return nil
}

// serve has a host serve a website, over TLS 1.3 and without.
func (n *network) serve(t *testing.T, h *netns.Host, addr netip.Addr, site http.Handler) {
	t.Helper()
	certPEM, keyPEM, err := SelfSigned(banned, allowed)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	for _, port := range []uint16{80, 443} {
		l, err := h.Listen(netip.AddrPortFrom(addr, port))
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: site, ErrorLog: log.New(io.Discard, "", 0),
			TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}}
		var wg sync.WaitGroup
		wg.Go(func() {
			if port == 443 {
				server.ServeTLS(l, "", "")
			} else {
				server.Serve(l)
			}
		})
		t.Cleanup(func() {
			server.Close()
			wg.Wait()
		})
	}
}

// content answers /N with a part of a page.
func content(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Write(make([]byte, partSize))
}

func (n *network) site(t *testing.T) *Site {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "peer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	_, err = debian("nft", "nftables")
	translates := err == nil
	if !translates {
		back := netns.Route{To: Tunnels, Dev: "eth0", Via: netip.MustParseAddr("198.51.100.1")}
		if err := n.target.AddRoute(back); err != nil {
			t.Fatal(err)
		}
	}
	return &Site{
		Client: n.client, Gateway: n.gateway, GatewayAddr: gatewayAddr, GatewayName: gatewayName, Targets: targetNet,
		Cover: netip.AddrPortFrom(targetAddr, 443), CoverName: allowed, Dir: dir, NAT: translates,
	}
}

// started is a peer whose ends run.
type started struct {
	Peer
	gateway, client *Process
}

// start starts both ends of a peer, or skips.
func start(t *testing.T, name string, s *Site) *started {
	t.Helper()
	e, err := Find(name)
	if err != nil {
		t.Fatal(err)
	}
	tools := &Tools{Dir: toolsDir(), Offline: true}
	if strings.HasPrefix(name, "godwit") {
		tools.Godwit = netnstest.Godwit(t)
	}
	info, err := e.Prepare(t.Context(), tools)
	if err != nil {
		t.Skip(err)
	}
	t.Logf("%s: %s", info.Version, info.Settings)
	if err := e.Check(); err != nil {
		t.Skip(err)
	}
	p := &started{Peer: e.New(tools)}
	t.Cleanup(func() {
		p.client.Stop()
		p.gateway.Stop()
		if t.Failed() {
			for _, p := range []*Process{p.gateway, p.client} {
				if p != nil {
					t.Logf("%s said: %s", p.Role, p.LastWords())
				}
			}
		}
	})
	if p.gateway, err = p.Gateway(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if p.client, err = p.Client(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return p
}

// visitor is an HTTP client on the client host, through a SOCKS5 port if there is one.
func (n *network) visitor(socks string) *http.Client {
	direct := func(_ context.Context, _, addr string) (net.Conn, error) {
		if host, port, _ := net.SplitHostPort(addr); host == banned || host == allowed {
			addr = net.JoinHostPort(targetAddr.String(), port)
		}
		to, err := netip.ParseAddrPort(addr)
		if err != nil {
			return nil, err
		}
		return n.client.Dial(to, 3*time.Second)
	}
	dial := direct
	if socks != "" {
		dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			d, err := proxy.SOCKS5("tcp", socks, nil, dialer(func(_, addr string) (net.Conn, error) {
				return direct(ctx, "tcp", addr)
			}))
			if err != nil {
				return nil, err
			}
			return d.Dial("tcp", addr)
		}
	}
	return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DialContext: dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
}

type dialer func(network, addr string) (net.Conn, error)

func (d dialer) Dial(network, addr string) (net.Conn, error) { return d(network, addr) }

// fetch gets a whole page, one part after another, or says why not.
func fetch(c *http.Client, url string) error {
	defer c.CloseIdleConnections()
	for i := range parts {
		res, err := c.Get(fmt.Sprintf("%s/%d", url, i))
		if err != nil {
			return err
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			return err
		}
		if len(b) != partSize {
			return fmt.Errorf("%d bytes, want %d", len(b), partSize)
		}
	}
	return nil
}

// eventually fetches until it works: a tunnel takes a moment.
func eventually(t *testing.T, c *http.Client, url string) {
	t.Helper()
	begin := time.Now()
	for {
		err := fetch(c, url)
		if err == nil {
			t.Logf("fetched after %v", time.Since(begin).Round(time.Millisecond))
			return
		}
		if time.Since(begin) > 20*time.Second {
			t.Fatalf("%s: %v", url, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestPeers starts both ends of every peer and fetches a page through it: by name where the far end looks names up, and
// without a way past the tunnel.
func TestPeers(t *testing.T) {
	for _, name := range append(Names(), "godwit-nginx", "godwit-tun", "sing-box-tun") {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t, 0, http.HandlerFunc(content))
			s := n.site(t)
			if s.Resolver = name == "godwit-dns"; s.Resolver {
				if _, err := debian("unbound", "unbound"); err != nil {
					t.Skip(err)
				}
			}
			p := start(t, name, s)
			if name == "direct" {
				n.routed(t)
			}
			eventually(t, n.visitor(p.Proxy()), "https://"+banned)
		})
	}
}

// TestNoWayAround has tunnels on a network where the target can be reached without them too: what is meant for one never
// is, neither before it is up nor when its gateway is gone. A blocked tunnel must not look as if it had carried.
func TestNoWayAround(t *testing.T) {
	for _, name := range []string{"openvpn-udp", "wireguard", "ikev2", "godwit-tun"} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t, 0, http.HandlerFunc(content))
			n.routed(t)
			if err := fetch(n.visitor(""), "http://"+banned); err != nil {
				t.Fatal("not reachable without a tunnel: ", err)
			}
			p := start(t, name, n.site(t))
			out, err := capture.Start(n.client, "eth0", 0)
			if err != nil {
				t.Fatal(err)
			}
			defer out.Stop()
			eventually(t, n.visitor(""), "http://"+banned)
			p.gateway.Stop()
			c, err := n.client.Dial(netip.AddrPortFrom(targetAddr, 80), time.Second)
			if err == nil {
				c.Close()
				t.Error("reached without a gateway")
			}
			for i, f := range out.Stop() {
				if bytes.Contains(f.Data[:min(len(f.Data), 34)], targetAddr.AsSlice()) {
					t.Errorf("frame %d of those outside the tunnel is the target's", i+1)
				}
			}
		})
	}
}
