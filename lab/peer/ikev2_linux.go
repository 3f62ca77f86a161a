package peer

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

// ikev2 is strongSwan at both ends, with its own ESP over a TUN interface (kernel-libipsec): not every kernel has ESP. It
// always wraps ESP into UDP, port 4500. Each charon takes itself to be the only one: it gets a /run of its own.
type ikev2 struct{ secret string }

const (
	charon     = "/usr/lib/ipsec/charon"
	libipsec   = "/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so"
	ikev2Needs = "strongswan-charon strongswan-swanctl libcharon-extra-plugins libstrongswan-standard-plugins"
)

var ikev2Entry = Entry{
	Name: "ikev2",
	Prepare: func(ctx context.Context, _ *Tools) (Info, error) {
		for _, file := range []string{charon, libipsec} {
			if _, err := os.Stat(file); err != nil {
				return Info{}, fmt.Errorf("needs %s: apt-get install %s", filepath.Base(file), ikev2Needs)
			}
		}
		if _, err := debian("swanctl", ikev2Needs); err != nil {
			return Info{}, err
		}
		return Info{
			Version:  firstLine(ctx, charon, "--version"),
			Settings: "IKEv2 with a shared secret, AES-256, X25519, virtual address, kernel-libipsec (ESP in UDP)",
		}, nil
	},
	Check: needTUN,
	New:   func(*Tools) Peer { return &ikev2{secret: randomHex(32)} },
}

const ikePort, natPort = 500, 4500

var ikev2Client = netip.MustParseAddr("198.18.3.2")

func (k *ikev2) Proxy() string { return "" }

func (k *ikev2) Gateway(ctx context.Context, s *Site) (*Process, error) {
	if err := s.forward(ctx); err != nil {
		return nil, err
	}
	// kernel-libipsec wants to have an address among those that the tunnel leads to: the last of them is nobody's.
	if err := s.Gateway.AddAddr("lo", netip.PrefixFrom(last(s.Targets), s.Targets.Addr().BitLen()), s.CC); err != nil {
		return nil, err
	}
	p, err := k.start(ctx, s, "gateway", fmt.Sprintf(`
connections {
	lab {
		version = 2
		proposals = aes256-sha256-x25519
		local_addrs = %s
		pools = clients
		local {
			auth = psk
			id = gateway.example
		}
		remote {
			auth = psk
			id = client.example
		}
		children {
			lab {
				local_ts = %s
				esp_proposals = aes256-sha256
			}
		}
	}
}
pools {
	clients {
		addrs = %s/32
	}
}
`, s.GatewayAddr, s.Targets, ikev2Client))
	if err != nil {
		return p, err
	}
	return p, p.listens(ctx, s.Gateway, "udp", natPort)
}

// last is the address before a prefix's end, where IPv4 has its broadcasts.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a.Prev()
}

func (k *ikev2) Client(ctx context.Context, s *Site) (*Process, error) {
	return k.start(ctx, s, "client", fmt.Sprintf(`
connections {
	lab {
		version = 2
		proposals = aes256-sha256-x25519
		remote_addrs = %s
		vips = 0.0.0.0
		keyingtries = 0
		local {
			auth = psk
			id = client.example
		}
		remote {
			auth = psk
			id = gateway.example
		}
		children {
			lab {
				remote_ts = %s
				esp_proposals = aes256-sha256
				start_action = start
			}
		}
	}
}
`, s.GatewayAddr, s.Targets))
}

func (k *ikev2) start(ctx context.Context, s *Site, role, connections string) (*Process, error) {
	file, err := s.write(role+".swanctl", fmt.Appendf(nil, `%s
secrets {
	ike {
		id-1 = gateway.example
		id-2 = client.example
		secret = 0x%s
	}
}
`, connections, k.secret))
	if err != nil {
		return nil, err
	}
	if _, err := s.write(filepath.Join(role+".run", "strongswan.conf"), fmt.Appendf(nil, `
charon {
	load_modular = no
	load = random nonce openssl pem pubkey x509 kdf hmac sha2 aes kernel-libipsec kernel-netlink socket-default vici
	port = %d
	port_nat_t = %d
	syslog {
		daemon {
			default = -1
		}
		auth {
			default = -1
		}
	}
	filelog {
		stderr {
			default = 1
		}
	}
	plugins {
		vici {
			socket = unix:///run/vici
		}
	}
}
`, ikePort, natPort)); err != nil {
		return nil, err
	}
	h := s.Client
	if role == "gateway" {
		h = s.Gateway
	}
	daemon, err := s.unconfined(charon, role)
	if err != nil {
		return nil, err
	}
	p, err := s.startPrivate(h, role, []string{"STRONGSWAN_CONF=/run/strongswan.conf"}, privateRun, daemon)
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(s.private(role), "vici")
	if err := p.until(ctx, "control socket", func() bool {
		_, err := os.Stat(socket)
		return err == nil
	}); err != nil {
		return p, err
	}
	if role == "client" {
		// Until the tunnel is up, with a better route of strongSwan's, its interface swallows what is meant for it.
		if err := s.into("ipsec0", netip.Addr{}); err != nil {
			return p, err
		}
	}
	path, err := debian("swanctl", ikev2Needs)
	if err != nil {
		return p, err
	}
	if _, err = s.unconfined(path, role); err != nil {
		return p, err
	}
	_, err = s.run(ctx, h, filepath.Join(s.private(role), "swanctl"), "--load-all", "--file", file, "--uri", "unix://"+socket)
	return p, err
}

// unconfined copies a program into a role's /run and says where it is found from there: where AppArmor is on, it has the
// packaged ones read nothing but the machine's own configuration.
func (s *Site) unconfined(program, role string) (path string, err error) {
	b, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	name := filepath.Base(program)
	return filepath.Join("/run", name), os.WriteFile(filepath.Join(s.private(role), name), b, 0o700)
}
