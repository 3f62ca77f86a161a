package prober

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/net/proxy"

	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
)

// Real programs, as packaged by Debian, where they are installed. They run inside the sandbox: it has a loopback only.

// shadowsocks-libev 3.3 is silent to whatever is not right, and to replays. Its own client makes what is replayed.
func TestShadowsocksLibev(t *testing.T) {
	t.Parallel()
	netnstest.Need(t)
	server := program(t, "ss-server", "shadowsocks-libev")
	local := program(t, "ss-local", "shadowsocks-libev")
	control := plainSite(t)
	at, socks := freePort(t), freePort(t)
	rec := tap(t, at.String())
	common := []string{"-k", "a password", "-m", "chacha20-ietf-poly1305"}
	start(t, at, exec.Command(server, append(common, "-s", "127.0.0.1", "-p", fmt.Sprint(at.Port()))...))
	start(t, socks, exec.Command(local, append(common, "-s", "127.0.0.1", "-p", fmt.Sprint(rec.addr.Port()), "-b", "127.0.0.1",
		"-l", fmt.Sprint(socks.Port()))...))
	throughSOCKS(t, socks, control)
	probe(t, control, rec.suspect(t, at)).want(t, Unmasked, "probe-resistant server", false)
	probe(t, control, Suspect{Addr: socks}).want(t, Unmasked, "proxy", true) // were it to be seen from outside
}

// throughSOCKS speaks TLS with a site through a proxy.
func throughSOCKS(t *testing.T, socks, site netip.AddrPort) {
	t.Helper()
	d, err := proxy.SOCKS5("tcp", socks.String(), nil, proxy.Direct)
	ok(t, err)
	c, err := d.Dial("tcp", site.String())
	ok(t, err)
	defer c.Close()
	ok(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	inner := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	ok(t, inner.Handshake())
	_, err = io.WriteString(inner, getPage)
	ok(t, err)
	_, err = io.Copy(io.Discard, inner)
	ok(t, err)
}

// obfs4proxy since 0.0.11 waits and says nothing, however much it is sent. It runs without Tor, whose place at the other
// end nobody takes before a handshake is good.
func TestObfs4proxy(t *testing.T) {
	t.Parallel()
	netnstest.Need(t)
	path := program(t, "obfs4proxy", "obfs4proxy")
	at := freePort(t)
	cmd := exec.Command(path)
	stdin, err := cmd.StdinPipe()
	ok(t, err)
	defer stdin.Close()
	cmd.Env = []string{"TOR_PT_MANAGED_TRANSPORT_VER=1", "TOR_PT_STATE_LOCATION=" + t.TempDir(),
		"TOR_PT_SERVER_TRANSPORTS=obfs4", "TOR_PT_SERVER_BINDADDR=obfs4-" + at.String(), "TOR_PT_ORPORT=127.0.0.1:9"}
	start(t, at, cmd)
	probe(t, plainSite(t), Suspect{Addr: at, Client: [][]byte{shadowsocksPayload()}}).
		want(t, Unmasked, "probe-resistant server", false)
}

// OpenVPN over TCP and UDP, without tls-auth and with it.
func TestOpenVPN(t *testing.T) {
	t.Parallel()
	netnstest.Need(t)
	path := program(t, "openvpn", "openvpn")
	if tun, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err != nil { // a server insists on one; it is the sandbox's
		t.Skipf("OpenVPN needs /dev/net/tun: %v", err)
	} else {
		tun.Close()
	}
	control := plainSite(t)
	dir := t.TempDir()
	cert := selfSigned(t)
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	ok(t, err)
	certFile, keyFile, authFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "auth.key")
	ok(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), 0o600))
	ok(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))
	if out, err := exec.Command(path, "--genkey", "secret", authFile).CombinedOutput(); err != nil {
		t.Fatalf("openvpn --genkey: %v: %s", err, out)
	}
	run := func(t *testing.T, proto string, more ...string) Suspect {
		at := freePort(t)
		args := append([]string{"--dev", "tun", "--ifconfig-noexec", "--route-noexec", "--proto", proto, "--local", "127.0.0.1", "--lport", fmt.Sprint(at.Port()),
			"--mode", "server", "--tls-server", "--dh", "none", "--ca", certFile, "--cert", certFile, "--key", keyFile,
			"--verb", "1"}, more...)
		cmd := exec.Command(path, args...)
		if proto == "udp" {
			start(t, netip.AddrPort{}, cmd)
			awaitUDP(t, at)
			return Suspect{Network: "udp", Addr: at}
		}
		start(t, at, cmd)
		return Suspect{Network: "tcp", Addr: at}
	}
	t.Run("TCP", func(t *testing.T) {
		t.Parallel()
		probe(t, control, run(t, "tcp-server")).want(t, Unmasked, "openvpn", true)
	})
	t.Run("TCP with tls-auth", func(t *testing.T) {
		t.Parallel()
		probe(t, control, run(t, "tcp-server", "--tls-auth", authFile, "0")).want(t, Unmasked, "openvpn", false)
	})
	t.Run("UDP", func(t *testing.T) {
		t.Parallel()
		probe(t, control, run(t, "udp")).want(t, Unmasked, "openvpn", true)
	})
	t.Run("UDP with tls-auth", func(t *testing.T) {
		t.Parallel()
		probe(t, control, run(t, "udp", "--tls-auth", authFile, "0")).want(t, Undecided, "", false)
	})
}

// awaitUDP waits until somebody has the port.
func awaitUDP(t *testing.T, at netip.AddrPort) {
	t.Helper()
	for began := time.Now(); time.Since(began) < 20*time.Second; time.Sleep(50 * time.Millisecond) {
		c, err := net.ListenPacket("udp", at.String())
		if err != nil {
			return
		}
		c.Close()
	}
	t.Fatalf("nobody listens at %s by UDP", at)
}

// A Tor relay of a network of its own, whose only authority does not exist.
func TestTor(t *testing.T) {
	t.Parallel()
	netnstest.Need(t)
	path := program(t, "tor", "tor")
	dir := t.TempDir()
	at := freePort(t)
	config := filepath.Join(dir, "torrc")
	ok(t, os.WriteFile(config, fmt.Appendf(nil, `DataDirectory %s/data
ORPort %s
Address 127.0.0.1
AssumeReachable 1
PublishServerDescriptor 0
ExitRelay 0
SocksPort 0
TestingTorNetwork 1
UseDefaultFallbackDirs 0
DirAuthority nobody orport=9 v3ident=0000000000000000000000000000000000000001 127.0.0.1:9 0000000000000000000000000000000000000002
Nickname probed
Log notice stdout
`, dir, at), 0o600))
	start(t, at, exec.Command(path, "-f", config, "--defaults-torrc", "/dev/null"))
	probeFor(t, 4*patience, plainSite(t), Suspect{Addr: at}).want(t, Unmasked, "tor", true)
}

// An SSH server is none of a proxy's kind: it is another server, and what its banner says is in the table.
func TestSSH(t *testing.T) {
	t.Parallel()
	netnstest.Need(t)
	path := program(t, "sshd", "openssh-server")
	keygen := program(t, "ssh-keygen", "openssh-client")
	dir := t.TempDir()
	host := filepath.Join(dir, "host")
	if out, err := exec.Command(keygen, "-q", "-t", "ed25519", "-N", "", "-f", host).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Skipf("sshd started as root, be it of a sandbox, wants its directory: %v", err)
	}
	at := freePort(t)
	start(t, at, exec.Command(path, "-D", "-e", "-f", "/dev/null", "-h", host, "-o", "ListenAddress="+at.String(),
		"-o", "PidFile=none", "-o", "MaxStartups=200"))
	r := probe(t, plainSite(t), Suspect{Addr: at})
	r.want(t, Undecided, "", false)
	var b bytes.Buffer
	ok(t, r.WriteText(&b))
	if !bytes.Contains(b.Bytes(), []byte(`"SSH-2.0-`)) {
		t.Error("no banner is in the table")
	}
}
