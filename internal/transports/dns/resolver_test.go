package dns

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/dnsclient"
	"github.com/godwit-vpn/godwit/internal/dnsmessage/dnstest"
)

// Through unbound's DNS over TLS and over HTTPS.
func TestEncrypted(t *testing.T) {
	dir := t.TempDir()
	cert, key := dnstest.Certificate(t)
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	pkcs8, _ := x509.MarshalPKCS8PrivateKey(key)
	for name, block := range map[string]*pem.Block{"cert": {Type: "CERTIFICATE", Bytes: cert.Raw}, "key": {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range []string{"tls", "https"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t)
			udp, tcp := dnstest.Ports(t)
			port := udp.LocalAddr().(*net.UDPAddr).Port
			udp.Close()
			tcp.Close()
			unbound(t, g.addr, fmt.Sprintf("\tinterface: 127.0.0.1@%d\n\t%s-port: %d\n\ttls-service-key: %s\n\ttls-service-pem: %s",
				port, kind, port, filepath.Join(dir, "key"), filepath.Join(dir, "cert")))
			d := &Dialer{Resolvers: []dnsclient.Resolver{resolver(t, fmt.Sprintf("%s://127.0.0.1:%d", kind, port))}, Rate: 2000}
			if _, err := d.Dial(t.Context(), g.endpoint()); err == nil {
				t.Error("a resolver whose certificate nobody signed was asked")
			}
			d.Roots = roots
			start := time.Now()
			client, server := connect(t, g, d)
			t.Logf("dialled after %v, %d queries", time.Since(start), d.Queries())
			echo(t, client, server, 20_000)
			t.Logf("20000 bytes there and back after %v, %d queries", time.Since(start), d.Queries())
		})
	}
}

// A resolver that says nothing is passed over for the next one.
func TestSecondResolver(t *testing.T) {
	g := newGateway(t)
	mute, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	d := &Dialer{Rate: 2000,
		Resolvers: []dnsclient.Resolver{resolver(t, mute.LocalAddr().String()), resolver(t, "127.0.0.1:1"), resolver(t, g.addr)}}
	client, server := connect(t, g, d)
	echo(t, client, server, 1000)
}

// What worked the last time is tried first, and if it works no more, all is tried.
func TestRemembers(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	d := g.dialer(t, "")
	client, _ := connect(t, g, d)
	client.Close()
	mute, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	d.mu.Lock()
	d.known[testZone] = known{resolver(t, mute.LocalAddr().String()), ways[0]}
	d.mu.Unlock()
	connect(t, g, d)
	if k := d.known[testZone]; k.resolver != d.Resolvers[0] {
		t.Errorf("it remembers %v", k.resolver)
	}
	d.Forget()
	connect(t, g, d)
}
