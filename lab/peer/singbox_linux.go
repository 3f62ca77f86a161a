package peer

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/godwit-vpn/godwit/lab/netns"
)

// singbox is sing-box at both ends with one of its protocols, a mixed (SOCKS5) inbound at the client.
type singbox struct {
	path  string
	proto protocol
	conf  singboxConfig
	tun   bool // of the targets, instead of the inbound
}

// protocol makes the two ends' configuration.
type protocol struct {
	network, settings string
	port              int
	configure         func(s *Site) (singboxConfig, error)
}

// singboxConfig is the gateway's inbound and the client's outbound, and what stands behind each, if anything does.
type singboxConfig struct {
	inbound, outbound             object
	behindInbound, behindOutbound object
}

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
		Check: nothingToCheck,
		New:   func(t *Tools) Peer { return &singbox{path: t.path(singboxProgram), proto: p} },
	}
}

var reality = protocol{
	network:  "tcp",
	port:     443,
	settings: "VLESS, REALITY, flow xtls-rprx-vision, uTLS chrome",
	configure: func(s *Site) (singboxConfig, error) {
		key, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			return singboxConfig{}, err
		}
		short, user := randomHex(8), randomUUID()
		return singboxConfig{
			inbound: object{
				"type":  "vless",
				"users": []object{{"uuid": user, "flow": "xtls-rprx-vision"}},
				"tls": object{"enabled": true, "server_name": s.CoverName, "reality": object{
					"enabled":     true,
					"handshake":   s.cover(),
					"private_key": base64.RawURLEncoding.EncodeToString(key.Bytes()),
					"short_id":    []string{short},
				}},
			},
			outbound: object{
				"type": "vless", "uuid": user, "flow": "xtls-rprx-vision",
				"tls": object{
					"enabled": true, "server_name": s.CoverName,
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
	port:     443,
	settings: "Trojan, TLS 1.3, uTLS chrome, no multiplex",
	configure: func(s *Site) (singboxConfig, error) {
		password := randomHex(16)
		return overTLS(s, "chrome", object{"type": "trojan", "users": []object{{"password": password}}},
			object{"type": "trojan", "password": password})
	},
}

var hysteria2 = protocol{
	network:  "udp",
	port:     443,
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
					"enabled": true, "server_name": s.CoverName, "certificate_path": cert, "alpn": []string{"h3"},
				},
			},
		}, nil
	},
}

var vmess = protocol{
	network:  "tcp",
	port:     10086,
	settings: "VMess, AEAD header, security auto, plain TCP",
	configure: func(*Site) (singboxConfig, error) {
		user := randomUUID()
		return singboxConfig{
			inbound:  object{"type": "vmess", "users": []object{{"uuid": user, "alterId": 0}}},
			outbound: object{"type": "vmess", "uuid": user, "security": "auto"},
		}, nil
	},
}

// shadowsocksKey is the method of 2022 and a key for it.
func shadowsocksKey() object {
	b := make([]byte, 16)
	rand.Read(b)
	return object{"type": "shadowsocks", "method": "2022-blake3-aes-128-gcm", "password": base64.StdEncoding.EncodeToString(b)}
}

var shadowsocks2022 = protocol{
	network:  "tcp",
	port:     shadowsocksPort,
	settings: "Shadowsocks 2022, 2022-blake3-aes-128-gcm",
	configure: func(*Site) (singboxConfig, error) {
		key := shadowsocksKey()
		return singboxConfig{inbound: key, outbound: maps.Clone(key)}, nil
	},
}

var shadowtls = protocol{
	network:  "tcp",
	port:     443,
	settings: "ShadowTLS 3, uTLS chrome, Shadowsocks 2022 inside",
	configure: func(s *Site) (singboxConfig, error) {
		password, key := randomHex(16), shadowsocksKey()
		behindIn, outbound := maps.Clone(key), maps.Clone(key)
		behindIn["tag"], behindIn["listen"] = "inner", "127.0.0.1"
		outbound["detour"] = "outer"
		return singboxConfig{
			inbound: object{
				"type": "shadowtls", "version": 3, "strict_mode": true, "detour": "inner",
				"users": []object{{"name": "lab", "password": password}}, "handshake": s.cover(),
			},
			behindInbound: behindIn,
			outbound:      outbound,
			behindOutbound: object{
				"type": "shadowtls", "tag": "outer", "version": 3, "password": password,
				"server": s.GatewayAddr.String(), "server_port": 443,
				"tls": object{
					"enabled": true, "server_name": s.CoverName, "insecure": true, // the cover's certificate is its own
					"utls": object{"enabled": true, "fingerprint": "chrome"},
				},
			},
		}, nil
	},
}

var anytls = protocol{
	network:  "tcp",
	port:     443,
	settings: "AnyTLS, its standard padding, uTLS chrome",
	configure: func(s *Site) (singboxConfig, error) {
		password := randomHex(16)
		return overTLS(s, "chrome", object{"type": "anytls", "users": []object{{"password": password}}},
			object{"type": "anytls", "password": password})
	},
}

var httpsProxy = protocol{
	network:  "tcp",
	port:     443,
	settings: "HTTP CONNECT over TLS 1.3, Go's ClientHello",
	configure: func(s *Site) (singboxConfig, error) {
		password := randomHex(16)
		return overTLS(s, "", object{"type": "http", "users": []object{{"username": "lab", "password": password}}},
			object{"type": "http", "username": "lab", "password": password})
	},
}

// overTLS puts TLS 1.3 around both ends; fingerprint is whose ClientHello uTLS imitates, or empty for Go's own.
func overTLS(s *Site, fingerprint string, inbound, outbound object) (singboxConfig, error) {
	cert, key, err := s.certificate()
	if err != nil {
		return singboxConfig{}, err
	}
	inbound["tls"] = object{"enabled": true, "certificate_path": cert, "key_path": key, "min_version": "1.3"}
	client := object{"enabled": true, "server_name": s.CoverName, "certificate_path": cert}
	if fingerprint != "" {
		client["utls"] = object{"enabled": true, "fingerprint": fingerprint}
	}
	outbound["tls"] = client
	return singboxConfig{inbound: inbound, outbound: outbound}, nil
}

// singboxTUN is a protocol behind sing-box's own TUN. Its TCP ends at the machine's own kernel (stack system; stack mixed, which
// takes another build, differs for UDP); names are asked through the tunnel.
func singboxTUN(name string, p protocol) Entry {
	e := singboxEntry(name, p)
	prepare := e.Prepare
	e.Prepare = func(ctx context.Context, t *Tools) (Info, error) {
		info, err := prepare(ctx, t)
		info.Settings = strings.Replace(info.Settings, "SOCKS5 in", "MTU 9000, TUN with offloads, stack system", 1)
		return info, err
	}
	e.Check = needTUN
	e.New = func(t *Tools) Peer { return &singbox{path: t.path(singboxProgram), proto: p, tun: true} }
	return e
}

const singboxDev = "sbc0"

var singboxClient = netip.MustParsePrefix("198.18.4.1/30")

func (b *singbox) Proxy() string {
	if b.tun {
		return ""
	}
	return socksAddr
}

func (b *singbox) Gateway(ctx context.Context, s *Site) (*Process, error) {
	var err error
	if b.conf, err = b.proto.configure(s); err != nil {
		return nil, err
	}
	b.conf.inbound["listen"], b.conf.inbound["listen_port"] = s.GatewayAddr.String(), b.proto.port
	b.conf.outbound["server"], b.conf.outbound["server_port"] = s.GatewayAddr.String(), b.proto.port
	p, err := b.run(s, s.Gateway, "gateway", b.conf.inbound, b.conf.behindInbound, object{"type": "direct"}, nil, nil)
	if err != nil {
		return nil, err
	}
	return p, p.listens(ctx, s.Gateway, b.proto.network, b.proto.port)
}

func (b *singbox) Client(ctx context.Context, s *Site) (*Process, error) {
	if b.tun {
		return b.clientTUN(ctx, s)
	}
	in := object{"type": "mixed", "listen": "127.0.0.1", "listen_port": socksPort}
	return b.run(s, s.Client, "client", in, nil, b.conf.outbound, b.conf.behindOutbound, nil)
}

// clientTUN has a TUN that the lab routes into, as its own routes would: auto_route takes the whole machine.
func (b *singbox) clientTUN(ctx context.Context, s *Site) (*Process, error) {
	b.conf.outbound["tag"] = "out"
	in := object{"type": "tun", "interface_name": singboxDev, "address": []string{singboxClient.String()}, "stack": "system",
		"auto_route": false}
	p, err := b.run(s, s.Client, "client", in, nil, b.conf.outbound, b.conf.behindOutbound, object{
		"dns": object{"servers": []object{
			{"type": "hosts", "tag": "hosts"},
			{"type": "udp", "tag": "remote", "server": s.Cover.Addr().String(), "detour": "out"},
		}, "final": "remote"},
		// By port: who sniffs for DNS waits 300 ms for more of what it does not know.
		"route": object{"default_domain_resolver": "hosts", "final": "out", "rules": []object{{"port": 53, "action": "hijack-dns"}}},
	})
	if err != nil {
		return nil, err
	}
	if err := p.until(ctx, "its interface", func() bool { return s.Client.IsUp(singboxDev) }); err != nil {
		return p, err
	}
	return p, s.into(singboxDev, singboxClient.Addr())
}

// run runs one end; more are settings that take the place of others.
func (b *singbox) run(s *Site, h *netns.Host, role string, in, behindIn, out, behindOut, more object) (*Process, error) {
	settings := object{
		"log": object{"level": "error"},
		// Its own resolver knows nothing of /etc/hosts unless told.
		"dns":       object{"servers": []object{{"type": "hosts", "tag": "hosts"}}},
		"route":     object{"default_domain_resolver": "hosts"},
		"inbounds":  some(in, behindIn),
		"outbounds": some(out, behindOut),
	}
	maps.Copy(settings, more)
	conf, err := json.MarshalIndent(settings, "", "  ")
	if err != nil {
		return nil, err
	}
	path, err := s.write(role+".json", conf)
	if err != nil {
		return nil, err
	}
	return s.start(h, role, nil, b.path, "run", "-c", path)
}

func some(objects ...object) []object {
	return slices.DeleteFunc(objects, func(o object) bool { return o == nil })
}

// cover is the website whose handshake is borrowed.
func (s *Site) cover() object {
	return object{"server": s.Cover.Addr().String(), "server_port": s.Cover.Port()}
}

// certificate writes a new one to files.
func (s *Site) certificate() (certPath, keyPath string, err error) {
	cert, key, err := SelfSigned(s.CoverName)
	if err != nil {
		return "", "", err
	}
	if certPath, err = s.write("cert.pem", cert); err != nil {
		return "", "", err
	}
	keyPath, err = s.write("key.pem", key)
	return certPath, keyPath, err
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
