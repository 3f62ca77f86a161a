package peer

import (
	"context"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
)

// openvpn is OpenVPN in TLS mode at both ends, as its manual's smallest example has it: certificates known by their
// fingerprints, no tls-auth and no tls-crypt, so that opcodes and answers to probes are the plain protocol's.
type openvpn struct {
	network                       string
	gatewayPrint, clientPrint     string
	gatewayAddress, clientAddress netip.Prefix
}

func openvpnEntry(name, network string) Entry {
	return Entry{
		Name: name,
		Prepare: func(ctx context.Context, _ *Tools) (Info, error) {
			path, err := debian("openvpn", "openvpn")
			if err != nil {
				return Info{}, err
			}
			// It prints its version and then ends with 1.
			version, _, _ := strings.Cut(firstLine(ctx, path, "--version"), " [")
			return Info{Version: version, Settings: network + ", TLS mode, peer fingerprints, no tls-auth, AES-256-GCM"}, nil
		},
		Check: needTUN,
		New: func(*Tools) Peer {
			return &openvpn{network: network, gatewayAddress: netip.MustParsePrefix("198.18.2.1/24"),
				clientAddress: netip.MustParsePrefix("198.18.2.2/24")}
		},
	}
}

const openvpnPort = 1194

func (o *openvpn) Proxy() string { return "" }

func (o *openvpn) Gateway(ctx context.Context, s *Site) (*Process, error) {
	var err error
	if o.gatewayPrint, err = s.identity("gateway"); err != nil {
		return nil, err
	}
	if o.clientPrint, err = s.identity("client"); err != nil {
		return nil, err
	}
	if err := s.makeTUN(s.Gateway, "ovpng0", o.gatewayAddress); err != nil {
		return nil, err
	}
	if err := s.forward(ctx); err != nil {
		return nil, err
	}
	args := []string{
		"--server", o.gatewayAddress.Masked().Addr().String(), "255.255.255.0", "--topology", "subnet", "--dh", "none",
		"--local", s.GatewayAddr.String(), "--port", strconv.Itoa(openvpnPort), "--keepalive", "10", "60",
	}
	p, err := o.run(s, "gateway", "ovpng0", "server", o.clientPrint, args)
	if err != nil {
		return nil, err
	}
	return p, p.listens(ctx, s.Gateway, o.network, openvpnPort)
}

func (o *openvpn) Client(_ context.Context, s *Site) (*Process, error) {
	if err := s.makeTUN(s.Client, "ovpnc0", o.clientAddress); err != nil {
		return nil, err
	}
	if err := s.into("ovpnc0", o.clientAddress.Addr()); err != nil {
		return nil, err
	}
	return o.run(s, "client", "ovpnc0", "client", o.gatewayPrint, []string{
		"--client", "--remote", s.GatewayAddr.String(), strconv.Itoa(openvpnPort), "--nobind",
		"--connect-retry", "1", "10", "--connect-timeout", "10",
	})
}

// run starts one end. The interface and its routes are made already: OpenVPN is to leave them alone.
func (o *openvpn) run(s *Site, role, dev, side, other string, args []string) (*Process, error) {
	path, err := debian("openvpn", "openvpn")
	if err != nil {
		return nil, err
	}
	proto, h := o.network, s.Client
	if s.GatewayAddr.Is6() {
		proto += "6"
	}
	if o.network == "tcp" {
		proto += "-" + side
	}
	if side == "server" {
		h = s.Gateway
	}
	return s.start(h, role, nil, path, append([]string{
		"--dev", dev, "--dev-type", "tun", "--ifconfig-noexec", "--route-noexec", "--persist-tun", "--disable-dco",
		"--proto", proto, "--cert", filepath.Join(s.Dir, role+".crt"), "--key", filepath.Join(s.Dir, role+".key"),
		"--peer-fingerprint", other, "--verb", "3",
	}, args...)...)
}

// identity writes a certificate and key for one end and returns its fingerprint.
func (s *Site) identity(role string) (fingerprint string, err error) {
	cert, key, err := SelfSigned(role + ".example")
	if err != nil {
		return "", err
	}
	if _, err := s.write(role+".crt", cert); err != nil {
		return "", err
	}
	if _, err := s.write(role+".key", key); err != nil {
		return "", err
	}
	block, _ := pem.Decode(cert)
	sum := sha256.Sum256(block.Bytes)
	hex := make([]string, len(sum))
	for i, b := range sum {
		hex[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(hex, ":"), nil
}
