package peer

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// obfs4 is obfs4proxy (or lyrebird, which it became) at both ends, each managed as Tor does it (pluggable transports 1.0),
// carrying SOCKS5 in place of Tor:
//
//	application ─SOCKS5─► shim ─SOCKS5 with arguments─► obfs4 client ═ obfs4 ═► obfs4 server ─► SOCKS5 server ─► target
//	                      (ours: tells the obfs4 client where to, then pipes)                  (ours)
type obfs4 struct{ arguments string }

var obfs4Entry = Entry{
	Name: "obfs4",
	Prepare: func(ctx context.Context, _ *Tools) (Info, error) {
		path, err := obfs4Program()
		if err != nil {
			return Info{}, err
		}
		return Info{Version: firstLine(ctx, path, "--version"), Settings: "iat-mode 0, SOCKS5 inside; SOCKS5 in"}, nil
	},
	Check: nothingToCheck,
	New:   func(*Tools) Peer { return &obfs4{} },
}

func obfs4Program() (path string, err error) {
	if path, err := debian("lyrebird", "obfs4proxy"); err == nil {
		return path, nil
	}
	return debian("obfs4proxy", "obfs4proxy")
}

const obfs4Port = 9443

var anyPort = netip.MustParseAddrPort("127.0.0.1:0")

func (o *obfs4) Proxy() string { return socksAddr }

func (o *obfs4) Gateway(ctx context.Context, s *Site) (*Process, error) {
	server, err := startRelay(s.Gateway, anyPort, acceptSOCKS(s.Gateway))
	if err != nil {
		return nil, err
	}
	p, said, err := o.managed(ctx, s, "gateway", regexp.MustCompile(`(?m)^SMETHOD obfs4 \S+ ARGS:(\S+)`),
		"TOR_PT_SERVER_TRANSPORTS=obfs4", "TOR_PT_SERVER_BINDADDR=obfs4-"+s.at(obfs4Port),
		"TOR_PT_ORPORT="+server.l.Addr().String())
	if p == nil {
		server.Close()
		return nil, err
	}
	p.parts = append(p.parts, server)
	// "cert=...,iat-mode=0" becomes "cert=...;iat-mode=0"; neither value has a character to be escaped.
	o.arguments = strings.ReplaceAll(said, ",", ";")
	return p, err
}

func (o *obfs4) Client(ctx context.Context, s *Site) (*Process, error) {
	p, said, err := o.managed(ctx, s, "client", regexp.MustCompile(`(?m)^CMETHOD obfs4 socks5 127\.0\.0\.1:(\d+)`),
		"TOR_PT_CLIENT_TRANSPORTS=obfs4")
	if err != nil {
		return p, err
	}
	port, err := strconv.ParseUint(said, 10, 16)
	if err != nil {
		return p, err
	}
	transport := netip.AddrPortFrom(anyPort.Addr(), uint16(port))
	gateway := netip.AddrPortFrom(s.GatewayAddr, obfs4Port)
	shim, err := startRelay(s.Client, netip.MustParseAddrPort(socksAddr), func(net.Conn) (net.Conn, error) {
		c, err := s.Client.Dial(transport, 5*time.Second)
		if err != nil {
			return nil, err
		}
		c.SetDeadline(time.Now().Add(30 * time.Second))
		if err := connectSOCKS(c, o.arguments, gateway); err != nil {
			c.Close()
			return nil, err
		}
		return c, c.SetDeadline(time.Time{})
	})
	if err != nil {
		return p, err
	}
	p.parts = append(p.parts, shim)
	return p, nil
}

// managed starts a pluggable transport and waits for the line that says that it is ready.
func (o *obfs4) managed(ctx context.Context, s *Site, role string, ready *regexp.Regexp, env ...string) (*Process, string, error) {
	path, err := obfs4Program()
	if err != nil {
		return nil, "", err
	}
	state := filepath.Join(s.Dir, role+".state")
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, "", err
	}
	h := s.Client
	if role == "gateway" {
		h = s.Gateway
	}
	p, err := s.start(h, role, append(env, "TOR_PT_MANAGED_TRANSPORT_VER=1", "TOR_PT_STATE_LOCATION="+state), path)
	if err != nil {
		return nil, "", err
	}
	var said string
	err = p.until(ctx, "start", func() bool {
		m := ready.FindSubmatch(p.said(1 << 16))
		if m != nil {
			said = string(m[1])
		}
		return m != nil
	})
	if err != nil {
		err = fmt.Errorf("obfs4: %w", err)
	}
	return p, said, err
}
