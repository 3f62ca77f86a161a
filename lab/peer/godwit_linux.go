package peer

import (
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/godwit-vpn/godwit/internal/gatewaydir"
	"github.com/godwit-vpn/godwit/lab/netns"
)

// Everything that the lab's peers and the bench know of Godwit's command line is in this file.

// godwit is the program under development at both ends, its own SOCKS5 port at the client.
type godwit struct {
	path      string
	links     int
	transport string // the only one; empty leaves the choice to the program
	nginx     bool   // websocket goes through one on the gateway's host
	tun       bool   // all of the client's host is captured
	names     bool   // and names are answered at once
	key       string
}

// The transports that can be chosen.
const (
	byWebSocket = "websocket"
	byRelay     = "relay"
	byDNS       = "dns"
)

const (
	godwitPort  = 443
	godwitProxy = 1080
)

// godwitEntry is Godwit with so many links by one transport; zero and "" leave that to the program, which is what its user
// has.
func godwitEntry(name, transport string, links int) Entry {
	settings := "transports as it likes, "
	if transport != "" {
		settings = "transport " + transport + ", "
	}
	if links > 0 {
		settings += fmt.Sprintf("%d link(s); SOCKS5 in", links)
	} else {
		settings += "as many links as it likes; SOCKS5 in"
	}
	return Entry{
		Name: name,
		Prepare: func(_ context.Context, t *Tools) (Info, error) {
			if t.Godwit == "" {
				return Info{}, errors.New("no godwit program given or built")
			}
			info, err := buildinfo.ReadFile(t.Godwit)
			if err != nil {
				return Info{}, err
			}
			version := info.Main.Version + ", " + info.GoVersion
			for _, s := range info.Settings {
				if s.Key == "vcs.revision" || s.Key == "vcs.modified" && s.Value == "true" {
					version += ", " + s.Key + " " + s.Value
				}
			}
			return Info{Version: version, Settings: settings}, nil
		},
		Check: nothingToCheck,
		New:   func(t *Tools) Peer { return &godwit{path: t.Godwit, links: links, transport: transport} },
		Needs: Needs{Relay: transport == byRelay, Resolver: transport == byDNS},
		Slow:  transport == byDNS,
	}
}

// godwitTUN is Godwit by all its transports, the client's host captured as a whole.
func godwitTUN(name string, names bool) Entry {
	e := godwitEntry(name, "", 0)
	prepare := e.Prepare
	e.Prepare = func(ctx context.Context, t *Tools) (Info, error) {
		info, err := prepare(ctx, t)
		info.Settings = strings.Replace(info.Settings, "SOCKS5 in", "MTU 1500, TUN with offloads", 1)
		if names {
			info.Settings += ", --names-first"
		}
		return info, err
	}
	e.Check = needTUN
	e.New = func(t *Tools) Peer { return &godwit{path: t.Godwit, tun: true, names: names} }
	return e
}

// captured makes what godwit up --tun changes of a machine's files the client's own.
const captured = `cp /etc/resolv.conf "$dir" && mkdir -p "$dir/lib" && mount --bind "$dir/lib" /var/lib &&
	mount --bind "$dir/resolv.conf" /etc/resolv.conf`

func (g *godwit) Proxy() string {
	if g.tun {
		return ""
	}
	return g.proxy()
}

// TakesNames implements Machine.
func (g *godwit) TakesNames() bool { return g.tun }

func (g *godwit) proxy() string { return fmt.Sprintf("127.0.0.1:%d", godwitProxy) }

// Key is the gateway's access key, once that has started.
func (g *godwit) Key() string { return g.key }

func (g *godwit) Gateway(ctx context.Context, s *Site) (*Process, error) {
	state := filepath.Join(s.Dir, "gateway")
	endpoints, listen := []string{s.at(g.port())}, []string{"--listen", s.at(g.port())}
	if g.nginx {
		listen[1] = upstream
	}
	if s.GatewayName != "" {
		endpoints[0] = fmt.Sprintf("%s:%d", s.GatewayName, g.port())
	}
	for _, a := range s.More {
		at := netip.AddrPortFrom(a, godwitPort).String()
		endpoints, listen = append(endpoints, at), append(listen, "--listen", at)
	}
	if _, err := g.init(ctx, s, s.Gateway, state, endpoints); err != nil {
		return nil, err
	}
	others, err := g.others(ctx, s, state)
	defer func() {
		if err != nil {
			for _, o := range others {
				o.Stop()
			}
		}
	}()
	if err != nil {
		return nil, err
	}
	// Once more, since the access key names the relays now.
	if g.key, err = g.init(ctx, s, s.Gateway, state, nil); err != nil {
		return nil, err
	}
	p, err := s.start(s.Gateway, "gateway", nil, g.path,
		append([]string{"gateway", "run", "--state-dir", state, "--allow", s.Targets.String()}, listen...)...)
	if err != nil {
		return nil, err
	}
	p.others = others
	if perr := p.listens(ctx, s.Gateway, "tcp", g.port()); perr != nil {
		return p, perr
	}
	return p, nil
}

// port is where the gateway takes links by TCP: behind nginx another one.
func (g *godwit) port() int {
	if g.nginx {
		return upstreamPort
	}
	return godwitPort
}

// others runs whatever it takes beside a gateway to get to it, and returns what runs even if that was not all.
func (g *godwit) others(ctx context.Context, s *Site, state string) (running []*Process, err error) {
	if running, err = g.relays(ctx, s, state); err != nil {
		return running, err
	}
	var p *Process
	switch {
	case g.nginx:
		p, err = nginx(ctx, s)
	case s.Resolver && g.transport == byDNS:
		p, err = s.resolver(ctx)
	}
	if p != nil {
		running = append(running, p)
	}
	return running, err
}

// relays makes a relay of every host that is there for it, and runs it.
func (g *godwit) relays(ctx context.Context, s *Site, state string) (running []*Process, err error) {
	for i, r := range s.Relays {
		name := fmt.Sprintf("relay%d", i+1)
		at := netip.AddrPortFrom(r.Addr, godwitPort).String()
		place := at
		if r.Name != "" {
			place += "/" + r.Name
		}
		said, err := s.run(ctx, s.Gateway, g.path, "gateway", "relay", "add", name, "--endpoint", place, "--state-dir", state, "--json")
		if err != nil {
			return running, err
		}
		var out struct {
			Token string `json:"token"`
		}
		if err := json.Unmarshal(said, &out); err != nil {
			return running, fmt.Errorf("godwit gateway relay add: %w", err)
		}
		dir := filepath.Join(s.Dir, name)
		if _, err := s.run(ctx, r.Host, g.path, "gateway", "init", "--relay", out.Token, "--endpoint", at, "--state-dir", dir); err != nil {
			return running, err
		}
		p, err := s.start(r.Host, name, nil, g.path, "gateway", "run", "--state-dir", dir, "--listen", at)
		if err != nil {
			return running, err
		}
		running = append(running, p)
		if err := p.listens(ctx, r.Host, "tcp", godwitPort); err != nil {
			return running, err
		}
	}
	return running, nil
}

// init makes a gateway's state, if it is not there, and returns its access key.
func (g *godwit) init(ctx context.Context, s *Site, on *netns.Host, state string, endpoints []string) (key string, err error) {
	args := []string{"gateway", "init", "--state-dir", state, "--json"}
	if g.transport == byDNS || g.transport == "" {
		args = append(args, "--dns-zone", Zone)
	}
	if g.transport == byWebSocket {
		way := byWebSocket + "+" + s.at(godwitPort) // with no front: the gateway's own TLS is the outer one
		if g.nginx {
			way += "/" + frontName
		}
		args = append(args, "--way", way)
	}
	for _, e := range endpoints {
		args = append(args, "--endpoint", e)
	}
	said, err := s.run(ctx, on, g.path, args...)
	if err != nil {
		return "", err
	}
	var out struct {
		Schema string `json:"schema"`
		Key    string `json:"key"`
	}
	if err := json.Unmarshal(said, &out); err != nil {
		return "", fmt.Errorf("godwit gateway init: %w", err)
	}
	if out.Schema != "godwit.gateway.init/1" || out.Key == "" {
		return "", fmt.Errorf("godwit gateway init: schema %q, key of %d bytes", out.Schema, len(out.Key))
	}
	return out.Key, nil
}

func (g *godwit) Client(ctx context.Context, s *Site) (*Process, error) {
	// Like most devices, so that two runs meet the same rules: one device in sixteen looks like Firefox.
	args := []string{"up", "--foreground", "--state-dir", filepath.Join(s.Dir, "client"), "--proxy", g.proxy(), "--browser", "chrome"}
	if g.links > 0 {
		args = append(args, "--links", strconv.Itoa(g.links))
	}
	if g.transport != "" {
		args = append(args, "--transport", g.transport)
	}
	var env []string
	if g.nginx {
		env = []string{"SSL_CERT_FILE=" + filepath.Join(s.Dir, frontCert)}
	}
	if g.tun {
		if args = append(args, "--tun"); g.names {
			args = append(args, "--names-first")
		}
		p, err := s.startPrivate(s.Client, "client", env, captured, g.path, append(args, g.key)...)
		if err != nil {
			return nil, err
		}
		return p, p.until(ctx, "take the host's network", func() bool { return s.captured(ctx) })
	}
	return s.start(s.Client, "client", env, g.path, append(args, g.key)...)
}

// captured reports whether what the client's host sends to the targets leaves from an address that is inside of a tunnel. It sends
// nothing.
func (s *Site) captured(ctx context.Context) bool {
	c, err := s.Client.DialContext(ctx, "udp", netip.AddrPortFrom(s.Targets.Addr(), godwitPort).String())
	if err != nil {
		return false
	}
	defer c.Close()
	return Tunnels.Contains(c.LocalAddr().(*net.UDPAddr).AddrPort().Addr())
}

// Website opens what the gateway made of itself, and another gateway that never runs for the certificate.
func (g *godwit) Website(ctx context.Context, s *Site, addr netip.Addr) (Face, error) {
	// To a prober two versions of Go's web server are two kinds of server.
	if info, err := buildinfo.ReadFile(g.path); err != nil {
		return Face{}, err
	} else if info.GoVersion != runtime.Version() {
		return Face{}, fmt.Errorf("godwit is built with %s and this program with %s: build both with one", info.GoVersion, runtime.Version())
	}
	log := slog.New(slog.DiscardHandler)
	dir, err := gatewaydir.Open(ctx, filepath.Join(s.Dir, "gateway"), log)
	if err != nil {
		return Face{}, err
	}
	pages, bare, err := dir.Face()
	if err := errors.Join(err, dir.Close()); err != nil {
		return Face{}, err
	}
	endpoints := slices.Clone(dir.Settings.Endpoints)
	for i, e := range endpoints {
		if e == s.at(godwitPort) {
			endpoints[i] = netip.AddrPortFrom(addr, godwitPort).String()
		}
	}
	other, _, err := gatewaydir.Init(ctx, filepath.Join(s.Dir, "website"), endpoints, log)
	if err != nil {
		return Face{}, err
	}
	certificates, err := other.Certificates(log)
	if err := errors.Join(err, other.Close()); err != nil {
		return Face{}, err
	}
	return Face{Pages: pages, Bare: bare, Certificate: certificates.GetCertificate}, nil
}
