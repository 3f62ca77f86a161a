package peer

import (
	"bufio"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/godwit-vpn/godwit/lab/netns"
)

// wireguard is wireguard-go at both ends, the client's routes pointing into its TUN.
type wireguard struct {
	path            string
	client, gateway *ecdh.PrivateKey
}

var wireguardProgram = program{
	name: "wireguard", path: "golang.zx2c4.com/wireguard", module: "golang.zx2c4.com/wireguard",
	version: "v0.0.0-20260522210424-ecfc5a8d5446",
}

var wireguardEntry = Entry{
	Name: "wireguard",
	Prepare: func(ctx context.Context, t *Tools) (Info, error) {
		v, err := t.install(ctx, wireguardProgram)
		return Info{Version: "wireguard-go " + v, Settings: "MTU 1420, TUN with offloads"}, err
	},
	Check: needTUN,
	New:   func(t *Tools) Peer { return &wireguard{path: t.path(wireguardProgram)} },
}

const wireguardPort = 51820

var (
	wireguardClient  = netip.MustParsePrefix("198.18.1.2/24")
	wireguardGateway = netip.MustParsePrefix("198.18.1.1/24")
)

func (w *wireguard) Proxy() string { return "" }

func (w *wireguard) Gateway(ctx context.Context, s *Site) (*Process, error) {
	var err error
	if w.client, err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
		return nil, err
	}
	if w.gateway, err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
		return nil, err
	}
	p, err := w.up(ctx, s, s.Gateway, "gateway", "wgg0", wireguardGateway,
		fmt.Sprintf("private_key=%x\nlisten_port=%d\npublic_key=%x\nallowed_ip=%s/32\n",
			w.gateway.Bytes(), wireguardPort, w.client.PublicKey().Bytes(), wireguardClient.Addr()))
	if err != nil {
		return p, err
	}
	return p, errors.Join(s.forward(ctx), p.listens(ctx, s.Gateway, "udp", wireguardPort))
}

func (w *wireguard) Client(ctx context.Context, s *Site) (*Process, error) {
	p, err := w.up(ctx, s, s.Client, "client", "wgc0", wireguardClient,
		fmt.Sprintf("private_key=%x\npublic_key=%x\nendpoint=%s\nallowed_ip=0.0.0.0/0\n",
			w.client.Bytes(), w.gateway.PublicKey().Bytes(), s.at(wireguardPort)))
	if err != nil {
		return p, err
	}
	return p, s.into("wgc0", wireguardClient.Addr())
}

// up starts wireguard-go, configures it through its socket (www.wireguard.com/xplatform) and brings the interface up.
func (w *wireguard) up(ctx context.Context, s *Site, h *netns.Host, role, dev string, addr netip.Prefix,
	config string) (*Process, error) {
	socket := filepath.Join(s.private(role), "wireguard", dev+".sock")
	p, err := s.startPrivate(h, role, []string{"LOG_LEVEL=error"}, privateRun, w.path, "-f", dev)
	if err != nil {
		return nil, err
	}
	var conn net.Conn
	err = p.until(ctx, "configuration socket", func() bool {
		var err error
		conn, err = net.Dial("unix", socket)
		return err == nil
	})
	if err != nil {
		return p, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := fmt.Fprintf(conn, "set=1\n%s\n", config); err != nil {
		return p, err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return p, fmt.Errorf("configure wireguard-go: %w", err)
	}
	if strings.TrimSpace(line) != "errno=0" {
		return p, fmt.Errorf("wireguard-go refused its configuration: %q", line)
	}
	if err := h.LinkUp(dev); err != nil {
		return p, err
	}
	return p, h.AddAddr(dev, addr, s.CC)
}
