package peer

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/godwit-vpn/godwit/bench/internal/load"
	"github.com/godwit-vpn/godwit/bench/topology"
	"github.com/godwit-vpn/godwit/lab/netns"
)

// singbox is sing-box at both ends with one of its protocols, a mixed (SOCKS5) inbound at the client.
type singbox struct {
	path  string
	proto protocol
	conf  singboxConfig
}

// protocol makes the two ends' configuration.
type protocol struct {
	network, settings string
	configure         func(s *Site) (singboxConfig, error)
}

// singboxConfig is the gateway's inbound and the client's outbound.
type singboxConfig struct{ inbound, outbound object }

type object map[string]any

var singboxProgram = program{
	name: "sing-box", path: "github.com/sagernet/sing-box/cmd/sing-box", module: "github.com/sagernet/sing-box",
	version: "v1.14.1", tags: "with_quic,with_utls",
}

func singboxEntry(name string, p protocol) Entry {
	return Entry{
		Name: name,
		Prepare: func(ctx context.Context, t *Tools) (Info, error) {
			v, err := t.install(ctx, singboxProgram)
			return Info{Version: "sing-box " + v, Settings: p.settings + "; SOCKS5 in"}, err
		},
		Check: func() error { return nil },
		New:   func(t *Tools) Peer { return &singbox{path: t.path(singboxProgram), proto: p} },
	}
}

const (
	singboxPort  = 443
	singboxProxy = 1080
	serverName   = "target.example"
)

var reality = protocol{
	network:  "tcp",
	settings: "VLESS, REALITY, flow xtls-rprx-vision, uTLS chrome",
	configure: func(*Site) (singboxConfig, error) {
		key, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			return singboxConfig{}, err
		}
		short, user := randomHex(8), randomUUID()
		return singboxConfig{
			inbound: object{
				"type":  "vless",
				"users": []object{{"uuid": user, "flow": "xtls-rprx-vision"}},
				"tls": object{"enabled": true, "server_name": serverName, "reality": object{
					"enabled":     true,
					"handshake":   object{"server": topology.TargetAddr.String(), "server_port": load.PortHTTPS},
					"private_key": base64.RawURLEncoding.EncodeToString(key.Bytes()),
					"short_id":    []string{short},
				}},
			},
			outbound: object{
				"type": "vless", "uuid": user, "flow": "xtls-rprx-vision",
				"tls": object{
					"enabled": true, "server_name": serverName,
					"utls": object{"enabled": true, "fingerprint": "chrome"},
					"reality": object{
						"enabled":    true,
						"public_key": base64.RawURLEncoding.EncodeToString(key.PublicKey().Bytes()),
						"short_id":   short,
					},
				},
			},
		}, nil
	},
}

var trojan = protocol{
	network:  "tcp",
	settings: "Trojan, TLS 1.3, uTLS chrome, no multiplex",
	configure: func(s *Site) (singboxConfig, error) {
		cert, key, err := s.certificate()
		if err != nil {
			return singboxConfig{}, err
		}
		password := randomHex(16)
		return singboxConfig{
			inbound: object{
				"type":  "trojan",
				"users": []object{{"password": password}},
				"tls":   object{"enabled": true, "certificate_path": cert, "key_path": key, "min_version": "1.3"},
			},
			outbound: object{
				"type": "trojan", "password": password,
				"tls": object{
					"enabled": true, "server_name": serverName, "certificate_path": cert,
					"utls": object{"enabled": true, "fingerprint": "chrome"},
				},
			},
		}, nil
	},
}

var hysteria2 = protocol{
	network:  "udp",
	settings: "Hysteria2, no bandwidth given (its own BBR)",
	configure: func(s *Site) (singboxConfig, error) {
		cert, key, err := s.certificate()
		if err != nil {
			return singboxConfig{}, err
		}
		password := randomHex(16)
		return singboxConfig{
			inbound: object{
				"type":  "hysteria2",
				"users": []object{{"password": password}},
				"tls": object{
					"enabled": true, "certificate_path": cert, "key_path": key, "alpn": []string{"h3"},
				},
			},
			outbound: object{
				"type": "hysteria2", "password": password,
				"tls": object{
					"enabled": true, "server_name": serverName, "certificate_path": cert, "alpn": []string{"h3"},
				},
			},
		}, nil
	},
}

func (b *singbox) Proxy() string { return fmt.Sprintf("127.0.0.1:%d", singboxProxy) }

func (b *singbox) Gateway(ctx context.Context, s *Site) (*Process, error) {
	var err error
	if b.conf, err = b.proto.configure(s); err != nil {
		return nil, err
	}
	b.conf.inbound["listen"], b.conf.inbound["listen_port"] = topology.GatewayAddr.String(), singboxPort
	b.conf.outbound["server"], b.conf.outbound["server_port"] = topology.GatewayAddr.String(), singboxPort
	p, err := b.run(s, s.Net.Gateway, "gateway", b.conf.inbound, object{"type": "direct"})
	if err != nil {
		return nil, err
	}
	return p, p.listens(ctx, s.Net.Gateway, b.proto.network, singboxPort)
}

func (b *singbox) Client(_ context.Context, s *Site) (*Process, error) {
	in := object{"type": "mixed", "listen": "127.0.0.1", "listen_port": singboxProxy}
	return b.run(s, s.Net.Client, "client", in, b.conf.outbound)
}

func (b *singbox) run(s *Site, h *netns.Host, role string, in, out object) (*Process, error) {
	conf, err := json.MarshalIndent(object{
		"log": object{"level": "error"},
		// Its own resolver knows nothing of /etc/hosts unless told.
		"dns":       object{"servers": []object{{"type": "hosts", "tag": "hosts"}}},
		"route":     object{"default_domain_resolver": "hosts"},
		"inbounds":  []object{in},
		"outbounds": []object{out},
	}, "", "  ")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(s.Dir, role+".json")
	if err := os.WriteFile(path, conf, 0o600); err != nil {
		return nil, err
	}
	return s.start(h, role, nil, b.path, "run", "-c", path)
}

// certificate writes a new one to files.
func (s *Site) certificate() (certPath, keyPath string, err error) {
	cert, key, err := load.SelfSigned(serverName)
	if err != nil {
		return "", "", err
	}
	certPath, keyPath = filepath.Join(s.Dir, "cert.pem"), filepath.Join(s.Dir, "key.pem")
	if err := os.WriteFile(certPath, cert, 0o600); err != nil {
		return "", "", err
	}
	return certPath, keyPath, os.WriteFile(keyPath, key, 0o600)
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}

func randomUUID() string {
	b := make([]byte, 16)
	rand.Read(b)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
