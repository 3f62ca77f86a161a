// Package dnstest is for tests that ask resolvers: a name server with the test's own answers, Debian's unbound, and a
// certificate for either.
package dnstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Ports returns UDP's and TCP's port of the same number, on loopback.
func Ports(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 {
		udp, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if tcp, err := net.Listen("tcp", udp.LocalAddr().String()); err == nil {
			return udp, tcp
		}
		udp.Close()
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil, nil
}

// NameServer has h answer on UDP and TCP until the test ends, and returns the address.
func NameServer(t testing.TB, h dns.Handler) (addr string) {
	t.Helper()
	udp, tcp := Ports(t)
	Serve(t, &dns.Server{PacketConn: udp, Handler: h})
	Serve(t, &dns.Server{Listener: tcp, Handler: h})
	return udp.LocalAddr().String()
}

// Serve runs s, which has its socket, until the test ends.
func Serve(t testing.TB, s *dns.Server) {
	done, started := make(chan struct{}), make(chan struct{})
	s.NotifyStartedFunc = func() { close(started) }
	go func() { s.ActivateAndServe(); close(done) }()
	<-started
	t.Cleanup(func() { s.Shutdown(); <-done })
}

// Write answers m with a, cut to what m takes if it came by UDP.
func Write(w dns.ResponseWriter, m, a *dns.Msg) {
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		size := dns.MinMsgSize
		if o := m.IsEdns0(); o != nil {
			size = int(o.UDPSize())
		}
		a.Truncate(size)
	}
	w.WriteMsg(a)
}

// Unbound runs Debian's resolver on a port of loopback until the test ends, or skips the test where there is none. It
// knows no name but those of config, which goes on where its server clause is. Unbound returns the address, once a question
// about name is answered in whatever way.
func Unbound(t testing.TB, config, name string) (addr string) {
	t.Helper()
	path, err := exec.LookPath("unbound")
	if err != nil {
		if path = "/usr/sbin/unbound"; exec.Command(path, "-V").Run() != nil {
			t.Skip("unbound is not installed: apt-get install unbound")
		}
	}
	udp, tcp := Ports(t)
	at := udp.LocalAddr().(*net.UDPAddr)
	udp.Close()
	tcp.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "unbound.conf")
	text := fmt.Sprintf(`
remote-control:
	control-enable: no
server:
	interface: 127.0.0.1@%d
	port: %d
	do-ip6: no
	do-daemonize: no
	use-syslog: no
	logfile: ""
	verbosity: 0
	chroot: ""
	username: ""
	directory: "%s"
	pidfile: ""
	num-threads: 1
	module-config: "iterator"
	local-zone: "." refuse
%s
`, at.Port, at.Port, dir, config)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-d", "-c", file)
	cmd.Stderr = tail{t}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for range 100 {
		if _, err := dns.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeSOA), at.String()); err == nil {
			return at.String()
		}
		time.Sleep(30 * time.Millisecond)
	}
	t.Fatal("unbound does not answer")
	return ""
}

// tail logs what unbound says.
type tail struct{ t testing.TB }

func (w tail) Write(b []byte) (int, error) {
	w.t.Logf("unbound: %s", b)
	return len(b), nil
}

// Certificate makes a certificate for 127.0.0.1, signed by itself, and its key.
func Certificate(t testing.TB) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}
